"""Tasks on several nodes train one model, on every sample once an epoch, as one process does: also when one dies."""

import re
import time
from collections import Counter
from typing import Any

import pytest

from tests import oracle
from tests.cluster.group import Member
from tests.cluster.test_training import cluster
from tests.horovod import require
from tests.oracle import Training

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

RUN = "oracle-1"
WAYS = {
    "gloo": ("horovod", ["horovod.controller=gloo"]),
    "mpi": ("horovod", ["horovod.controller=mpi"]),
    "multi_worker": ("multi_worker", []),
}
ON_NODES = {3: [1, 2], 4: [1, 1, 1, 1]}


@pytest.fixture(autouse=True)
def _horovod(request: pytest.FixtureRequest) -> None:
    way = request.node.callspec.params["way"]
    if way != "multi_worker":
        require(mpi=way == "mpi")


def case(way: str, loop: str, *more: Any, long: bool) -> Any:
    if way == "mpi":
        return pytest.param(way, loop, *more, marks=[pytest.mark.mpi])
    return pytest.param(way, loop, *more, marks=[pytest.mark.long] if long else [])


def submit(member: Member, way: str, loop: str, tasks: int, *options: str, budget: int = 0, change: str = "") -> str:
    """Submit the oracle's program; return the job's id."""
    strategy, more = WAYS[way]
    member.write("recorded.py", oracle.PROGRAM.read_text())
    changed = member.write("changed.py", oracle.CHANGED.format(change=change)) if change else ""
    words = ["--loop", loop, *options]
    member.write("oracle.toml", oracle.job(strategy, tasks, *words, changed=changed, program="recorded.py"))
    # a run that has saved would be put back after a bad end
    more = [*more, "retry.unknown=0"]
    sets = [f"roles.worker.ntasks-per-node={max(ON_NODES[tasks])}", f"launch.max-restarts={budget}", *more]
    return member.submit("oracle.toml", *[word for each in sets for word in ("--set", each)])


def train(
    member: Member, way: str, loop: str, tasks: int, *options: str, budget: int = 0, change: str = ""
) -> Training:
    """Train to the end; return what the ranks did."""
    number = submit(member, way, loop, tasks, *options, budget=budget, change=change)
    waited = member.type("wait", RUN, timeout=240)
    assert waited.returncode == 0, member.ok("logs", RUN)
    assert member.sacct(number) == ["COMPLETED"]
    nodes = Counter(task["node"] for task in cluster(member, RUN))
    assert sorted(nodes.values()) == ON_NODES[tasks]
    return oracle.read(member.folder / "runs" / RUN)


@pytest.mark.parametrize(
    ("way", "loop", "tasks"),
    [
        # `make test` shows that nodes have the bits of one machine (tests/faults/test_representative.py), and that it
        # equals one process (tests/jobs/test_oracle.py)
        case(way, loop, tasks, long=True)
        for way in WAYS for loop in ("fit", "own") for tasks in ON_NODES
    ],
)  # fmt: skip
def test_ranks_train_one_model_as_one_process_does(way: str, loop: str, tasks: int, alice: Member) -> None:
    """3 ranks: two on one node, one on another, and none of them has an equal part of the last batch."""
    oracle.check(train(alice, way, loop, tasks), oracle.alone("--loop", loop), tasks)


@pytest.mark.parametrize(
    ("way", "loop"),
    [case(way, loop, long=True) for way in WAYS for loop in ("fit", "own")],
)
def test_without_the_reduction_that_is_found_out(way: str, loop: str, alice: Member) -> None:
    """On one machine: tests/jobs/test_cnn.py and test_horovod.py."""
    training = train(alice, way, loop, 3, change=oracle.NO_REDUCTION[WAYS[way][0]])
    oracle.check_starts(training, 3)
    oracle.check_samples(training)
    with pytest.raises(AssertionError, match="rank 1 has not rank 0's bits in"):
        oracle.check_equal(training, 3)
    with pytest.raises(AssertionError, match=r"^step \d+: loss"):
        oracle.check_curve(training, oracle.alone("--loop", loop))


@pytest.mark.long
@pytest.mark.parametrize("way", ["multi_worker"])
def test_a_killed_worker_ends_the_others_and_is_named(way: str, alice: Member) -> None:
    """Horovod's ranks: tests/cluster/test_horovod.py."""
    number = submit(alice, way, "fit", 3, "--die", "2", "20")
    waited = alice.type("wait", RUN, timeout=240)
    ended = time.time()
    killed = float((alice.folder / "runs" / RUN / "oracle" / "killed").read_text())
    assert ended - killed <= 60
    text = alice.ok("logs", RUN)
    assert waited.returncode == 128 + 9, text
    assert "worker:2 on" in alice.ok("status", RUN)
    assert re.search(r"the job failed: worker:2 on \S+ was ended by signal 9 \(SIGKILL\)", text), text
    assert alice.sacct(number) == ["FAILED"]


@pytest.mark.parametrize(
    ("way", "loop"),
    [*(case("multi_worker", loop, long=True) for loop in ("fit", "own")), case("gloo", "own", long=True)],
)
def test_with_a_budget_all_start_again_and_no_sample_is_lost_or_seen_twice(way: str, loop: str, alice: Member) -> None:
    """What was done after the checkpoint is done again, so it counts once."""
    tasks = 3
    training = train(alice, way, loop, tasks, "--die", str(tasks - 1), "27", budget=1)
    firsts = [process.first for process in training.processes]
    assert sorted(firsts)[:tasks] == [0] * tasks
    assert 0 < min(firsts[tasks:]) == max(firsts[tasks:]) <= 33
    assert len(firsts) == 2 * tasks
    oracle.check(training, oracle.alone("--loop", loop), tasks)
