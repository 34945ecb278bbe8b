"""Whose a run is on a real Slurm: its job's next incarnation takes it, another job only when the first is over."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.group import Member
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

JOB = """
name = "a"
strategy = "single"
command = ["bash", "-c", "echo up $SLURM_TF_ATTEMPT; sleep 1000"]
[roles.worker]
"""


def wait_for(what: str, seen: Callable[[], object], wanted: object) -> None:
    deadline = time.monotonic() + 90
    while seen() != wanted:
        assert time.monotonic() < deadline, f"{what} is {seen()}, not {wanted}"
        time.sleep(0.2)


def holder(member: Member) -> str:
    path = Path(member.folder, "runs", "a-1", "lease.json")
    return str(json.loads(path.read_text())["attempt"]) if path.exists() else ""


def state(sandbox: Sandbox, job: str) -> str:
    return sandbox.run("squeue", "-h", "--states=all", f"--jobs={job}", "-o", "%T", user="alice").stdout.strip()


def test_a_run_belongs_to_one_job_at_a_time(alice: Member) -> None:
    first = alice.submit(alice.write("a.toml", JOB))
    wait_for("the lease", lambda: holder(alice), f"{first}.0")
    second = alice.submit("a.toml", "--name", "a-1")
    assert alice.sacct(second) == ["FAILED"]
    assert f"run a-1 is being run by job {first} on " in alice.ok("logs", "a-1")
    assert alice.run("sacct", "-nPX", "-j", second, "-o", "ExitCode").strip() == "73:0"
    assert holder(alice) == f"{first}.0"
    # its first life leaves its nodes for as long as one program needs to die; the next job comes before
    alice.run("scancel", first)
    third = alice.submit("a.toml", "--name", "a-1")
    wait_for("the lease", lambda: holder(alice), f"{third}.0")
    wait_for("the output", lambda: f"up {third}.0" in alice.ok("logs", "a-1"), True)


def test_the_next_incarnation_takes_over(alice: Member, sandbox: Sandbox) -> None:
    number = alice.submit(alice.write("a.toml", JOB))
    wait_for("the lease", lambda: holder(alice), f"{number}.0")
    alice.run("scontrol", "requeue", number)
    wait_for("the job", lambda: state(sandbox, number), "PENDING")
    assert holder(alice) == f"{number}.0"
    time.sleep(2)  # started again at once, slurmctld (22.05.8) takes the end of the first life for the second's
    alice.run("scontrol", "update", f"jobid={number}", "StartTime=now")
    wait_for("the lease", lambda: holder(alice), f"{number}.1")
    wait_for("the output", lambda: f"up {number}.1" in alice.ok("logs", "a-1"), True)
