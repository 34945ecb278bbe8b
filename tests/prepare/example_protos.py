"""TensorFlow's classes of tf.train.Example and its parts, without an import of TensorFlow, which takes seconds."""

import functools
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any
from unittest import mock


@functools.cache
def protos() -> tuple[Any, Any]:
    """Return the modules example_pb2 and feature_pb2 of the TensorFlow that is installed."""
    found = importlib.util.find_spec("tensorflow")
    assert found and found.submodule_search_locations
    package = ModuleType("tensorflow")
    package.__path__ = list(found.submodule_search_locations)
    with mock.patch.dict(sys.modules, {"tensorflow": package}):
        example = importlib.import_module("tensorflow.core.example.example_pb2")
        return example, importlib.import_module("tensorflow.core.example.feature_pb2")
