"""A service on a real Slurm: each of its jobs submits the one that takes over, which starts before or after its end."""

import json
import re
import sys
import time
from typing import Any

import pytest

from tests.cluster.group import Member
from tests.sandbox import linux

pytestmark = pytest.mark.slurm

JOB = """\
name = "digits"
strategy = "serve"
time = "00:02:00"
[roles.replica]
count = 2
ntasks-per-node = 1
command = ["bash", "-c", {command}]
[serve]
models = {{digits = "models/digits"}}
[launch]
kill-wait = "00:00:01"
"""


def submitted(alice: Member, command: str) -> str:
    alice.run("mkdir", "-p", "models/digits")
    return alice.submit(alice.write("digits.toml", JOB.format(command=f"'{command}'")))


def jobs(alice: Member) -> dict[int, str]:
    """Return the id of each job of the service, by its number."""
    return {int(each["run"].rpartition("/")[2]): each["job"] for each in alice.status("digits-1")}


def status(alice: Member) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(alice.type("serve", "status", "digits-1", "--json").stdout)
    return found


def dependency(alice: Member, job: str) -> str:
    return alice.run("squeue", "--noheader", f"--jobs={job}", "--format=%E", check=False).strip()


def test_the_next_job_is_submitted_at_the_start_and_goes_when_the_service_does(alice: Member) -> None:
    first = submitted(alice, "exec sleep 600")
    linux.wait_until("a second job is submitted", lambda: len(jobs(alice)) == 2, 30)
    second = jobs(alice)[2]
    assert re.fullmatch(rf"after:{first}\+1\(\w+\)\?afterany:{first}\(\w+\)", dependency(alice, second))
    token = alice.folder / "runs" / "digits-1" / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", token.read_text())
    assert status(alice)["gap"] is None
    alice.run("scontrol", "hold", second)
    found = status(alice)
    assert found["gap"] == {"begin": found["jobs"][0]["ends"], "until": None}
    said = alice.type("serve", "status", "digits-1").stdout
    assert re.search(r"nobody will answer from \d{4}-\S+ \S+ on, and Slurm does not say until when", said)
    began = time.monotonic()
    alice.ok("cancel", "digits-1")
    linux.wait_until("both jobs are gone", lambda: not alice.run("squeue", "--noheader", "--me"), 30)
    assert time.monotonic() - began < 30
    states = {each["state"] for each in alice.status("digits-1")}
    assert states == {"CANCELLED"}
    assert len(jobs(alice)) == 2


def test_a_service_whose_replicas_cannot_answer_ends(alice: Member) -> None:
    """Its next job would fail as well, and the one after that."""
    first = submitted(alice, "sleep 5; exit 69")
    assert alice.type("wait", "digits-1", timeout=60).returncode == 69
    assert alice.sacct(first) == ["FAILED"]
    assert len(jobs(alice)) == 2
    assert "which was to follow, is cancelled" in alice.ok("logs", "digits-1/1")


# The task of a service whose replicas take more memory than the job has.
HUNGRY = """\
import os, sys
from slurm_tf.serve import replica_task
sys.exit(replica_task.run(os.environ, ["-c", "bytearray(800 << 20)"]))
"""


def test_a_replica_that_the_kernel_ends_for_its_memory_says_so_in_words(alice: Member) -> None:
    """It is started again twice; then the service ends, and says why."""
    is_limited = "cgroup" in alice.run("scontrol", "show", "config").partition("ProctrackType")[2].splitlines()[0]
    line = "exit code 0"
    if is_limited:
        line = (
            r"out of memory: the job may use 300M on the node( \(--mem=300M\))? and used \d+M of it; ask for more, "
            r"--mem=450M at first, or use a smaller batch"
        )
    alice.run("mkdir", "-p", "models/digits")
    alice.write("hungry.py", HUNGRY)
    job = alice.write("digits.toml", JOB.format(command=f"'exec {sys.executable} hungry.py'"))
    alice.submit(job, "--set", "roles.replica.count=1", "--set", "roles.replica.mem=300M")
    linux.wait_until("a replica has ended", lambda: bool(status(alice)["replica_ends"]), 60)
    (found,) = status(alice)["replica_ends"]
    assert found["replica"] == "1-0-0"
    assert re.fullmatch(line, found["why"])
    assert alice.type("wait", "digits-1", timeout=120).returncode == 69
    said = " ".join(alice.type("serve", "status", "digits-1").stdout.split())
    assert re.search(rf"Replica 1-0-0 has ended 3 times, the last time \d+ s ago: {line}", said), said
    last = status(alice)["last_job"]
    assert (last["number"], last["state"] in ("FAILED", "OUT_OF_MEMORY")) == (1, True)
    if is_limited:
        assert re.search(rf"Last job {last['job']} {last['state']}: replica:0 .*{line}", said), said


def test_a_job_that_slurm_ends_is_followed_at_once(alice: Member) -> None:
    first = submitted(alice, "exec sleep 600")
    linux.wait_until("a second job is submitted", lambda: len(jobs(alice)) == 2, 30)
    second = jobs(alice)[2]
    node = alice.run("squeue", "--noheader", f"--jobs={first}", "--format=%B").strip()
    # the node comes back by itself, as its slurmd lives
    alice.sandbox.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test", user="root")
    linux.wait_until("the second job runs", lambda: state(alice, second) == "RUNNING", 60)
    assert alice.sacct(first) == ["NODE_FAIL"]
    linux.wait_until("a third job is submitted", lambda: len(jobs(alice)) == 3, 30)


def state(alice: Member, job: str) -> str:
    return alice.run("squeue", "--noheader", f"--jobs={job}", "--format=%T", check=False).strip()
