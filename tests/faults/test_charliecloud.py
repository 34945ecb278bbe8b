"""The faults of test_representative.py once more, with programs in an image of Charliecloud that is a folder."""

from collections.abc import Iterator

import pytest

from tests import container_image
from tests.cluster.group import Member
from tests.conftest import ROOT
from tests.faults.conftest import NODES, PATIENT
from tests.faults.table import Cell
from tests.faults.test_representative import SOME, STEPS
from tests.faults.trainings import Trainings
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

SITE = "inherit = 'generic'\n[container]\nruntime = 'charliecloud'\n"


@pytest.fixture(scope="module", params=["cgroup", "linuxproc"])
def shape(request: pytest.FixtureRequest) -> Shape:
    """Return a cluster that finds a job's processes by its cgroup, and one that finds them by their parents."""
    return Shape(nodes=NODES, proctrack=request.param, slurm_conf=PATIENT)


@pytest.fixture(scope="module")
def trainings(sandbox: Sandbox) -> Iterator[Trainings]:
    container_image.require()
    folder = sandbox.shared / "faults"
    mounts = [f"{ROOT}:{ROOT}:ro", str(folder), container_image.site_mount()]
    member = Member(sandbox, "alice", folder)
    container = f"[container]\nimage = '{container_image.folder()}'\nmounts = {mounts}\n"
    made = Trainings(member, STEPS, container, (f"--site=./{member.write('site.toml', SITE)}",))
    yield made
    made.end()


@pytest.mark.parametrize("cell", SOME, ids=str)
def test_fault(cell: Cell, trainings: Trainings) -> None:
    trainings.strike(cell)


def test_they_end_with_the_bits_of_a_training_without_a_container(trainings: Trainings) -> None:
    trainings.check("multi_worker")


def test_nothing_is_left(trainings: Trainings) -> None:
    trainings.check_cancelled()
    trainings.check_gone()
