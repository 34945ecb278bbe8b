"""Faults of a training in one task."""

import pytest

from tests.faults.table import REST, Cell
from tests.faults.trainings import Trainings

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 160
FAULTS = [cell for cell in REST if cell.strategy == "single"]


@pytest.mark.parametrize("cell", FAULTS, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


def test_it_ends_as_a_training_that_was_left_alone(trainings: Trainings) -> None:
    trainings.check("single")
