"""Some of the faults: each signal, each phase, and each target but a parameter server."""

import pytest

from tests.faults.table import CELLS, PHASES, SIGNALS, TARGETS, Cell
from tests.faults.trainings import Trainings

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.timeout(900)]

STEPS = 60
# what is cancelled comes first: it is looked at three minutes later
SOME = sorted((cell for cell in CELLS if cell.representative), key=lambda cell: cell.signal != "scancel")


def test_they_are_representative() -> None:
    assert {cell.signal for cell in SOME} == set(SIGNALS)
    assert {cell.phase for cell in SOME} == set(PHASES)
    assert {cell.target for cell in SOME} == set(TARGETS) - {"ps"}


@pytest.mark.parametrize("cell", SOME, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


def test_they_end_as_a_training_that_was_left_alone(trainings: Trainings) -> None:
    trainings.check("multi_worker")


def test_what_was_cancelled_is_gone(trainings: Trainings) -> None:
    trainings.check_cancelled()
