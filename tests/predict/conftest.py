"""Fixtures of batch prediction."""

from pathlib import Path

import pytest

from tests.predict import models


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with one version."""
    return models.write(tmp_path_factory.mktemp("models"))
