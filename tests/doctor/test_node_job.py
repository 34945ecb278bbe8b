"""The job that examines nodes: what it is, how it is followed, and what is left of it; without Slurm."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from slurm_tf.doctor import examination_job, node_job
from slurm_tf.doctor.examination_job import Examination
from slurm_tf.errors import SlurmError, StorageError
from slurm_tf.run import examination, json_file
from slurm_tf.run.examination import Clock, ExaminationReport, Ping, Pong
from slurm_tf.slurm import client
from slurm_tf.slurm.client import SbatchAnswer
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.submit import render
from tests.conftest import ROOT

PENDING = JobRecord("7", JobState.PENDING, "Priority", expected_start=datetime(2026, 11, 28, 12, 30))
RUNNING = JobRecord("7", JobState.RUNNING)
COMPLETED = JobRecord("7", JobState.COMPLETED, exit_code=0, nodes="node1")
REPORT = ExaminationReport("node1", (), (), (), {}, {}, "", "")
JOB = """
name = "a"
strategy = "ps"
command = ["python3.11", "train.py", "--rate={rate}"]
setup = "source ~/venv/bin/activate"
time = 600
account = "vision"
sweep.rate = [1, 2]
[env]
RATE = "{rate}"
KEEP = "x"
[sbatch]
dependency = "singleton"
nice = 10
[roles.chief]
[roles.ps]
cpus-per-task = 2
[roles.worker]
count = 4
gpus = "a100:8"
partition = "gpu"
"""


class Slurm:
    """A Slurm whose only job goes through `states`; the last one stays."""

    def __init__(self, *states: JobRecord | BaseException | None) -> None:
        self.states = list(states)
        self.cancelled: list[str] = []

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        assert ids == ["7"]
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, BaseException):
            raise state
        return (state,) if state else ()

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have sbatch accept jobs; return their folders."""
    folders = []

    def submit(
        script: str, options: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]
    ) -> SbatchAnswer:
        assert (list(options), list(arguments)) == ([], [])
        assert "PATH" in environ
        folders.append(Path(script).parent.parent)
        return SbatchAnswer("7", "", "")

    monkeypatch.setattr(client, "submit", submit)
    for name in ("_ASK_SECONDS", "_PAUSE_SECONDS"):
        monkeypatch.setattr(node_job, name, 0.0)
    monkeypatch.setattr(node_job, "_LOOK_SECONDS", 0.2)
    return folders


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examination:
    monkeypatch.setenv("SLURM_TF_RUNS", str(tmp_path / "runs"))
    return examination_job.load(None, os.environ, "generic", 2, {})


def examine(
    asked: Examination, *states: JobRecord | BaseException | None, timeout: float = 60.0
) -> tuple[node_job.Examined, Slurm, list[str]]:
    slurm, said = Slurm(*states), list[str]()
    return node_job.run(asked, slurm, timeout, said.append), slurm, said  # type: ignore[arg-type]


def test_a_job_that_waits_runs_and_reports(
    asked: Examination, submitted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = json_file.write

    def answer(path: str, value: object) -> None:
        """Be the batch host, which answers the login node and then writes its report."""
        write(path, value)
        if isinstance(value, Ping):
            now = time.time() + 100
            write(str(submitted[0] / examination.PONG), Pong(value.number, now, now))
            write(str(submitted[0] / examination.REPORT), REPORT)

    monkeypatch.setattr(json_file, "write", answer)
    found, slurm, said = examine(asked, PENDING, PENDING, *[RUNNING] * 6, COMPLETED)
    assert (found.report, found.record, found.unseen, found.output) == (REPORT, COMPLETED, (), ())
    assert found.clock is not None
    assert abs(found.clock.ahead - 100) <= found.clock.uncertainty + 1
    assert slurm.cancelled == []
    assert said == [
        "Submitted batch job 7",
        "job 7 is pending: jobs of higher priority come first; Slurm expects to start it at 12:30",
    ]
    assert os.listdir(asked.job.runs) == []


def test_what_the_job_finds(asked: Examination, submitted: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def look(*_: object) -> tuple[JobRecord, ...]:
        folder = submitted[0]
        seen.update({str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")})
        return (COMPLETED,)

    monkeypatch.setattr(Slurm, "jobs", look)
    found, _, _ = examine(asked, COMPLETED)
    assert found.report is None
    assert seen["settings.json"] == seen["node-login"] == seen["submission-1/launch.pyz"] == 0o600
    assert {"logs", "submission-1/script.sbatch"} <= set(seen)
    assert not submitted[0].exists()


@pytest.mark.parametrize(("last", "timeout"), [(KeyboardInterrupt(), 60.0), (SlurmError("no"), 60.0), (PENDING, 0.0)])
def test_a_job_that_nobody_waits_for_is_cancelled(
    last: JobRecord | BaseException, timeout: float, asked: Examination, submitted: list[Path]
) -> None:
    slurm = Slurm(PENDING, last)
    if isinstance(last, BaseException):
        with pytest.raises(type(last)):
            node_job.run(asked, slurm, timeout, lambda _: None)  # type: ignore[arg-type]
    else:
        assert node_job.run(asked, slurm, timeout, lambda _: None).waited  # type: ignore[arg-type]
    assert slurm.cancelled == ["7"]
    assert not submitted[0].exists()


def test_the_last_lines_of_a_job_that_failed(
    asked: Examination, submitted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> tuple[JobRecord, ...]:
        (submitted[0] / "logs" / "slurm-7.out").write_text("".join(f"line {number}\n" for number in range(9)))
        return (JobRecord("7", JobState.FAILED, exit_code=1),)

    monkeypatch.setattr(Slurm, "jobs", fail)
    found, _, _ = examine(asked, COMPLETED)
    assert found.output == ("line 4", "line 5", "line 6", "line 7", "line 8")


def test_a_folder_of_runs_that_cannot_be_written(asked: Examination, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="cannot examine the nodes"):
        examine(asked, COMPLETED)


def test_the_job_of_a_job_file(
    job_file: Callable[[str], Path], tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    environ = {"SLURM_TF_RUNS": str(tmp_path / "two words; reboot")}
    job = examination_job.load(job_file(JOB), environ, "generic", 3, {"qos": "fast"}).job
    fitted = examination_job.plan_of(job, ".doctor-x")
    script = render.script(fitted, examination=True)
    golden("doctor/script.sbatch", script.replace(str(tmp_path), "/shared"))
    os.makedirs(fitted.run.path)
    settings = node_job._settings(fitted, ())
    assert (settings.python, settings.is_launcher_python, settings.gpus) == ("python3.11", False, 2)
    assert fitted.settings.env == {"KEEP": "x"}
    path = tmp_path / "script.sbatch"
    path.write_text(script)
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or "shellcheck"
    # SC1090, SC1091: what the user's own setup sources is not here to be read
    subprocess.run([shellcheck, "--exclude=SC1090,SC1091", str(path)], check=True, timeout=60)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda path: path.stem)
def test_each_ready_job_can_be_examined(path: Path, tmp_path: Path) -> None:
    job = examination_job.load(path, {"SLURM_TF_RUNS": str(tmp_path)}, "generic", 2, {"partition": "gpu"}).job
    fitted = examination_job.plan_of(job)
    assert len(fitted.components) == 1
    assert "#SBATCH --ntasks=2\n" in render.script(fitted, examination=True)


def test_options_that_were_typed_stay(job_file: Callable[[str], Path], tmp_path: Path) -> None:
    options = {"time": "5", "begin": "now+1hour"}
    job = examination_job.load(job_file(JOB), {"SLURM_TF_RUNS": str(tmp_path)}, "generic", 1, options).job
    script = render.script(examination_job.plan_of(job), examination=True)
    assert "#SBATCH --time=00:05:00\n" in script
    assert "#SBATCH --begin=now+1hour\n" in script


def test_how_far_a_clock_is_ahead() -> None:
    # asked at 100, seen there at 205, answered there at 206, back at 110: 96 to 105 ahead
    assert node_job.clock_of(Pong(0, 205.0, 206.0), 100.0, 110.0) == Clock(100.5, 4.5)
