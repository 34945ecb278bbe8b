"""A service on a real Slurm under load: clients of `serve connect` notice nothing of what happens to its jobs."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.group import SLURM_TF, Member
from tests.cluster.test_service import jobs, state
from tests.conftest import ROOT
from tests.sandbox import linux

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PROGRAMS = ROOT / "tests" / "programs"
JOB = """\
name = "digits"
strategy = "serve"
time = "{time}"
[roles.replica]
count = 2
ntasks-per-node = 1
command = ["{python}", "{program}"]
[serve]
models = {{digits = "models/digits"}}
{more}
"""


def started(alice: Member, *words: str, time: str = "00:10:00", more: str = "") -> str:
    alice.run("mkdir", "-p", "models/digits")
    program = str(PROGRAMS / "rest_replica_task.py")
    text = JOB.format(time=time, python=sys.executable, program=program, more=more)
    job = alice.ok("serve", alice.write("digits.toml", text), "--parsable", *words).strip()
    linux.wait_until("both replicas answer", lambda: len(replicas(alice)) == 2, 60)
    return job


def replicas(alice: Member) -> list[dict[str, Any]]:
    done = alice.type("serve", "status", "digits-1", "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)["replicas"]
    return found


@contextlib.contextmanager
def connected(alice: Member, *words: str) -> Iterator[str]:
    """Run `serve connect` on the login node; give the path of its socket, or its port."""
    argv = [*SLURM_TF, "serve", "connect", "digits-1", *words]
    process = alice.sandbox.popen(
        *argv, user=alice.user, cwd=alice.folder, env=alice.environ(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = ""
        while not (match := re.search(r"--unix-socket (\S+)|127\.0\.0\.1:(\d+)/", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        yield match[1] or match[2]
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def load(alice: Member, where: str, requests: int, pause: float = 0.0, threads: int = 4) -> Iterator[dict[str, Any]]:
    """Ask meanwhile, from before the block on; what came of it is in the value at the end."""
    argv = [sys.executable, str(PROGRAMS / "rest_load.py"), where, "digits", str(requests), str(threads), str(pause)]
    process = alice.sandbox.popen(*argv, user=alice.user, cwd=alice.folder, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {}
    try:
        assert process.stdout
        assert process.stdout.readline() == "answered\n"
        yield found
        out, _ = process.communicate(timeout=600)
        found.update(json.loads(out))
    finally:
        process.kill()


def test_a_replica_that_dies_and_a_job_that_is_lost_fail_no_request(alice: Member) -> None:
    first = started(alice)
    linux.wait_until("a second job is submitted", lambda: len(jobs(alice)) == 2, 30)
    with connected(alice) as where, load(alice, where, requests=2000, pause=0.04) as found:
        node = re.findall(r"replica:1 started on (\S+)", alice.ok("logs", "digits-1/1"))[0]
        alice.sandbox.run("pkill", "-KILL", "-f", "rest_replica.py", user="alice", node=node)
        batch = alice.run("squeue", "--noheader", f"--jobs={first}", "--format=%B").strip()
        alice.sandbox.run("scontrol", "update", f"nodename={batch}", "state=down", "reason=test", user="root")
        linux.wait_until("the second job runs", lambda: state(alice, jobs(alice)[2]) == "RUNNING", 30)
    assert found["failures"] == 0, found
    assert sum(found["answered"].values()) == 2000
    assert {each[0] for each in found["answered"]} == {"1", "2"}, found


def test_others_can_neither_ask_nor_see_nor_stop(alice: Member) -> None:
    first = started(alice)

    def bob(*argv: str, node: str | None = None) -> "subprocess.CompletedProcess[str]":
        return alice.sandbox.run(*argv, user="bob", node=node, check=False)

    def status(url: str, *more: str, node: str | None = None) -> str:
        return bob("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *more, url, node=node).stdout

    with connected(alice) as path:
        url = "http://localhost/v1/models/digits"
        assert "AVAILABLE" in alice.run("curl", "-s", "--unix-socket", path, url)
        assert bob("curl", "-s", "--unix-socket", path, url).returncode == 7
    token = (alice.folder / "runs" / "digits-1" / "token").read_text().strip()
    with connected(alice, "--port", "8501"):
        url = "http://127.0.0.1:8501/v1/models/digits"
        assert "AVAILABLE" in alice.run("curl", "-s", url)
        assert status(url) == status(url, "-H", "Authorization: Bearer guessed") == "401"
        assert status(url, "-H", f"Authorization: Bearer {token}") == "200"
    # the replica itself, from its own node
    there = replicas(alice)[0]
    assert status(f"https://{there['host']}:{there['rest_port']}/v1/models/digits", node="node1") == "401"
    run = str(alice.folder / "runs" / "digits-1")
    assert bob("ls", run).returncode
    assert bob("cat", f"{run}/token").returncode
    assert bob("scancel", first).returncode
    assert token not in bob("ps", "-eo", "args").stdout + bob("scontrol", "show", "job", first).stdout
