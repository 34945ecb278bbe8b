"""The demo's job and a program of 2016: parameter servers as real processes, which are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomllib

from slurm_tf.run import checkpoint_folder, progress
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.progress import StepReport
from tests.jobs.conftest import JOBS, SLURM_TF, RunJob, RunningJob
from tests.launch.conftest import gone_within

pytestmark = pytest.mark.tensorflow

PS = str(JOBS / "wide_and_deep.toml")
ACCURACY = r"^\[chief:0\] steps (\d+), test accuracy ([\d.]+) on 143 samples$"
# many steps, so that there is time to kill a task
MANY = ["steps=700", "--set", "checkpoint.every-steps=50"]


def reports(tmp_path: Path, role: str = "chief") -> list[StepReport]:
    """Return what the first run has reported."""
    folder = RunFolder(str(tmp_path / "runs" / "wide-and-deep-1"))
    return progress.read(folder.progress if role == "chief" else folder.evaluator_progress)


def steps_and_accuracy(job: RunningJob) -> tuple[int, float]:
    ((steps, accuracy),) = job.find(ACCURACY)
    return int(steps), float(accuracy)


@pytest.mark.matrix
def test_the_demo_trains_prints_saves_exports_and_resumes(run_forked: RunJob, tmp_path: Path) -> None:
    import numpy as np
    import tensorflow as tf

    job = run_forked(PS)
    assert job.wait() == 0, job.text
    assert steps_and_accuracy(job)[0] == 600
    assert steps_and_accuracy(job)[1] >= 0.93
    printed = job.find(r"^\[chief:0\] step (\d+)/600  loss [\d.]+  accuracy [\d.]+  auc [\d.]+")
    assert printed == [str(step) for step in range(50, 650, 50)]
    for task in ("chief:0", "worker:0", "worker:1", "ps:0"):
        job.pid(task)
    # few enough other lines to read; TensorFlow 2.18 also prints the definition of each server
    assert len(job.text.splitlines()) < (120 if tf.__version__.startswith("2.18.") else 40)
    assert job.find(r"# go on from its last checkpoint$")
    (path,) = job.find(r"^\[chief:0\] SavedModel (\S+)$")
    scores = tf.saved_model.load(path)(tf.constant(np.zeros((3, 30), "f")))
    assert scores.shape == (3,)
    folder = tmp_path / "runs" / "wide-and-deep-1" / "checkpoints"
    assert [found.step for found in checkpoint_folder.complete(str(folder))] == [600, 500, 400]
    shown = job.find(r"^\[chief:0\] step \d+/600  loss ([\d.]+)  accuracy ([\d.]+)")
    reported = reports(tmp_path)
    assert [each.step for each in reported] == [*range(50, 650, 50)]
    assert [(f"{each.values['loss']:.4f}", f"{each.values['accuracy']:.4f}") for each in reported] == shown
    with open(RunFolder(str(tmp_path / "runs" / "wide-and-deep-1")).progress, "a") as file:
        file.write('{"step": 650, "at": 0, "attempt": "killed after its checkpoint", "values": {"loss": 9}}\n')

    again = run_forked(PS, "--name", "wide-and-deep-1", "steps=700")
    assert again.wait() == 0, again.text
    assert again.find(r"resumed at step (\d+)") == ["600"]
    assert again.find(r"^\[chief:0\] step (\d+)/700") == ["650", "700"]
    assert reports(tmp_path)[:12] == reported
    assert [each.step for each in reports(tmp_path)[12:]] == [650, 700]
    assert all((each.values["loss"] or 9) < 1 for each in reports(tmp_path))
    done = subprocess.run(
        [*SLURM_TF, "results", "wide-and-deep-1", "--json"], cwd=tmp_path, capture_output=True, check=True
    )
    (result,) = json.loads(done.stdout)
    highest = max(reports(tmp_path), key=lambda each: each.values["auc"] or 0)
    assert (result["state"], result["step"]) == ("COMPLETED", 700)
    assert result["metrics"]["auc"] == {
        "last": reports(tmp_path)[-1].values["auc"], "best": highest.values["auc"], "best_step": highest.step,
        "goal": "max",
    }  # fmt: skip
    assert os.listdir(tmp_path / "runs") == ["wide-and-deep-1"]


@pytest.mark.long  # in `make test`: a killed chief in tests/faults, a killed agent in tests/cluster/test_new_step.py
def test_a_killed_worker_restarts_and_training_continues(run_forked: RunJob) -> None:
    job = run_forked(PS, *MANY)
    job.wait_for(r"step 100/700")
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    second = job.pid("worker:1", start=2)
    assert second
    assert job.wait() == 0, job.text
    assert steps_and_accuracy(job)[0] == 700
    assert steps_and_accuracy(job)[1] >= 0.93
    assert "resumed" not in job.text
    assert job.text.count("chief:0 started") == 1


@pytest.mark.long
def test_a_killed_chief_without_a_budget_ends_everything_and_the_next_run_resumes(run_job: RunJob) -> None:
    job = run_job(PS, *MANY, "--set", "launch.max-restarts=0")
    tasks = [job.pid(task) for task in ("chief:0", "worker:0", "worker:1", "ps:0")]
    job.wait_for(r"step 200/700")
    os.kill(tasks[0], signal.SIGKILL)
    killed = time.monotonic()
    assert job.wait(15) == 137
    assert gone_within(15 - (time.monotonic() - killed), tasks)
    assert "slurm-tf: the job failed: chief:0 on " in job.text

    again = run_job(PS, *MANY, "--set", "launch.max-restarts=0", "--name", "wide-and-deep-1")
    assert again.wait() == 0, again.text
    (resumed,) = again.find(r"resumed at step (\d+)")
    assert 150 <= int(resumed) < 700
    assert steps_and_accuracy(again)[0] == 700
    assert steps_and_accuracy(again)[1] >= 0.93


@pytest.mark.long
def test_a_killed_parameter_server_starts_all_again(run_job: RunJob) -> None:
    job = run_job(PS, *MANY)
    job.wait_for(r"step 200/700")
    os.kill(job.pid("ps:0"), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert "all tasks are started again in place (restart 1 of 3)" in job.text
    assert len(job.find(r"resumed at step (\d+)")) == 1
    assert steps_and_accuracy(job)[0] == 700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a process a mount of its own")
def test_a_folder_that_the_servers_do_not_share_is_refused_before_training(run_forked: RunJob) -> None:
    hide = (
        'if [ "$SLURM_TF_TASK" = ps:0 ]; then exec unshare --mount sh -c '
        f'\'mount -t tmpfs tmpfs "$SLURM_TF_CHECKPOINT_FOLDER" && exec {sys.executable} "$@"\' sh "$@"; fi; '
        'exec python "$@"'
    )
    _, *program = tomllib.loads(Path(PS).read_text())["command"]
    command = json.dumps(["bash", "-c", hide, "bash", *program])
    job = run_forked(PS, "--set", f"command={command}", "--set", "launch.max-restarts=0")
    assert job.wait() == 1, job.text
    assert "the chief and ps:0 do not see the same folder" in job.text
    assert "step 50/600" not in job.text


@pytest.mark.long  # where an evaluator is placed: tests/cluster/test_shared_nodes.py
def test_an_evaluator_follows_checkpoints_of_two_parameter_servers(run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(
        str(JOBS / "wide_and_deep_evaluator.toml"), "--name=wide-and-deep-1", "steps=300",
        "--set", "checkpoint.every-steps=50", "--set", "roles.ps.count=2",
    )  # fmt: skip
    assert job.wait() == 0, job.text
    seen = [int(step) for step in job.find(r"^\[evaluator:0\] step (\d+)/300  accuracy")]
    assert seen == sorted(seen)
    assert seen[-1] == 300
    assert len(seen) >= 2
    assert [each.step for each in reports(tmp_path, "evaluator")] == seen
    # the chief leaves the evaluation to it
    assert [(each.step, sorted(each.values)) for each in reports(tmp_path)] == [
        (step, ["loss"]) for step in range(50, 350, 50)
    ]
    # each server writes and flushes its own part
    found = next(checkpoint_folder.complete(str(tmp_path / "runs" / "wide-and-deep-1" / "checkpoints")))
    assert found.step == 300
    assert sum(name.startswith("checkpoint.data") for name in found.manifest["files"]) >= 3


@pytest.mark.long  # jobs/test_programs.py runs the server program of TensorFlow's tutorial
def test_a_program_of_2016_runs_as_it_is(run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(str(JOBS / "between_graph.toml"))
    assert job.wait() == 0, job.text
    (accuracy,) = job.find(r"^\[worker:0\] steps \d+, test accuracy ([\d.]+) on 143 samples$")
    assert float(accuracy) >= 0.93
    assert "slurm_tf" not in (JOBS / "between_graph.py").read_text().replace("slurm-tf", "")
    # the step that a worker fetches may be older than its own update: the checkpoint has the last one
    newest = (tmp_path / "runs" / "between-graph-1" / "checkpoints" / "checkpoint").read_text()
    (steps,) = re.findall(r'^model_checkpoint_path: "[^"]*model.ckpt-(\d+)"', newest, re.MULTILINE)
    assert int(steps) >= 600
