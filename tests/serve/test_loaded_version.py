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
fast = LoadedVersion(1, sys.argv[1], one_thread=False)
private, loaded_version._FAST = loaded_version._FAST, "not there"
plain = LoadedVersion(1, sys.argv[1], one_thread=False)
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
version = LoadedVersion(1, sys.argv[1], one_thread=False)
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
loaded = LoadedVersion(1, path, one_thread=False)
version = ServedVersion("kinds", loaded, Batching(), ThreadPoolExecutor(1))
calls = []
call = loaded.call
loaded.call = lambda signature, outputs, inputs: calls.append(signature.name) or call(signature, outputs, inputs)
assert 0 < warmup.warm_up(version, path) < 10
assert 2 * 5 <= len(calls) <= 10 * 5
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
warmup.warm_up(version, path)
assert calls[-1] == "serving_default"
assert [name for name, before in zip(calls, ["", *calls]) if name != before] == [calls[0], "regress", calls[0]]
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

THREADS = """
import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import tensorflow as tf
from slurm_tf.serve.replica import call_threads
from slurm_tf.serve.replica.loaded_version import LoadedVersion
from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.versioned_model import VersionedModel
from slurm_tf.serve.replica_settings import ServedModel

class Multiplies(tf.Module):
    def __init__(self, times, weights):
        self.times, self.weights = times, tf.Variable(tf.ones([weights]))

    @tf.function(input_signature=[tf.TensorSpec([None, 512], tf.float32, "x")])
    def multiply(self, x):
        square = tf.ones([512, 512]) / 512
        product = square * x[0]
        for _ in range(self.times):
            product = tf.matmul(product, square)
        return {"y": x + product[0] + self.weights[0]}

def share_of_caller(version):
    signature = version.signatures["serving_default"]
    inputs = [np.ones((1, 512), np.float32)]
    version.call(signature, ("y",), inputs)
    begin = time.process_time(), time.thread_time()
    for _ in range(5):
        version.call(signature, ("y",), inputs)
    whole, own = time.process_time() - begin[0], time.thread_time() - begin[1]
    return own / whole

def served(name):
    with ThreadPoolExecutor(2) as threads:
        model = VersionedModel(ServedModel(name, os.path.join(sys.argv[1], name)), 60, threads, Metrics())
        asyncio.run(model.look())
        return model.available[1].loaded

for name, times, weights in (("small", 1, 1), ("slow", 40, 1), ("large", 1, 2_000_000)):
    module = Multiplies(times, weights)
    path = os.path.join(sys.argv[1], name, "1")
    os.makedirs(os.path.dirname(path), 0o700)
    tf.saved_model.save(module, path, signatures=module.multiply)
slow = os.path.join(sys.argv[1], "slow", "1")
# what each asks for counts, not what the first of the process asked for
assert share_of_caller(LoadedVersion(1, slow, one_thread=True)) > 0.9
if os.cpu_count() > 1:
    assert share_of_caller(LoadedVersion(1, slow, one_thread=False)) < 0.9
call_threads.ROW_SECONDS = 0.02  # a busy machine; a call of the slow one takes twice that and more
print({name: served(name).one_thread for name in ("small", "slow", "large")})
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


def test_one_thread_computes_a_call_of_a_small_model_that_is_quick(tmp_path: Path) -> None:
    assert printed(THREADS, tmp_path) == "{'small': True, 'slow': False, 'large': False}\n"
