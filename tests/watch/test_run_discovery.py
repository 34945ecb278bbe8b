"""The index of runs, made again from what Slurm knows of the user's jobs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import UnreachableError
from slurm_tf.run import job_comment
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import work_folders
from slurm_tf.submit import run_index
from slurm_tf.watch import find_run, run_discovery
from tests.conftest import write_manifest
from tests.watch.conftest import Slurm

Jobs = Callable[..., None]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Say which jobs Slurm knows: the working directory and the comment of each."""
    run_index.path().unlink(missing_ok=True)

    def know(*found: tuple[str, str]) -> None:
        monkeypatch.setattr(work_folders, "of_own_jobs", lambda: set(found))

    return know


def make_run(folder: Path) -> str:
    folder.mkdir(parents=True, mode=0o700)
    write_manifest(RunFolder(str(folder)), "a")
    return str(folder)


def test_runs_are_found_by_the_working_directories_of_their_jobs(jobs: Jobs, tmp_path: Path) -> None:
    copied, original, configured = (
        make_run(tmp_path / name) for name in ("one/deep/a-1", "two/runs/a-1", "configured/b-1")
    )
    jobs(
        (f"{copied}/submission-2/code/two", ""),
        (str(tmp_path / "two"), job_comment.comment("a-1", "a")),
        (str(tmp_path / "three"), job_comment.comment("b-1", "b")),
        # not of slurm-tf, and gone
        (str(tmp_path), "for Ann"),
        (f"{tmp_path}/gone/a-7/submission-1/code/x", job_comment.comment("a-7", "a")),
        ("", ""),
    )
    run_discovery.make_index(str(tmp_path / "configured"))
    assert set(run_index.read() or ()) == {copied, original, configured}


def test_slurm_is_asked_once_and_again_where_it_did_not_answer(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: Slurm
) -> None:
    def down() -> set[tuple[str, str]]:
        raise UnreachableError("down")

    monkeypatch.setattr(work_folders, "of_own_jobs", down)
    run_discovery.make_index(str(tmp_path))
    assert run_index.read() is None
    run = make_run(tmp_path / "one" / "a-1")
    jobs((f"{run}/submission-1/code/x", ""))
    assert find_run.find("a-1", str(tmp_path / "runs"), slurm).run.path == run
    monkeypatch.setattr(work_folders, "of_own_jobs", down)
    run_discovery.make_index(str(tmp_path))
    assert run_index.read() == (run,)
