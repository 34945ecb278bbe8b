"""Faults where Slurm tracks processes by their parents: what it sends to a task reaches the program as well."""

import os
import signal
import time

import pytest

from tests.faults.conftest import NODES, PATIENT
from tests.faults.table import CELLS, Cell
from tests.faults.trainings import Trainings
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 160
IN_A_SAVE = [cell for cell in CELLS if cell.phase == "save" and cell.signal != "scancel" and cell.strategy != "single"]


@pytest.fixture(scope="module")
def shape() -> Shape:
    return Shape(nodes=NODES, proctrack="linuxproc", slurm_conf=PATIENT)


@pytest.mark.parametrize("cell", IN_A_SAVE, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


def test_a_preemption(trainings: Trainings, sandbox: Sandbox) -> None:
    run = trainings.run("multi_worker")
    coordinator = run.coordinator()
    assert coordinator
    os.kill(coordinator, signal.SIGUSR1)
    run.let_save()
    run.wait_for_state("PENDING")
    # which a job may change as long as it waits
    run.member.run("scontrol", "update", f"JobId={run.job}", "QOS=scavenge")
    run.start_again()
    run.settle()
    done = run.until
    nodes = sorted({run.node(task) for task in run.programs})
    # no others: another training is on those
    argv = ("srun", "--qos=urgent", f"--nodelist={','.join(nodes)}", f"-N{len(nodes)}", "--exclusive", "true")
    urgent = sandbox.popen(*argv, user="bob")
    try:
        run.wait("the preemption", lambda: "preemption: " in run.output())
        run.let_save()
        run.start_again()
        run.settle()
    finally:
        urgent.wait(60)
    assert run.attempts()[-2]["cause"] == "preemption"
    assert all(run.begun(task)[-1] >= done for task in run.trainers), run.story()


def test_a_scancel(trainings: Trainings) -> None:
    """It reaches srun, which may kill the tasks before they have saved: what was committed stays."""
    run = trainings.run("multi_worker")
    run.allow(run.until + 3)
    run.settle()
    committed, job = run.committed(), run.job
    assert committed
    run.member.run("scancel", job)
    run.let_save()
    assert run.wait_for_state("CANCELLED", "FAILED") == "CANCELLED"
    run.wait("no process is left", lambda: not list(run.processes()))
    assert run.attempts()[-1]["cause"] == "cancel", run.story()
    run.cancelled[job] = time.monotonic(), int(run.attempts()[-1]["id"].rpartition(".")[2])
    run.submit()
    run.settle()
    assert all(run.begun(task)[-1] >= committed for task in run.trainers)


@pytest.mark.parametrize("strategy", ["multi_worker", "ps"])
def test_they_end_as_trainings_that_were_left_alone(strategy: str, trainings: Trainings) -> None:
    trainings.check(strategy)


def test_what_was_cancelled_is_gone(trainings: Trainings) -> None:
    trainings.check_cancelled()
