"""A real Slurm for the tests of this folder; it goes when pytest does, however pytest ends."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.group import Member
from tests.sandbox import needs
from tests.sandbox.cluster import Sandbox, take_down
from tests.sandbox.shape import Shape


def require(shape: Shape) -> None:
    """Skip the test where no such sandbox can be; fail it on CI, where one has to be."""
    try:
        needs.check(shape)
    except needs.MissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for a sandbox of the test's own; whatever is up in it at the end goes."""
    path = Path(tempfile.mkdtemp(prefix="stf-"))
    yield path
    take_down(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(folder: Path) -> Callable[[Shape], Sandbox]:
    """Start a sandbox of the test's own."""

    def up(shape: Shape) -> Sandbox:
        require(shape)
        return Sandbox.up(folder, shape, bound=True)

    return up


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Return the cluster that all tests share: leave its nodes up and its queue empty."""
    require(Shape())
    running = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), Shape(), bound=True)
    yield running
    running.down()


@pytest.fixture
def iptables(sandbox: Sandbox) -> None:
    """Skip the test where nodes have no packet filter; fail it on CI, where they have to."""
    done = sandbox.run("iptables", "-w", "-nL", "OUTPUT", user="root", node="node1", check=False)
    if done.returncode == 0:
        return
    lacking = f"{done.stderr.strip()}; needed: apt-get install --no-install-recommends iptables"
    if os.environ.get("CI") == "true":
        pytest.fail(lacking)
    pytest.skip(lacking)


@pytest.fixture
def member(sandbox: Sandbox, tmp_path: Path) -> Iterator[Callable[[str], Member]]:
    """Return a user at work in a folder of the test's own; what is in the queue at the end is cancelled."""
    members = []

    def make(user: str) -> Member:
        members.append(Member(sandbox, user, sandbox.shared / f"{tmp_path.name}-{user}"))
        return members[-1]

    yield make
    for each in members:
        sandbox.run("scancel", f"--user={each.user}", user=each.user)


@pytest.fixture
def alice(member: Callable[[str], Member]) -> Member:
    """Return an ordinary user."""
    return member("alice")
