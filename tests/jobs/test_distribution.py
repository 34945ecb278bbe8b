"""run.distribute with a real tf.data service: each id once in a pass, or the run ends; a data worker that is killed."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import tomllib

from tests import oracle
from tests.conftest import ROOT
from tests.jobs.conftest import JOBS, RunJob, RunningJob
from tests.jobs.test_programs import TWO_DEVICES

pytestmark = pytest.mark.tensorflow

JOB = """
name = "d"
strategy = "{strategy}"
command = ["python", "{program}", {arguments}]
join = "optional"
[roles.worker]
count = {workers}
[roles.data-dispatcher]
{command}
[roles.data-worker]
count = 2
{command}
[launch]
max-restarts = {restarts}
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
"""
# as `python -m slurm_tf.train.data.service`, which tests/forkserver does not fork
FORKED = 'command = ["python", "-c", "from slurm_tf.train.data import service; service.main()"]'
LOST = (
    r"data-worker:1 on \S+ was ended by signal 9 \(SIGKILL\); what it had read and not delivered is lost"
    "{what}"
)


def started(
    start: RunJob, folder: Path, *arguments: str, workers: int = 1, restarts: int = 0, command: str = ""
) -> RunningJob:
    strategy = "single" if workers == 1 else "multi_worker"
    text = JOB.format(
        strategy=strategy,
        program=ROOT / "tests" / "programs" / "distributed.py",
        arguments=", ".join(f'"{each}"' for each in arguments),
        workers=workers,
        restarts=restarts,
        command=command,
    )
    (folder / "d.toml").write_text(text)
    return start("d.toml")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_each_id_comes_once_in_each_pass(workers: int, run_forked: RunJob, tmp_path: Path) -> None:
    job = started(run_forked, tmp_path, "--samples=503", workers=workers, command=FORKED)
    assert job.wait() == 0, job.text
    passes = job.find(r"^\[worker:(\d)\] pass (\d): (\d+) of \d+ ids, 0 lost, 0 twice")
    parts = {1: ["503"], 2: ["252", "251"]}[workers]
    assert sorted(passes) == [(str(rank), each, part) for rank, part in enumerate(parts) for each in "01"], job.text


def test_model_fit_on_what_data_workers_compute(run_forked: RunJob) -> None:
    command = f"command={json.dumps(tomllib.loads(FORKED)['command'])}"
    forked = [f"roles.{role}.{command}" for role in ("data-dispatcher", "data-worker")]
    job = run_forked(
        str(JOBS / "cnn_data_service.toml"), "epochs=6", *(word for each in forked for word in ("--set", each))
    )
    assert job.wait() == 0, job.text
    (first, second) = job.find(r"test loss ([\d.]+), test accuracy ([\d.]+)$")
    assert first == second
    assert float(first[1]) >= 0.85


CASES = [("multi_worker", 2), ("mirrored", 1), ("single", 1)]


@pytest.mark.long
@pytest.mark.parametrize("loop", ["fit", "own"])
@pytest.mark.parametrize(("strategy", "tasks"), CASES, ids=[strategy for strategy, _ in CASES])
def test_each_sample_is_trained_on_once_an_epoch(
    strategy: str, tasks: int, loop: str, run_forked: RunJob, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.py"
    changed.write_text(oracle.CHANGED.format(change="import tensorflow as tf" + TWO_DEVICES * (strategy == "mirrored")))
    text = oracle.job(strategy, tasks, "--loop", loop, "--distributed", "--epochs=2", changed=str(changed))
    service = f"[roles.data-dispatcher]\n{FORKED}\n[roles.data-worker]\ncount = 2\n{FORKED}\n"
    (tmp_path / "job.toml").write_text(text.replace("[checkpoint]", f"{service}[checkpoint]"))
    job = run_forked("job.toml")
    assert job.wait() == 0, job.text
    steps = oracle.read(tmp_path / "runs" / "oracle-1").steps
    assert [oracle.counts(steps[epoch * 11 : epoch * 11 + 11]) for epoch in range(2)] == [oracle.ONCE] * 2


@pytest.mark.long
def test_a_killed_data_worker_ends_the_run(run_job: RunJob, tmp_path: Path) -> None:
    job = started(run_job, tmp_path, "--waits")
    job.wait_for("half way")
    os.kill(job.pid("data-worker:1"), signal.SIGKILL)
    assert job.wait() == 137
    assert job.find(LOST.format(what="$")), job.text
    assert not job.find("^.*pass 0: ")


@pytest.mark.long
def test_a_killed_data_worker_starts_all_again(run_job: RunJob, tmp_path: Path) -> None:
    job = started(run_job, tmp_path, "--waits", workers=2, restarts=1)
    job.wait_for("half way")
    os.kill(job.pid("data-worker:1"), signal.SIGKILL)
    job.wait_for(LOST.format(what="; all tasks are started again in place"))
    (tmp_path / "go on").touch()
    assert job.wait() == 0, job.text
    assert len(job.find(r"^\[worker:\d\] pass \d: 250 of 250 ids, 0 lost, 0 twice")) == 4


@pytest.mark.long
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_data_worker_that_is_killed_at_any_time_is_noticed(part: float, run_job: RunJob, tmp_path: Path) -> None:
    """A pass of which the program prints the end is whole, and a run that ends well had whole passes alone."""
    job = started(run_job, tmp_path, "--samples=4000", "--work=300", "--passes=2")
    seconds = float(job.wait_for(r"pass 0: 4000 of 4000 ids, 0 lost, 0 twice, in (\S+) s")[1])
    time.sleep(seconds * part)
    os.kill(job.pid("data-worker:0"), signal.SIGKILL)
    code = job.wait()
    passes = job.find(r"pass \d: (\d+) of 4000 ids, (\d+) lost, (\d+) twice")
    assert passes == [("4000", "0", "0")] * (2 if code == 0 else len(passes))
    assert code == 0 or job.find("what it had read and not delivered is lost"), job.text


@pytest.mark.long
def test_a_killed_dispatcher_ends_the_run(run_job: RunJob, tmp_path: Path) -> None:
    job = started(run_job, tmp_path, "--waits")
    job.wait_for("half way")
    os.kill(job.pid("data-dispatcher:0"), signal.SIGKILL)
    assert job.wait() == 137
    assert job.find(r"the job failed: data-dispatcher:0 on \S+ was ended by signal 9")
