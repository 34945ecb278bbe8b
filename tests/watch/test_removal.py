"""What is removed of a run, what that takes, and what is never touched."""

import os
import shutil
from pathlib import Path

import pytest

from slurm_tf.errors import RunError, StorageError, UnreachableError
from slurm_tf.run import job_chain, status
from slurm_tf.run.status import AttemptState, RunStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import disk_usage, removal
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.removal import Part
from tests.watch.conftest import MakeRun, Slurm, record


@pytest.fixture
def sweep(make_run: MakeRun, tmp_path: Path) -> SelectedRun:
    """Return a run of two sweep points, with links that lead out of it."""
    selected = make_run("a-1", ("40", (0, 1), True))
    run = selected.run
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kept").write_bytes(b"x" * 100_000)
    Path(run.submission(1).code, "project").mkdir(parents=True)
    Path(run.submission(1).code, "project", "data").symlink_to(tmp_path / "data")
    Path(run.submission(1).code, "project", "train.py").write_text("pass")
    for point in (0, 1):
        step = Path(run.point(point).checkpoints, "step-0000000001")
        step.mkdir(parents=True)
        (step / "checkpoint.data").write_bytes(b"x" * 50_000)
        Path(run.point(point).checkpoints, "aside").symlink_to(tmp_path / "data")
    return selected


def names(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def test_disk_usage_follows_no_link_and_counts_a_file_once(sweep: SelectedRun, tmp_path: Path) -> None:
    whole = disk_usage.measure([sweep.run.path])
    assert 100_000 <= whole.size < 200_000
    assert whole.files == len(names(sweep.run.path)) + 1
    os.link(Path(sweep.run.point(0).checkpoints, "step-0000000001", "checkpoint.data"), Path(sweep.run.path, "same"))
    assert disk_usage.measure([sweep.run.path]).size == whole.size
    assert disk_usage.measure([str(tmp_path / "data" / "none")]).files == 0
    os.utime(sweep.run.manifest, (2e9, 2e9))
    assert disk_usage.measure([sweep.run.path]).changed == 2e9


def test_a_run_goes_with_all_that_is_its_own(sweep: SelectedRun, tmp_path: Path) -> None:
    removal.remove(sweep, Part.ALL)
    assert not os.path.lexists(sweep.run.path)
    assert os.listdir(tmp_path / "data") == ["kept"]


def test_checkpoints_go_and_the_run_stays(sweep: SelectedRun, tmp_path: Path) -> None:
    before = names(sweep.run.path)
    removal.remove(SelectedRun(sweep.run, 1), Part.CHECKPOINTS)
    assert {name for name in before - names(sweep.run.path) if not name.startswith("1/checkpoints/")} == set()
    assert os.listdir(sweep.run.point(1).checkpoints) == []
    removal.remove(sweep, Part.CHECKPOINTS)
    assert os.listdir(sweep.run.point(0).checkpoints) == []
    assert os.listdir(tmp_path / "data") == ["kept"]


def test_copies_of_the_code_go_and_the_run_stays(sweep: SelectedRun, tmp_path: Path) -> None:
    removal.remove(sweep, Part.CODE)
    assert names(sweep.run.submission(1).path) == {"manifest.json"}
    assert os.path.exists(sweep.run.manifest)
    assert os.listdir(tmp_path / "data") == ["kept"]


def test_what_is_not_the_runs_own_is_refused(sweep: SelectedRun, tmp_path: Path) -> None:
    for part in (Part.ALL, Part.CODE):
        with pytest.raises(RunError, match=r"a-1/1 is a sweep point.*; needed the run a-1, or --checkpoints"):
            removal.paths(SelectedRun(sweep.run, 1), part)
    Path(sweep.run.checkpoints).symlink_to(tmp_path / "data")
    with pytest.raises(RunError, match=f"checkpoints is a symbolic link to {tmp_path}/data"):
        removal.paths(sweep, Part.CHECKPOINTS)
    removal.remove(sweep, Part.ALL)
    assert os.listdir(tmp_path / "data") == ["kept"]


def test_what_an_error_leaves_is_still_a_run(sweep: SelectedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(shutil, "rmtree", fails)
    with pytest.raises(StorageError, match=r"cannot remove a-1: .*: Permission denied"):
        removal.remove(sweep, Part.ALL)
    assert os.path.exists(sweep.run.manifest)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.UNKNOWN])
def test_what_lives_is_refused(state: JobState, sweep: SelectedRun, slurm: Slurm) -> None:
    slurm.live = [record("40_0", JobState.COMPLETED), record("40_1", state)]
    if state.ended:
        removal.check_jobs(sweep.run, slurm)
    else:
        with pytest.raises(RunError, match=f"job 40_1 of run a-1 is {state.name}; needed a run that is over"):
            removal.check_jobs(sweep.run, slurm)


def test_a_job_that_follows_counts_and_one_that_slurm_forgot_does_not(sweep: SelectedRun, slurm: Slurm) -> None:
    slurm.past = [record("40_0", JobState.RUNNING)]
    removal.check_jobs(sweep.run, slurm)
    job_chain.add(sweep.run.point(1), "77", "", (1,), False, after="40_1", submission=1)
    slurm.live = [record("77", JobState.PENDING)]
    with pytest.raises(RunError, match="job 77 of run a-1 is PENDING"):
        removal.check_jobs(sweep.run, slurm)
    slurm.live = UnreachableError("down")
    with pytest.raises(UnreachableError):
        removal.check_jobs(sweep.run, slurm)


def test_of_another_cluster_only_the_run_tells(make_run: MakeRun, slurm: Slurm) -> None:
    run = make_run("a-1").run
    removal.check_jobs(run, slurm)
    assert slurm.asked == []
    job_chain.add(run, "12", "big", (), False, submission=1)
    with pytest.raises(RunError, match=r"job 12 of run a-1 is of cluster big, .*\nHINT: squeue -M big --jobs=12"):
        removal.check_jobs(run, slurm)
    ended = RunStatus("a-1", "12", 0, "node1", 0.0, AttemptState.ENDED, code=0)
    status.write(run, ended)
    removal.check_jobs(run, slurm)
