"""A node on which a task is slow, on a real Slurm: left out of the next attempt, and back if the task is at fault."""

import re

import pytest

from tests.cluster.group import Member
from tests.cluster.test_bad_nodes import WITHOUT
from tests.cluster.test_interrupted_training import Training
from tests.faults.held import program_of
from tests.jobs.test_stragglers import slowed_down

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

TABLES = '[watch]\nstraggler-factor = 2\nstraggler-time = "0:08"\n[checkpoint]\nevery = "1:00:00"'
SLOW = r"worker:1 on (node\d) is slow: it works \S+ s by itself in each step, "


def slow_down(run: Training, number: int) -> str:
    """Hold up the second task of the attempt of this number, and interrupt it; return the task's node."""
    run.wait_for("worker:1 started on ", number)
    run.wait_for(r"\[worker:0\] step", len(run.steps()) + 5, timeout=120)
    pid = program_of(run.folder, "worker:1")
    assert pid
    with slowed_down(pid):
        run.wait_for(SLOW, number, timeout=120)
        run.member.ok("interrupt", run.name, "--as=preemption")
        run.wait_for("waits to be started again", number, timeout=120)
    return str(re.findall(SLOW, run.output)[-1])


def excluded(run: Training) -> str:
    return run.member.run("squeue", "--noheader", "--states=all", f"--jobs={run.job}", "--format=%x").strip()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_slow_node_is_left_out_until_its_task_is_slow_elsewhere_too(alice: Member) -> None:
    run = Training(alice, "slow", epochs=500, pause=0.05, how="loop", tables=TABLES)
    first = slow_down(run, 1)
    run.wait_for(f"{first} is a bad node: worker:1 works .* times the .* of the others, for ")
    run.wait_for(WITHOUT + first)
    assert excluded(run) == first
    (point,) = alice.status("slow")
    assert re.match(r"worker:1 works \S+ s by itself in each step, ", point["bad_nodes"][first]["reason"])
    run.start_again()
    second = slow_down(run, 2)
    assert second != first
    run.wait_for(f"worker:1 is slow on {first}, {second}: by itself, and none of them is a bad node for that")
    (point,) = alice.status("slow")
    assert point["bad_nodes"] == {}
    assert excluded(run) == first
    alice.ok("cancel", "slow")
