"""The status file that a coordinator writes while its job lives."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_tf import files
from slurm_tf.launch.coordinator import startup
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.run import lease, program_messages
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.run.program_messages import ProgressReport
from slurm_tf.run.settings import RoleSettings, write_settings
from slurm_tf.run.status import AttemptState, TaskState
from tests.launch.conftest import DEFAULTS, StartJob

pytestmark = pytest.mark.slow


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_changes_are_written_together_and_soon(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    said: list[str] = []
    status = StatusWriter(
        RunFolder(str(tmp_path)), "r", ["worker:0", "worker:1"], {"SLURM_RESTART_COUNT": "2"}, said.append
    )
    assert read(path)["attempt"] == 2
    assert status.wakes_at is None
    before = time.monotonic()
    for name in ("worker:0", "worker:1"):
        status.task(name, TaskState.RUNNING, "n1")
    assert status.wakes_at is not None
    assert status.wakes_at > before
    assert read(path)["tasks"]["worker:0"]["state"] == "missing"
    status.tick(time.monotonic() + 1.0)
    assert [task["state"] for task in read(path)["tasks"].values()] == ["running", "running"]
    assert status.wakes_at is None
    status.show(AttemptState.REGISTERING, 0, None)
    assert status.wakes_at is None


def test_progress_is_numbers(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = StatusWriter(RunFolder(str(tmp_path)), "r", ["worker:0"], {}, print)
    values = {"loss": float("nan"), "accuracy": 0.5, "k" * 500: 1, **{f"more-{index}": 2.0 for index in range(100)}}
    status.progress("worker:0", ProgressReport(7, None, float("inf"), values))
    status.write()
    progress = read(path)["tasks"]["worker:0"]["progress"]
    assert (progress["step"], progress["steps"], progress["rate"]) == (7, None, None)
    assert list(progress["values"].items())[:3] == [("loss", None), ("accuracy", 0.5), ("k" * 64, 1)]
    assert len(progress["values"]) == 32


def test_a_folder_that_is_gone_ends_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    said: list[str] = []
    status = StatusWriter(RunFolder(str(folder)), "r", ["worker:0"], {}, said.append)
    (folder / "status.json").unlink()
    folder.rmdir()
    status.write()
    status.write()
    assert said == [f"cannot write {folder}/status.json: No such file or directory"]


def test_an_attempt_whose_run_is_anothers_by_now_says_no_more(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    status = StatusWriter(run, "r", ["worker:0"], {"SLURM_JOB_ID": "7"}, print)
    for attempt, seen in (("7.0", "running"), ("7.1", "running"), ("8.0", "running")):
        lease.write(run, Lease(attempt, "7", "n1", "1-1", 0.0))
        status.show(AttemptState.RUNNING if attempt == "7.0" else AttemptState.ENDED, 0, None)
        status.write()
        assert read(Path(run.status))["state"] == seen
        assert status.wakes_at is None


def test_the_life_of_a_job(start_job: StartJob) -> None:
    line = program_messages.encode(ProgressReport(5, None, None, {"loss": 0.5}))
    # worker:1 ends once it is written that worker:0 has told of its progress
    until = 'until grep -q loss "$SLURM_TF_RUN_FOLDER/status.json"; do sleep 0.1; done'
    tell = f"echo '{line}' >&$SLURM_TF_CONTROL_FD; sleep 60"
    program = f"test $SLURM_TF_TASK = worker:0 || {{ {until}; exit 3; }}; {tell}"
    job = start_job(program, roles=(RoleSettings("worker", 2),), max_restarts=1)
    assert job.wait() == 3, job.text
    status = read(Path(job.run.status))
    assert (status["state"], status["code"], status["restarts"]) == ("ended", 3, 1)
    assert status["reason"].startswith("worker:1 on ")
    assert status["tasks"]["worker:1"]["code"] == 3
    assert status["tasks"]["worker:1"]["restarts"] == 1
    assert status["tasks"]["worker:0"]["progress"]["values"] == {"loss": 0.5}


def test_a_program_that_has_started_is_of_an_attempt_that_runs(start_job: StartJob) -> None:
    """Its first command finds so in the status file, also after a restart: who sees it print may act on the run."""
    # by rename, as the restart may end a program that copies
    copy = "cp status.json copy.$SLURM_TF_TASK && mv copy.$SLURM_TF_TASK seen.$$"
    program = f"cd $SLURM_TF_RUN_FOLDER; {copy}; false"
    job = start_job(program, max_restarts=1)
    assert job.wait() == 1, job.text
    seen = [read(path) for path in Path(job.run.path).glob("seen.*")]
    assert len(seen) >= 2
    assert {each["state"] for each in seen} == {"running"}
    assert {each["restarts"] for each in seen} == {0, 1}


def test_a_cluster_that_cannot_be_written_down_ends_the_attempt_in_all_its_files(
    start_job: StartJob, tmp_path: Path
) -> None:
    Path(RunFolder(str(tmp_path / "run-0")).cluster).mkdir(parents=True)
    job = start_job("sleep 100")
    assert job.wait() == 74, job.text
    assert "the job failed: [Errno 21] Is a directory: " in job.text
    status = read(Path(job.run.status))
    assert (status["state"], status["code"]) == ("ended", 74)
    (attempt,) = read(Path(job.run.attempts))["attempts"]
    assert (attempt["code"], attempt["ended"] is not None) == (74, True)


@pytest.mark.parametrize("shared", [True, False])
def test_a_point_of_a_shared_run_is_shared(shared: bool, tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "r"))
    for path in (run.path, run.submission(1).path):
        os.mkdir(path, 0o700)
    write_settings(run.submission(1), dataclasses.replace(DEFAULTS, points={"3": {}}))
    if shared:
        files.share(run.path)
    place, _ = startup.open_run(run.submission(1).path, 3, {})
    folder = place.folder
    assert [files.is_shared(each) for each in (folder.path, folder.checkpoints)] == [shared] * 2
    for each in (folder.logs, folder.exports, folder.tensorboard):
        assert os.stat(each).st_mode & 0o77 == 0


def test_a_point_has_a_folder_of_its_own_and_its_values(start_job: StartJob) -> None:
    points = {"0": {"lr": "0.1"}, "3": {"lr": "{lr} b"}}
    job = start_job('echo "$0 $SLURM_TF_RUN"', "x{lr}y", point=3, points=points, strategy="single",
                    roles=(RoleSettings("worker", 1),))  # fmt: skip
    assert job.wait() == 0, job.text
    assert job.lines("worker:0") == ["x{lr} by r/3"]
    assert read(Path(job.run.point(3).status))["run"] == "r/3"
    assert Path(job.run.point(3).log("worker", 0)).read_text() == "x{lr} by r/3\n"


def test_a_point_that_is_none_and_a_cancelled_run(start_job: StartJob) -> None:
    job = start_job("true", point=1, points={"0": {}})
    assert job.wait() == 73
    assert "run r has no point 1; needed one of 0" in job.text
    late = start_job("true", cancelled=True)
    assert late.wait() == 73
    assert "run r was cancelled" in late.text
