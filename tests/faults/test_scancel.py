"""Cancels, in all ways in which a user can: saved, and never started again."""

import pytest

from tests.faults.table import REST, Cell
from tests.faults.trainings import Trainings

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 160
FAULTS = [cell for cell in REST if cell.signal == "scancel"]


@pytest.mark.parametrize("cell", FAULTS, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


@pytest.mark.parametrize("strategy", ["multi_worker", "ps"])
def test_they_end_as_trainings_that_were_left_alone(strategy: str, trainings: Trainings) -> None:
    trainings.check(strategy)


def test_what_was_cancelled_is_gone(trainings: Trainings) -> None:
    trainings.check_cancelled()
