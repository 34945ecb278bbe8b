"""What the tests of serving share: SavedModels, and a replica that serves one with a signature of each kind."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import forkserver
from tests.conftest import ROOT
from tests.serve.running_replica import Replica


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the models of tests/programs/served_models.py."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run(
        [forkserver.python(), str(ROOT / "tests" / "programs" / "served_models.py"), str(folder)],
        cwd=ROOT, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def replica(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """Return a replica of the model `kinds`, over TLS and with a token."""
    running = Replica(tmp_path_factory.mktemp("replica"), {"kinds": models / "kinds"}).ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
