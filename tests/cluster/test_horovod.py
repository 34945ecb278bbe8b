"""Horovod on a real Slurm, over Gloo and MPI: deaths, names and strangers. Its results: test_oracle.py."""

import json
import re
import sys
import time

import pytest

from tests.cluster.group import Member
from tests.conftest import CHECKSUM
from tests.horovod import require

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

RANKS = r"^\[worker:\d\] rank (\d): \d+ variables, checksum (\w+)$"
# a global batch for 3 tasks and for 4
SHORT = ["python", CHECKSUM, "cnn.py", "--epochs", "2", "--batch-size", "48"]
CONTROLLERS = ["gloo", pytest.param("mpi", marks=pytest.mark.mpi)]
JOB = """
name = "a"
strategy = "horovod"
command = {command}
time = "00:20:00"
[horovod]
controller = "{controller}"
[roles.worker]
count = {tasks}
ntasks-per-node = {per_node}
cpus-per-task = 1
mem-per-cpu = "2G"
[checkpoint]
every-steps = 100
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
# ranks that wait for each other would keep a processor that others need
OMPI_MCA_mpi_yield_when_idle = "1"
"""


@pytest.fixture(autouse=True)
def _horovod(request: pytest.FixtureRequest) -> None:
    require(mpi="mpi" in request.node.name)


def submit(member: Member, controller: str, tasks: int, per_node: int, *more: str, command: list[str] = SHORT) -> str:
    """Submit a program, by default the CNN; return the job's id. The run is a-1."""
    member.take_jobs()
    values = {"command": json.dumps(command), "controller": controller, "tasks": tasks, "per_node": per_node}
    return member.submit(
        member.write("a.toml", JOB.format(**values)), *[word for each in more for word in ("--set", each)]
    )


def nodes(member: Member) -> list[str]:
    tasks = json.loads((member.folder / "runs" / "a-1" / "cluster.json").read_text())["tasks"]
    return [task["node"] for task in tasks]


def wait_for_output(member: Member, pattern: str) -> "re.Match[str]":
    """Wait until the job has printed `pattern`; return the last."""
    deadline = time.monotonic() + 120
    while True:
        text = "".join(path.read_text() for path in (member.folder / "runs").glob("*/logs/slurm-*.out"))
        found = list(re.finditer(pattern, text, re.MULTILINE))
        if found:
            return found[-1]
        assert time.monotonic() < deadline, text
        time.sleep(0.2)


def kill_one(member: Member) -> float:
    """Kill the rank that is alone on its node once it trains; return when."""
    wait_for_output(member, r"step \d+/\d+  epoch 1/")
    task = wait_for_output(member, r"^slurm-tf: worker:2 started on (\S+) \(process (\d+)\)")
    member.sandbox.run("kill", "-9", task[2], user=member.user, node=task[1])
    return time.monotonic()


LONG = [*SHORT[:4], "4", *SHORT[5:]]


@pytest.mark.long  # without TensorFlow: tests/launch/test_job.py; a killed rank that starts again: test_oracle.py
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_killed_rank_ends_the_others_and_is_named(controller: str, alice: Member) -> None:
    number = submit(alice, controller, 3, 2, command=LONG)
    killed = kill_one(alice)
    waited = alice.type("wait", "a-1", timeout=120)
    assert time.monotonic() - killed <= 60
    assert waited.returncode == 128 + 9
    assert "worker:2 on" in alice.ok("status", "a-1")
    wait_for_output(alice, r"the job failed: worker:2 on \S+ was ended by signal 9 \(SIGKILL\)")
    assert alice.sacct(number) == ["FAILED"]


# its restart on nodes: test_oracle.py
# over MPI a crash of Open MPI at a start is a restart as well
@pytest.mark.parametrize(
    ("controller", "budget", "how"),
    [
        pytest.param("gloo", 1, r"all tasks are started again in place \(restart 1 of 1\)", marks=pytest.mark.long),
        pytest.param("mpi", 3, r"a new step is started \(restart \d of 3\)", marks=pytest.mark.mpi),
    ],
    ids=["gloo", "mpi"],
)
def test_with_a_budget_all_start_again(controller: str, budget: int, how: str, alice: Member) -> None:
    more = (f"launch.max-restarts={budget}", "checkpoint.every-steps=5")
    number = submit(alice, controller, 3, 2, *more, command=LONG)
    kill_one(alice)
    wait_for_output(alice, rf"^slurm-tf: worker:2 on \S+ was ended by signal 9 \(SIGKILL\); {how}$")
    waited = alice.type("wait", "a-1", timeout=240)
    text = alice.ok("logs", "a-1")
    assert waited.returncode == 0, text
    assert alice.sacct(number) == ["COMPLETED"]
    assert re.search(r"resumed at step \d+", text), text
    sums = re.findall(RANKS, text, re.MULTILINE)
    assert len(sums) == 3
    assert len({checksum for _, checksum in sums}) == 1


def test_a_node_whose_name_leads_nowhere_is_named(alice: Member) -> None:
    """Debian's 127.0.1.1: here the node is told another name, of the loopback address."""
    sandbox = alice.sandbox
    sandbox.run("hostname", "localhost", user="root", node="node2")
    try:
        submit(alice, "gloo", 2, 1, 'sbatch.nodelist="node1,node2"')
        waited = alice.type("wait", "a-1", timeout=120)
    finally:
        sandbox.run("hostname", "node2", user="root", node="node2")
    assert waited.returncode == 65
    wait_for_output(alice, r"the job failed: on node2 the node's own name resolves to 127\.0\.0\.1; needed an address")


PUT = """
import http.client, sys
link = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), 10)
try:
    link.request("PUT", "/global/9", b"x")
    print("status", link.getresponse().status)
except (ConnectionError, http.client.BadStatusLine) as error:
    print("refused")
"""
SHOW = "echo meet $HOROVOD_GLOO_RENDEZVOUS_ADDR $HOROVOD_GLOO_RENDEZVOUS_PORT; exec sleep 300"


def test_a_stranger_is_refused_at_the_rendezvous(alice: Member) -> None:
    submit(alice, "gloo", 2, 1, command=["bash", "-c", SHOW])
    where = wait_for_output(alice, r"meet (\S+) (\d+)$")
    put = (sys.executable, "-c", PUT, where[1], where[2])
    # from the login node, which is none of the job's, as somebody else
    assert alice.sandbox.run(*put, user="bob").stdout == "refused\n"
    wait_for_output(alice, r"refused \S+ at Horovod's rendezvous: no node of this job")
    assert alice.sandbox.run(*put, user="alice", node=nodes(alice)[1]).stdout == "status 200\n"


MPI4PY = """
import slurm_tf.train as train
run = train.init()
from mpi4py import MPI
world = MPI.COMM_WORLD
print("mpi4py", run.rank, world.rank, world.size, world.allreduce(run.rank + 1), flush=True)
"""


@pytest.mark.mpi
def test_mpi4py_speaks_beside_horovod_over_mpi(alice: Member) -> None:
    pytest.importorskip("mpi4py")
    alice.write("both.py", MPI4PY)
    submit(alice, "mpi", 3, 2, command=["python", "both.py"])
    waited = alice.type("wait", "a-1", timeout=120)
    text = alice.ok("logs", "a-1")
    assert waited.returncode == 0, text
    found = re.findall(r"^\[worker:\d\] mpi4py (\d) (\d) (\d) (\d)$", text, re.MULTILINE)
    assert sorted(found) == [(str(rank), str(rank), "3", "6") for rank in range(3)], text
