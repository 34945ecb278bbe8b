"""A service on a real Slurm: each of its jobs submits the one that takes over, which starts before or after its end."""

import json
import re
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
