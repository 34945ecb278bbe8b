"""An engine on a real Slurm: roles with memory of their own on two nodes, and one that takes more than it has."""

import re

import pytest

from tests.cluster.group import Member
from tests.conftest import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.long]

JOB = """\
name = "e"
strategy = "engine"
command = ["python3", "engine.py"{more}]
[roles.scheduler]
mem = "200M"
[roles.worker]
count = 2
ntasks-per-node = 1
mem = "300M"
[roles.driver]
mem-per-cpu = "250M"
[launch]
max-restarts = {restarts}
wait = "00:05:00"
"""
SUM = f"sum {sum(number**2 for number in range(200))}"


def started(alice: Member, more: str = "", restarts: int = 0) -> None:
    alice.write("engine.py", (ROOT / "tests" / "programs" / "engine.py").read_text())
    alice.submit(alice.write("e.toml", JOB.format(more=more, restarts=restarts)))


def test_each_role_has_its_memory_and_ends_with_the_driver(alice: Member) -> None:
    started(alice)
    assert alice.type("wait", "e-1", timeout=90).returncode == 0, alice.status("e-1")
    logs = alice.ok("logs", "e-1")
    for name, mib in {"scheduler:0": 200, "worker:0": 300, "worker:1": 300, "driver:0": 250}.items():
        assert re.search(rf"{name}\W+has {mib} MiB", logs), logs
    assert SUM in logs
    assert "training" not in logs


def test_a_worker_out_of_memory_is_named_and_starts_again(alice: Member) -> None:
    plugin = alice.run("scontrol", "show", "config").partition("ProctrackType")[2].splitlines()[0]
    if "cgroup" not in plugin:
        pytest.skip("nothing limits memory on this cluster")
    started(alice, ', "worker:1=memory"', restarts=1)
    assert alice.type("wait", "e-1", timeout=90).returncode == 0, alice.status("e-1")
    line = (
        r"worker:1 on node\d was ended by signal 9 \(SIGKILL\): out of memory: worker may use 300M on the node and "
        r"used \d+M of it; ask for more in \[roles.worker\], mem = 450M at first; worker:1 is started again in place"
    )
    logs = alice.ok("logs", "e-1")
    assert re.search(line, logs), logs
    assert SUM in logs
