"""A tf.data service on a real Slurm: data workers on two nodes beside two workers, and one that is killed."""

import re
import sys

import pytest

from tests.cluster.group import Member
from tests.conftest import ROOT
from tests.sandbox import linux

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.long]

JOB = """\
name = "d"
strategy = "multi_worker"
join = "optional"
snapshot = false
command = ["{python}", "distributed.py"{waits}]
[roles.worker]
count = 2
ntasks-per-node = 1
mem = "1500M"
[roles.data-dispatcher]
mem = "1G"
[roles.data-worker]
count = 2
ntasks-per-node = 1
mem = "1G"
[launch]
max-restarts = 1
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
"""
WARNING = "the job's tf.data service authenticates nobody: users with jobs on the same nodes"
WHOLE = re.compile(r"^\[worker:\d\] pass \d: 250 of 250 ids, 0 lost, 0 twice", re.MULTILINE)


def submitted(alice: Member, waits: bool) -> str:
    """Submit the job; return what submit said."""
    alice.write("distributed.py", (ROOT / "tests" / "programs" / "distributed.py").read_text())
    done = alice.type("submit", alice.write("d.toml", JOB.format(python=sys.executable, waits=', "--waits"' * waits)))
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_each_id_comes_once_from_data_workers_on_two_nodes(alice: Member) -> None:
    assert WARNING in submitted(alice, waits=False)
    assert alice.type("wait", "d-1", timeout=180).returncode == 0, alice.ok("logs", "d-1")
    logs = alice.ok("logs", "d-1", "--lines", "1000")
    assert len(WHOLE.findall(logs)) == 4, logs
    assert len(set(re.findall(r"data-worker:\d started on (\S+)", logs))) == 2


def test_a_killed_data_worker_starts_all_again(alice: Member) -> None:
    submitted(alice, waits=True)
    linux.wait_until("both are half way", lambda: alice.ok("logs", "d-1").count("half way") == 2, 120)
    node, pid = re.findall(r"data-worker:1 started on (\S+) \(process (\d+)\)", alice.ok("logs", "d-1"))[0]
    alice.sandbox.run("kill", "-KILL", pid, user="alice", node=node)
    alice.write("go on", "")
    assert alice.type("wait", "d-1", timeout=180).returncode == 0, alice.ok("logs", "d-1")
    logs = alice.ok("logs", "d-1", "--lines", "1000")
    lost = (
        rf"data-worker:1 on {node} was ended by signal 9 \(SIGKILL\); what it had read and not delivered is lost; all"
    )
    assert re.search(lost, logs), logs
    assert len(WHOLE.findall(logs)) == 4, logs
