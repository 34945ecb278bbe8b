"""Whether the tests' own Python has tf_keras."""

import importlib.util
import os

import pytest


def require() -> None:
    """Skip the test where there is none; fail it on CI, where it has to be."""
    if importlib.util.find_spec("tf_keras"):
        return
    lacking = "found no tf_keras; needed: make test, or pip install --no-deps tf_keras of TensorFlow's minor version"
    if os.environ.get("CI") == "true":
        pytest.fail(lacking)
    pytest.skip(lacking)
