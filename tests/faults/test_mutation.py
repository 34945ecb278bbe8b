"""Whether the matrix would see it: with checkpoints that are plain writes it fails."""

import pytest

from tests.conftest import ROOT
from tests.faults.table import CELLS
from tests.faults.trainings import Trainings

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

PLAIN = str(ROOT / "tests" / "programs" / "plain.py")
CELL = next(cell for cell in CELLS if str(cell) == "SIGKILL-save-chief")


def test_checkpoints_that_are_plain_writes_fail(trainings: Trainings) -> None:
    run = trainings.make("multi_worker", program=(PLAIN,))
    run.submit()
    run.settle()
    # it trains, and saves
    run.allow(2)
    run.settle()
    run.wait("a checkpoint", lambda: run.pointer() == 2)
    trainings.take(run)
    with pytest.raises(AssertionError, match=r"step-\d+: .*MANIFEST.json"):
        trainings.strike(CELL)
    # the same fault, and the same oracle
    trainings.strike(CELL)
