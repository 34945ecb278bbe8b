"""slurm_tf.client and a real replica: over gRPC as over REST, whatever the types are."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm_tf import client
from slurm_tf.client import Model
from slurm_tf.errors import ServiceError
from tests.conftest import PYTHONPATH
from tests.serve.running_replica import Replica

pytestmark = pytest.mark.tensorflow


@pytest.fixture(params=["grpc", "rest"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the client ask over gRPC, or as where that is not installed."""
    assert client.has_grpc()
    if request.param == "rest":
        monkeypatch.setattr(client, "has_grpc", lambda: False)
    return str(request.param)


def model(replica: Replica, **more: Any) -> Model:
    return Model("kinds", service=str(replica.folder), **more)


def test_both_ways_answer_the_same(replica: Replica, way: str) -> None:
    import numpy as np

    asked = model(replica)
    for inputs in (np.array([2, 4], np.float32), [2.0, 4], (2, 4), {"x": [2, 4]}, np.array([2, 4], np.int64)):
        found = asked.predict(inputs)
        assert (found.tolist(), found.dtype) == ([3, 4], np.float32)
    assert bool(asked._channels) == (way == "grpc")

    pair = model(replica, signature="pair").predict({"a": [[0.5, 1]], "b": [3]})
    assert {name: (each.tolist(), each.dtype.kind) for name, each in pair.items()} == {
        "sum": ([1.5], "f"),
        "double": ([6], "i"),
    }
    texts = model(replica, signature="text").predict(["a", "\u00e9"])
    assert {name: each.tolist() for name, each in texts.items()} == {
        "text": ["a", "\u00e9"],
        "raw_bytes": [b"a", "\u00e9".encode()],
    }
    given = {"flag": [True, False], "small": [0, 255], "wide": [1e300, -0.0], "narrow": [0.5, float("inf")]}
    types = model(replica, signature="types").predict(given)
    assert {name: each.tolist() for name, each in types.items()} == given
    assert types["small"].dtype == np.uint8
    assert types["narrow"].dtype == np.float16


@pytest.mark.parametrize(
    ("inputs", "signature"),
    [
        ({"z": [1]}, "serving_default"),
        ([["text"]], "serving_default"),
        ([1], "none"),
        ([1], "pair"),
        ({"a": [[0.5, 1]], "b": [3.5]}, "pair"),
        ({"flag": [1], "small": [0], "wide": [0], "narrow": [0]}, "types"),
        ({"flag": [True], "small": [256], "wide": [0], "narrow": [0]}, "types"),
    ],
)
def test_both_ways_refuse_the_same(replica: Replica, way: str, inputs: Any, signature: str) -> None:
    with pytest.raises(ServiceError, match="the replica answered") as error:
        model(replica, signature=signature).predict(inputs)
    assert error.value.status in (400, 404), way


def test_a_version_that_there_is_not(replica: Replica, way: str) -> None:
    assert model(replica, version=1).predict([2]).tolist() == [3], way
    for more in ({"version": 7}, {"label": "stable"}):
        with pytest.raises(ServiceError) as error:
            model(replica, **more).predict([2])
        assert error.value.status in (400, 404)


def test_without_grpc_it_needs_numpy_and_the_standard_library(replica: Replica, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('grpc', 'google.protobuf', 'cryptography', 'ml_dtypes', 'tensorflow'): sys.modules[name] = None\n"
        "import slurm_tf.client as client\n"
        "client.has_grpc = lambda: False\n"
        "print(client.Model('kinds', service=sys.argv[1]).predict([2.0]).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(replica.folder)], cwd=tmp_path, env={"PYTHONPATH": PYTHONPATH},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("[3.0]\n", 0), done.stderr
