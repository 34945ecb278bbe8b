"""Faults of the cluster around a training: its nodes' links, Slurm's daemons, programs that never go on."""

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.held import Held, daemon, is_stopped
from tests.faults.strike import node_dies
from tests.faults.trainings import Trainings
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]


def end_daemon(pid: int) -> None:
    """End one of Slurm's daemons as an administrator does."""
    os.kill(pid, signal.SIGTERM)
    linux.wait_until("the daemon has ended", lambda: not os.path.exists(f"/proc/{pid}/fd/0"))


def ends_well(run: Held, trainings: Trainings) -> None:
    assert run.finish() == trainings.whole(run.strategy), run.story()


@pytest.fixture
def run(trainings: Trainings) -> Iterator[Held]:
    """Return a training in two tasks, which waits in a step after some checkpoints."""
    made = trainings.make("multi_worker")
    made.submit()
    made.allow(5)
    made.settle()
    yield made
    made.member.run("scancel", made.job, check=False)


# --- nodes ---


@pytest.mark.parametrize("task", ["chief:0", "worker:0"])
def test_a_node_dies(task: str, run: Held, trainings: Trainings) -> None:
    node_dies(run, task)
    ends_well(run, trainings)


def link(sandbox: Sandbox, node: str, state: str) -> None:
    sandbox.run("ip", "link", "set", f"v-{node}", state, user="root")


@pytest.mark.parametrize("healed", [False, True], ids=["while it is cut", "after it is healed"])
def test_a_node_that_was_cut_off_does_not_write_beside_its_successor(
    healed: bool, trainings: Trainings, sandbox: Sandbox
) -> None:
    run = trainings.make("single")
    run.submit()
    run.allow(4)
    run.settle()
    run.wait("a checkpoint", lambda: run.committed() == 4)
    node, old = run.batch_host, run.pid("worker:0")
    assert old
    link(sandbox, node, "down")
    try:
        sandbox.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=cut", user="root")
        run.wait_for_state("PENDING")
        time.sleep(2)  # as in start_again, where the job has left its nodes
        run.member.run("scontrol", "update", f"JobId={run.job}", "StartTime=now")
        run.lives += 1
        run.settle()
        assert run.batch_host != node
        assert run.begun("worker:0") == [0, 4]
        assert os.path.exists(f"/proc/{old}/fd/0"), "the old program has not survived the cut"
        if healed:
            link(sandbox, node, "up")
        # both do the same steps, and both are to save them
        run.allow(6)
        run.wait("the old program has ended", lambda: not os.path.exists(f"/proc/{old}/fd/0"))
        run.settle()
        run.wait("a checkpoint", lambda: run.committed() == 6)
    finally:
        link(sandbox, node, "up")
    if not healed:
        fenced = f"another attempt has taken over: .* names {run.job}.1, this is {run.job}.0"
        assert re.search(fenced, run.log("worker:0")), run.story()
    assert [row["last"] for row in run.attempts()] == [4, 6], run.story()
    sandbox.run("scontrol", "update", f"NodeName={node}", "State=RESUME", user="root", check=False)
    ends_well(run, trainings)


# --- Slurm's daemons ---


def test_slurmctld_is_restarted(run: Held, trainings: Trainings, sandbox: Sandbox) -> None:
    end_daemon(daemon(sandbox, "login", "slurmctld"))
    before = run.pids()
    run.allow(run.until + 3)
    run.settle()
    assert run.pids() == before
    said, coordinator = len(run.output()), run.coordinator()
    assert coordinator
    os.kill(coordinator, signal.SIGUSR1)
    run.let_save()
    try:
        run.wait("saved", lambda: re.search(r"timeout: all of step \d+ is saved|timeout: .*saved", run.output()[said:]))
    finally:
        sandbox.run("slurmctld", user="root")
    run.start_again()
    run.settle()
    assert run.attempts()[0]["cause"] == "timeout"
    ends_well(run, trainings)


def test_a_cancel_while_slurmctld_does_not_answer_a_requeue(run: Held, trainings: Trainings, sandbox: Sandbox) -> None:
    slurmctld, coordinator, done = daemon(sandbox, "login", "slurmctld"), run.coordinator(), run.until
    assert coordinator
    os.kill(slurmctld, signal.SIGSTOP)
    try:
        os.kill(coordinator, signal.SIGUSR1)
        run.let_save()
        # whose end is written just before Slurm is asked
        run.wait("it is to be put back", lambda: run.attempts()[-1]["ended"])
        assert run.attempts()[-1]["cause"] == "timeout"
        assert not any(run.pid(task) for task in run.programs)
        os.kill(coordinator, signal.SIGTERM)
    finally:
        os.kill(slurmctld, signal.SIGCONT)
    assert run.wait_for_state("FAILED", "CANCELLED", "PENDING") == "FAILED", run.story()
    assert run.attempts()[-1]["cause"] == "cancel"
    run.cancelled[run.job] = time.monotonic(), 0
    run.submit()
    run.settle()
    assert all(run.begun(task)[-1] >= done for task in run.trainers)
    ends_well(run, trainings)


@pytest.mark.parametrize("task", ["chief:0", "worker:0"])
def test_slurmd_is_restarted(task: str, run: Held, trainings: Trainings, sandbox: Sandbox) -> None:
    node, before = run.node(task), run.pids()
    end_daemon(daemon(sandbox, node, "slurmd"))
    run.allow(run.until + 3)
    run.settle()
    sandbox.run("slurmd", "-N", node, user="root", node=node)
    run.allow(run.until + 3)
    run.settle()
    assert run.pids() == before
    coordinator = before["batch"]
    assert coordinator
    os.kill(coordinator, signal.SIGUSR1)
    run.let_save()
    run.start_again()
    run.settle()
    assert run.attempts()[0]["cause"] == "timeout"
    ends_well(run, trainings)


# --- programs that nobody continues ---


@pytest.mark.parametrize(
    ("strategy", "task"),
    [("single", "worker:0"), ("multi_worker", "chief:0"), ("multi_worker", "worker:0"), ("ps", "ps:0")],
)
def test_a_program_that_stays_stopped_is_hung(strategy: str, task: str, trainings: Trainings) -> None:
    run = trainings.make(strategy, '[watch]\nstep = "0:20"\n')
    # what another test has left would keep the nodes
    run.member.run("scancel", f"--user={run.member.user}", check=False)
    run.submit()
    run.allow(4)
    run.settle()
    run.wait("a checkpoint", lambda: run.committed() == 4)
    pid = run.pid(task)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    run.wait("it is stopped", lambda: is_stopped(pid))
    run.allow(run.until + 3)
    run.lives += 1
    run.settle()
    seen = r"makes no progress for 20 s in phase train, after step \d+: it is killed"
    # TensorFlow looks after its peers as well, and may be the first to see it
    words = [f"{each} {seen}" for each in run.trainers]
    words += [f"{each} on {run.node(each)} ended with exit code 1" for each in run.trainers if len(run.trainers) > 1]
    assert any(re.search(each, run.output()) for each in words), run.output()
    assert "all tasks are started again in place (restart 1 of 99)" in run.output()
    assert not os.path.exists(f"/proc/{pid}/fd/0")
    assert {run.begun(each)[-1] for each in run.trainers} == {4}
    bits = run.finish()
    assert strategy == "ps" or bits == trainings.whole(strategy)


def test_what_was_cancelled_is_gone(trainings: Trainings) -> None:
    trainings.check_cancelled()
