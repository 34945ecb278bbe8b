"""Engines of real processes: a scheduler, workers and a driver that meet over sockets."""

import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_tf.run import status
from slurm_tf.run.settings import RoleMemory, RoleSettings
from tests.conftest import ROOT
from tests.launch.conftest import StartJob

pytestmark = pytest.mark.slow

PROGRAM = str(ROOT / "tests" / "programs" / "engine.py")
SUM = f"sum {sum(number**2 for number in range(200))}"


def roles(*more: str, workers: int = 2) -> tuple[RoleSettings, ...]:
    command = (sys.executable, PROGRAM, *more)
    memory = RoleMemory(3000, ("worker",))
    return (
        RoleSettings("scheduler", 1, command=command, memory=RoleMemory(700)),
        RoleSettings("worker", workers, command=command, memory=memory),
        RoleSettings("driver", 1, command=command),
    )


def test_all_roles_meet_and_end_with_the_driver(start_job: StartJob) -> None:
    job = start_job("", strategy="engine", roles=roles(), wait=60.0)
    assert job.wait(timeout=30) == 0, job.text  # less than `wait`
    has, total = job.lines("driver:0")
    assert total == SUM
    addresses = {task["name"]: task["address"] for task in job.cluster()}
    assert re.fullmatch(rf"has \d+ MiB at {addresses['driver:0']}", has)  # its part of the node, as nothing says more
    assert job.lines("worker:1") == [f"has 1500 MiB at {addresses['worker:1']}"]
    assert job.lines("scheduler:0") == [f"has 700 MiB at {addresses['scheduler:0']}"]
    assert "training" not in job.text
    assert "stragglers" not in job.text
    found = status.read(job.run)
    assert found is not None
    assert (found.state.value, found.code) == ("ended", 0)


def test_the_secret_is_the_programs_own_and_stands_in_no_file_and_no_command(start_job: StartJob) -> None:
    program = "case $SLURM_TF_TASK in driver*) env; sleep 1;; *) sleep 60;; esac"
    only = (RoleSettings("worker", 1), RoleSettings("driver", 1))
    job = start_job(program, strategy="engine", roles=only)
    environ = Path(f"/proc/{job.agent('driver:0')}/environ").read_bytes().split(b"\0")
    of_agents = next(each for each in environ if each.startswith(b"SLURM_TF_SECRET=")).partition(b"=")[2].decode()
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert job.wait() == 0, job.text
    seen = dict(line.split("=", 1) for line in job.lines("driver:0") if "=" in line)
    own = seen["SLURM_TF_ENGINE_SECRET"]
    assert own == hmac.new(bytes.fromhex(of_agents), b"slurm-tf engine", hashlib.sha256).hexdigest()
    assert "TF_CONFIG" not in seen
    assert "SLURM_TF_SECRET" not in seen
    assert list(json.loads(seen["SLURM_TF_CLUSTER"])) == ["driver", "worker"]
    files = [path for path in Path(job.run.path).rglob("*") if path.is_file() and path.parent.name != "logs"]
    kept = shown + "".join(path.read_text(errors="replace") for path in files if path.name != "output")
    assert own not in kept
    assert of_agents not in kept


def test_a_killed_worker_starts_again_alone(start_job: StartJob) -> None:
    """Once restarts are used up, the others go on without it."""
    program = 'case $SLURM_TF_TASK in driver*) until [ -e "$0" ]; do sleep 0.05; done;; *) sleep 60;; esac'
    only = (RoleSettings("scheduler", 1), RoleSettings("worker", 2), RoleSettings("driver", 1))
    release = f"{os.environ.get('TMPDIR', '/tmp')}/stf-engine-{os.getpid()}-{time.time_ns()}"
    job = start_job(program, release, strategy="engine", roles=only, max_restarts=1)
    os.kill(job.pid("worker:1"), signal.SIGKILL)
    job.pid("worker:1", start=2)
    os.kill(job.pid("worker:0"), signal.SIGKILL)
    job.wait_for("worker:0 on .* was ended by signal 9.*; the job goes on without it")
    Path(release).touch()
    assert job.wait() == 0, job.text
    Path(release).unlink()


@pytest.mark.parametrize("task", ["scheduler:0", "driver:0"])
def test_without_scheduler_or_driver_the_job_fails(task: str, start_job: StartJob) -> None:
    only = (RoleSettings("scheduler", 1), RoleSettings("worker", 1), RoleSettings("driver", 1))
    job = start_job("sleep 60", strategy="engine", roles=only)
    os.kill(job.pid(task), signal.SIGKILL)
    assert job.wait() == 137
    assert f"the job failed: {task} on " in job.text


def test_a_driver_that_fails_is_the_jobs_end(start_job: StartJob) -> None:
    job = start_job("", strategy="engine", roles=roles("driver:0=exit", workers=1))
    assert job.wait() == 3
    assert "the job failed: driver:0 on" in job.text
