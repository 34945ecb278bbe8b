"""The messages of TensorFlow Serving's protocols are those of its clients, and stand beside a client's own."""

import subprocess
import sys

import pytest

from slurm_tf.serve.protocol import serving_messages
from tests.conftest import ROOT

# what `PredictRequest` of tensorflow-serving-api 2.21 makes of a request for version 3 of digits, x = [1, 2]
REQUEST = bytes.fromhex("0a0c0a06646967697473120208031217" + "0a017812120801120412020802" + "2a080000803f00000040")


def test_a_request_has_the_bytes_of_the_public_protocol() -> None:
    request = serving_messages.PredictRequest()
    request.model_spec.name = "digits"
    request.model_spec.version.value = 3
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add().size = 2
    tensor.float_val.extend([1.0, 2.0])
    assert request.SerializeToString() == REQUEST


@pytest.mark.tensorflow
def test_the_messages_of_tensorflow_can_be_in_the_same_process() -> None:
    code = (
        "import sys\nfrom slurm_tf.serve.protocol import serving_messages\n"
        "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules\n"
        "from tensorflow.core.framework import tensor_pb2\n"
        "ours = serving_messages.TensorProto(dtype=1, float_val=[2.5])\n"
        "print(tensor_pb2.TensorProto.FromString(ours.SerializeToString()).float_val[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "2.5\n", done.stderr
