"""Preflights on a real Slurm: healthy nodes, a slow one, one cut off, one without storage, one without a GPU."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.group import Member
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import USER_IDS, address

pytestmark = pytest.mark.slurm

JOB = """\
name = "a"
strategy = "multi_worker"
join = "optional"
command = ["bash", "-c", 'echo "$SLURM_TF_TASK trains on $SLURMD_NODENAME"']
{more}
[roles.worker]
count = {count}
ntasks-per-node = 1
{needs}
[launch]
# what else this machine does is no reason
preflight-factor = 30
"""


def job(member: Member, count: int = 3, more: str = "", needs: str = "") -> str:
    return member.write("a.toml", JOB.format(count=count, more=more, needs=needs))


def said(member: Member, run: str = "r") -> dict[str, Any]:
    values: dict[str, Any] = json.loads((member.folder / "runs" / run / "preflight.json").read_text())
    return values


def check_next_attempt(member: Member, *more: str) -> None:
    """The next submission of the run leaves node3 out, says so, and trains."""
    done = member.type("submit", "a.toml", "--name=r", "--wait", *more, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "slurm-tf: excludes node3: " in done.stderr
    logs = member.ok("logs", "r")
    trained = {line.rpartition(" ")[2] for line in logs.splitlines() if "trains on" in line}
    assert trained == {"node1", "node2", "node4"}, logs


@pytest.fixture
def on_node3(sandbox: Sandbox) -> Callable[..., Any]:
    """Type as root on node3; on leaving the context, undo it."""

    @contextmanager
    def typed(do: str, undo: str) -> Iterator[None]:
        sandbox.run(*do.split(), user="root", node="node3")
        try:
            yield
        finally:
            sandbox.run(*undo.split(), user="root", node="node3")

    return typed


@pytest.mark.long  # a healthy node is beside the other in each of the other tests
def test_healthy_nodes(alice: Member) -> None:
    done = alice.type("preflight", job(alice, 4, needs="gpus-per-node = 4"), "--name=r", timeout=120)
    assert done.returncode == 0, (done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Submitted batch job ")
    assert [line.split()[0] for line in lines[1:]] == ["node", "node1", "node2", "node3", "node4"]
    assert all(line.endswith("4/4   ok") for line in lines[2:]), done.stdout
    assert "submit a.toml --name r" in done.stderr
    pairs = said(alice)["pairs"]
    assert len({(pair["source"], pair["target"]) for pair in pairs}) == len(pairs) == 12
    assert all(pair["latency"] and pair["bandwidth"] for pair in pairs)
    assert "trains" not in alice.ok("logs", "r")
    # the run is not a preflight's for ever
    alice.ok("submit", "a.toml", "--name=r", "--wait", "--set=preflight=true", timeout=120)
    logs = alice.ok("logs", "r")
    assert logs.count("trains on node") == 4
    assert logs.count("tasks registered; preflight") == 1


def test_a_slow_node_is_named_and_left_out(alice: Member, on_node3: Callable[..., Any]) -> None:
    with on_node3("tc qdisc add dev eth0 root tbf rate 16mbit burst 64k latency 200ms", "tc qdisc del dev eth0 root"):
        done = alice.type("submit", job(alice, more="preflight = true"), "--name=r", "--wait", timeout=120)
    assert done.returncode == 76, done.stderr
    (point,) = alice.status("r")
    assert point["reason_words"].startswith("preflight: node3 sends "), point
    assert list(said(alice)["reasons"]) == ["node3"]
    assert "trains" not in alice.ok("logs", "r")
    resubmitted = alice.type("resubmit", "r", "--wait", timeout=120)
    assert resubmitted.returncode == 0, resubmitted.stderr
    assert "slurm-tf: excludes node3: sends " in resubmitted.stderr
    assert alice.ok("logs", "r").count("trains on node4") == 1
    # with the user's own
    refused = alice.type("submit", "a.toml", "--name=r", "--dry-run", "--exclude=node[1-2]")
    assert "#SBATCH --exclude=node[1-2],node3\n" in refused.stdout
    again = alice.type("submit", "a.toml", "--name=r", "--wait", "--forget-bad-nodes", timeout=120)
    assert again.returncode == 0, again.stderr
    assert "excludes" not in again.stderr
    assert alice.ok("logs", "r").count("trains on node3") == 1


@pytest.mark.usefixtures("iptables")
def test_a_node_that_others_do_not_reach_is_named_and_left_out(alice: Member, on_node3: Callable[..., Any]) -> None:
    # what Slurm says to its own daemon still comes through
    rule = f"INPUT -s {address('node1')},{address('node2')} -p tcp --syn ! --dport 6818 -j DROP"
    with on_node3(f"iptables -A {rule}", f"iptables -D {rule}"):
        done = alice.type("preflight", job(alice), "--name=r", timeout=200)
    assert done.returncode == 76, (done.stdout, done.stderr)
    assert said(alice)["reasons"] == {"node3": "no connection with node1, node2: timed out"}
    assert "node3  " in done.stdout
    check_next_attempt(alice)


@pytest.mark.long  # what is made of such answers: launch/nodes/test_diagnosis.py and test_preflight.py
def test_a_node_that_does_not_see_what_others_write_is_named(alice: Member, on_node3: Callable[..., Any]) -> None:
    alice.ok("preflight", job(alice), "--name=r", timeout=120)
    probes = alice.folder / "runs" / "r" / "preflight"
    owner = f"uid={USER_IDS['alice']},mode=700"
    with on_node3(f"mount -t tmpfs -o {owner} tmpfs {probes}", f"umount {probes}"):
        done = alice.type("preflight", "a.toml", "--name=r", timeout=200)
    assert done.returncode == 76, (done.stdout, done.stderr)
    assert said(alice)["reasons"] == {"node3": "does not share the run's folder with node1, node2"}
    check_next_attempt(alice)


def test_a_node_that_lacks_a_gpu_is_named(alice: Member, on_node3: Callable[..., Any]) -> None:
    text = job(alice, more="preflight = true", needs="gpus-per-node = 4")
    with on_node3("mv /dev/nvidia2 /dev/broken", "mv /dev/broken /dev/nvidia2"):
        done = alice.type("submit", text, "--name=r", "--wait", timeout=120)
    assert done.returncode == 76, alice.ok("logs", "r")
    assert said(alice)["reasons"] == {"node3": "has 3 GPUs of 4"}
    check_next_attempt(alice)


def test_bad_nodes_of_a_heterogeneous_job_are_left_out_of_all_of_it(alice: Member) -> None:
    alice.write(
        "h.toml",
        'name = "h"\nstrategy = "ps"\njoin = "optional"\ncommand = ["true"]\n[roles.chief]\n[roles.ps]\n'
        '[roles.worker]\npartition = "cpu"\n',
    )
    alice.submit("h.toml", "--name=r", "--hold")
    alice.ok("cancel", "r")
    bad = {"contract": 1, "nodes": {"node2": {"reason": "has 3 GPUs of 4", "at": 0.0}}, "hung": {}, "slow": {}}
    Path(alice.folder / "runs" / "r" / "bad_nodes.json").write_text(json.dumps(bad))
    number = alice.submit("h.toml", "--name=r", "--hold")
    rows = alice.run("scontrol", "--oneliner", "show", "job", number).splitlines()
    assert ["ExcNodeList=node2 " in row for row in rows] == [True] * 2
    alice.ok("cancel", "r")
    resubmitted = alice.ok("resubmit", "r", "--parsable").strip()
    rows = alice.run("scontrol", "--oneliner", "show", "job", resubmitted).splitlines()
    assert ["ExcNodeList=node2 " in row for row in rows] == [True] * 2
