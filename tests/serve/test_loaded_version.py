"""Calls through TensorFlow's private interface give what tf.saved_model.load's signatures give; warm-up is read."""

import subprocess
from pathlib import Path

import pytest

from tests import forkserver
from tests.conftest import ROOT

pytestmark = pytest.mark.tensorflow

BOTH_WAYS = """
import sys
import numpy as np
import tensorflow as tf
from slurm_tf.serve.replica import loaded_version
from slurm_tf.serve.replica.loaded_version import LoadedVersion

# of TensorFlow 2.16 to 2.21: where it is gone, replicas call signatures, which takes six times as long
assert hasattr(tf.compat.v1.Session, "_make_callable_from_options")
fast = LoadedVersion(1, sys.argv[1])
private, loaded_version._FAST = loaded_version._FAST, "not there"
plain = LoadedVersion(1, sys.argv[1])
loaded_version._FAST = private
assert isinstance(fast._runner, loaded_version._SessionRunner)
assert isinstance(plain._runner, loaded_version._SignatureRunner)
example = tf.train.Example(features=tf.train.Features(feature={"x": tf.train.Feature(
    float_list=tf.train.FloatList(value=[0.5]))})).SerializeToString()
inputs = {
    "serving_default": [np.array([1, 2], np.float32)],
    "pair": [np.ones((2, 2), np.float32), np.array([1, 2])],
    "text": [np.array([b"a", b"\\x00"], object)],
    "types": [np.array([True]), np.array([0.5], np.float16), np.array([3], np.uint8), np.array([0.25])],
    "total": [np.ones((2, 3), np.float32)],
    "picked": [np.array([1], np.int32)],
    "classify": [np.array([example], object)],
    "regress": [np.array([example], object)],
}
assert set(fast.signatures) == set(plain.signatures) == set(inputs)
for name, given in inputs.items():
    signature = fast.signatures[name]
    assert list(signature.inputs) == list(plain.signatures[name].inputs)
    names = signature.all_outputs
    for one, other in zip(fast.call(signature, names, given), plain.call(plain.signatures[name], names, given)):
        assert one.dtype == other.dtype and one.tolist() == other.tolist(), name
print("equal")
"""
ANY_BYTES = """
import sys
import numpy as np
import tensorflow as tf
from slurm_tf.serve.replica.loaded_version import LoadedVersion
from slurm_tf.serve.replica.request_error import Code, RequestError

class Part(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "file")])
    def part(self, file):
        return {"part": tf.strings.substr(file, 16, 8)}

model = Part()
tf.saved_model.save(model, sys.argv[1], {"serving_default": model.part})
version = LoadedVersion(1, sys.argv[1])
try:
    version.call(version.signatures["serving_default"], ("part",), [np.array([b"\\x89PNG"], object)])
except RequestError as error:
    assert error.code is Code.INVALID_ARGUMENT and "PNG" in error.message, error.message
    print("refused")
"""
WARM_UP = """
import os
import sys
from concurrent.futures import ThreadPoolExecutor
import tensorflow as tf
from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica import warmup
from slurm_tf.serve.replica.loaded_version import LoadedVersion
from slurm_tf.serve.replica.request_error import RequestError
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.replica_settings import Batching

path = sys.argv[1]
loaded = LoadedVersion(1, path)
version = ServedVersion("kinds", loaded, Batching(), ThreadPoolExecutor(1))
calls = []
call = loaded.call
loaded.call = lambda signature, outputs, inputs: calls.append(signature.name) or call(signature, outputs, inputs)
assert warmup.warm_up(version, path) == 3 * 5
assert sorted(set(calls)) == ["pair", "picked", "serving_default", "total", "types"]
log = protocol.PredictionLog()
request = log.predict_log.request
request.inputs["x"].dtype = 1
request.inputs["x"].tensor_shape.dim.add().size = 1
request.inputs["x"].float_val.append(1)
other = protocol.PredictionLog()
other.regress_log.request.model_spec.signature_name = "regress"
other.regress_log.request.input.example_list.examples.add()
file = os.path.join(path, warmup.NAME)
os.makedirs(os.path.dirname(file))
with tf.io.TFRecordWriter(file) as writer:
    for each in (log, other, log):
        writer.write(each.SerializeToString())
calls.clear()
assert warmup.warm_up(version, path) == 3
assert calls == ["serving_default", "regress", "serving_default"]
request.inputs["x"].dtype = 2
with tf.io.TFRecordWriter(file) as writer:
    writer.write(log.SerializeToString())
for damage in (False, True):
    if damage:
        data = bytearray(open(file, "rb").read())
        data[14] ^= 255
        open(file, "wb").write(data)
    try:
        warmup.warm_up(version, path)
    except RequestError as error:
        print(error.message[:60])
"""


def printed(program: str, path: Path) -> str:
    done = subprocess.run(
        [forkserver.python(), "-c", program, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_ways_to_call_a_model_give_the_same(models: Path) -> None:
    assert printed(BOTH_WAYS, models / "kinds" / "1").splitlines()[-1] == "equal"


def test_an_error_whose_text_is_none_refuses_the_request(tmp_path: Path) -> None:
    """TensorFlow puts the bytes of an input into the text of an error, and then cannot make an exception of it."""
    assert printed(ANY_BYTES, tmp_path / "1").splitlines()[-1] == "refused"


def test_warm_up_requests_are_made_and_damaged_ones_refused(models: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "1"
    shutil.copytree(models / "kinds" / "1", copy)
    wrong, damaged = printed(WARM_UP, copy).splitlines()[-2:]
    assert wrong == "input x has elements of float64; needed float"
    assert "corrupted record" in damaged
