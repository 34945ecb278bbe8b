"""Faults of parameter servers, and of the chief and worker that they serve."""

import pytest

from tests.faults.table import ABSENTEES, REST, Cell
from tests.faults.trainings import Trainings

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 160
FAULTS = [cell for cell in REST if cell.strategy == "ps" and cell.signal != "scancel"]


@pytest.mark.parametrize("cell", FAULTS, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


def test_while_the_job_is_put_back_no_program_is_there(trainings: Trainings) -> None:
    trainings.strike(ABSENTEES["ps"])


def test_it_ends_as_a_training_that_was_left_alone(trainings: Trainings) -> None:
    trainings.check("ps")
