"""The verb results, as a person types it, for runs on this machine."""

import json
import sys
from pathlib import Path

import pytest

from slurm_tf.run import job_chain, status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.progress import ProgressWriter
from slurm_tf.run.status import AttemptState, RunStatus
from tests.cli.test_cli import slurm_tf
from tests.conftest import write_manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, loss in (("a-1", 0.5), ("a-2", 0.25)):
        folder = RunFolder(str(tmp_path / "runs" / name))
        Path(folder.path).mkdir(mode=0o700, parents=True)
        write_manifest(folder, "a")
        status.write(folder, RunStatus(name, "", 0, "here", 0.0, AttemptState.ENDED, 0, 0))
        writer = ProgressWriter(folder.progress, "a", lambda: None, print)
        writer.add(10, {"loss": loss})
    return tmp_path


def test_the_best_first_in_every_form(runs: Path) -> None:
    done = slurm_tf("results", "a-1", "a-2", "a-1", "--sort", "loss", cwd=runs)
    assert done.stdout.splitlines() == [
        "RUN  STATE      STEP  min loss  loss  TIME",
        "a-2  COMPLETED  10    0.25      0.25  -",
        "a-1  COMPLETED  10    0.5       0.5   -",
        "best: min loss 0.25 at step 10 of a-2",
    ]
    table = slurm_tf("results", "runs/a-1", "--csv", cwd=runs).stdout
    assert table.splitlines()[0] == "run,state,step,loss,min loss,seconds,cpu_hours,gpu_hours,gpu_busy"
    page = slurm_tf("results", "a-1", "a-2", "--html", "r.html", "--json", cwd=runs)
    assert [each["metrics"]["loss"]["best"] for each in json.loads(page.stdout)] == [0.5, 0.25]
    assert page.stderr == "slurm-tf: wrote r.html\n"
    assert "<polyline" in (runs / "r.html").read_text()


def test_where_slurm_does_not_answer_the_states_are_unknown_and_why_is_said(runs: Path) -> None:
    folder = RunFolder(str(runs / "runs" / "a-1"))
    Path(folder.submission(1).path).mkdir()
    write_manifest(folder, "a", number=1)
    job_chain.add(folder, "7", "", (), array=False, submission=1)
    done = slurm_tf("results", "a-1", cwd=runs, PATH=str(Path(sys.executable).parent))
    assert done.stdout.splitlines()[1].split()[:3] == ["a-1", "unknown", "10"]
    assert "slurm-tf: slurmctld does not answer: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a-1", "--sort", "acc"], "slurm-tf: found --sort acc; needed a metric or a param of these runs: loss\n"),
        (["a-3"], "slurm-tf: no run 'a-3' in "),
        (["a-1", "--csv", "--json"], "slurm-tf: found --csv and --json; needed one of them\n"),
        (["a-1", "--html", "/nowhere/r.html"], "slurm-tf: /nowhere/r.html: No such file or directory"),
        ([], "Missing argument 'RUN...'"),
    ],
)
def test_what_cannot_be_done(arguments: list[str], message: str, runs: Path) -> None:
    done = slurm_tf("results", *arguments, cwd=runs)
    assert done.returncode == 2
    assert message in done.stderr
