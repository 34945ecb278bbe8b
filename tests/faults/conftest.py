"""A cluster for each file of this folder."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import require
from tests.cluster.group import Member
from tests.faults.trainings import Trainings
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

# Who was cancelled may be slow to save; a slurmd that is stopped for a while is not a dead one.
# Two trainings at once, a node that dies.
NODES = 6
PATIENT = ("KillWait=30", "SlurmdTimeout=120")


@pytest.fixture(scope="module")
def shape() -> Shape:
    """Return what cluster to make; a file may have its own."""
    return Shape(nodes=NODES, slurm_conf=PATIENT)


@pytest.fixture(scope="module")
def sandbox(shape: Shape) -> Iterator[Sandbox]:
    """Return a cluster for the tests of one file."""
    require(shape)
    if not shutil.which("strace"):
        pytest.skip("no strace to slow a save with")
    running = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), shape, bound=True)
    yield running
    running.down()


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest) -> int:
    """Return how long a training is: STEPS of a file in which one has many faults, each of five at most."""
    return int(getattr(request.module, "STEPS", 40))


@pytest.fixture(scope="module")
def trainings(sandbox: Sandbox, steps: int) -> Iterator[Trainings]:
    """Return the trainings of one file."""
    made = Trainings(Member(sandbox, "alice", sandbox.shared / "faults"), steps)
    yield made
    made.end()
