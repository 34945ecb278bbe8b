"""Some of the faults: each signal, each phase, each target, and a node that dies."""

import pytest

from tests.faults.strike import node_dies
from tests.faults.table import CELLS, PHASES, SIGNALS, TARGETS, Cell
from tests.faults.trainings import Trainings

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.timeout(900)]

STEPS = 60
# what is cancelled comes first: it is looked at three minutes later
SOME = sorted((cell for cell in CELLS if cell.representative), key=lambda cell: cell.signal != "scancel")


def test_they_are_representative() -> None:
    assert {cell.signal for cell in SOME} == set(SIGNALS)
    assert {cell.phase for cell in SOME} == set(PHASES)
    assert {cell.target for cell in SOME} == set(TARGETS)


@pytest.mark.parametrize("cell", SOME, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


def test_a_node_dies(trainings: Trainings) -> None:
    node_dies(trainings.run("multi_worker"), "worker:0")


@pytest.mark.parametrize("strategy", ["multi_worker", "ps"])
def test_they_end_as_trainings_that_were_left_alone(strategy: str, trainings: Trainings) -> None:
    trainings.check(strategy)


def test_what_was_cancelled_is_gone(trainings: Trainings) -> None:
    trainings.check_cancelled()
