"""Bodies that nobody would send end no replica: each has an answer, and the next request is answered as ever."""

import base64
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slurm_tf.serve.protocol import serving_messages as protocol
from tests.serve.running_replica import Replica, predict_request

pytestmark = pytest.mark.tensorflow

SIGNATURES = ("serving_default", "pair", "text", "types", "total", "picked", "classify", "regress", "nope", "")
NAMES = ("x", "a", "b", "s", "z", "index", "inputs", "flag", "small", "wide", "narrow")
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.binary(max_size=8).map(lambda data: {"b64": base64.b64encode(data).decode()}),
    st.just({"b64": "%"}), st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**40]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inner, max_size=4),
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(("instances", "inputs", "signature_name", "examples", "context"))
REQUESTS = st.fixed_dictionaries(
    {}, optional={"signature_name": st.one_of(st.sampled_from(SIGNATURES), VALUES), "inputs": VALUES,
                  "instances": VALUES, "examples": VALUES, "context": VALUES},
)  # fmt: skip
BODIES = st.one_of(
    REQUESTS.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.integers(1, 100_000).map(lambda depth: b'{"inputs":' + b"[" * depth),
)
CALLS = st.sampled_from(("predict", "classify", "regress"))
SIZES = st.one_of(st.integers(-2, 4), st.sampled_from((2**31, 2**40, 2**62, -(2**63))))


@st.composite
def messages(draw: st.DrawFn) -> Any:
    """Return a PredictRequest whose tensors say anything."""
    request = protocol.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(("kinds", "kinds", "kinds", "", "other")))
    request.model_spec.signature_name = draw(st.sampled_from(SIGNATURES))
    request.output_filter.extend(draw(st.lists(st.sampled_from((*NAMES, "y", "sum", "text")), max_size=2)))
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4)):
        tensor = request.inputs[name]
        tensor.dtype = draw(st.integers(0, 130))
        tensor.tensor_shape.unknown_rank = draw(st.sampled_from((False, False, False, True)))
        for size in draw(st.lists(SIZES, max_size=4)):
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_content = draw(st.one_of(st.just(b""), st.binary(max_size=32)))
        tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=4)))
        tensor.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
        tensor.half_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
        tensor.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)))
        tensor.scomplex_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
        tensor.string_val.extend(draw(st.lists(st.binary(max_size=4), max_size=3)))
        tensor.bool_val.extend(draw(st.lists(st.booleans(), max_size=3)))
        tensor.double_val.extend(draw(st.lists(st.floats(), max_size=3)))
    return request


def rest_is_answered(replica: Replica, call: str, body: bytes) -> None:
    status, answer, _ = replica.rest(f"/v1/models/kinds:{call}", body)
    assert status in (200, 400), (status, answer)
    assert ("error" in answer) == (status == 400)


def grpc_is_answered(channel: Any, request: Any) -> None:
    import grpc

    method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    try:
        method(request, metadata=[("authorization", "Bearer only-the-tests-know-this-token")], timeout=30)
    except grpc.RpcError as error:
        assert error.code().name in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"), error


def goes_on(replica: Replica) -> None:
    """Check that the replica lives, has said nothing of an error of its own, and answers."""
    import numpy as np

    assert replica.process.poll() is None
    assert "Traceback" not in replica.log.read_text()
    response = replica.call("Predict", predict_request("kinds", {"x": np.array([2], np.float32)}))
    assert list(response.outputs["y"].float_val) == [3]


def fuzz(replica: Replica, examples: int) -> None:
    """Send so many bodies over REST, and as many messages over gRPC."""
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), database=None
    )
    encoded = st.one_of(messages().map(lambda each: each.SerializeToString()), st.binary(max_size=60))
    with replica.channel() as channel:

        @settings
        @hypothesis.given(call=CALLS, body=BODIES, request=encoded)
        def sent(call: str, body: bytes, request: bytes) -> None:
            rest_is_answered(replica, call, body)
            grpc_is_answered(channel, request)

        sent()
    goes_on(replica)


def test_fuzzed_bodies_end_no_replica(replica: Replica) -> None:
    fuzz(replica, 40)


@pytest.mark.long
def test_five_hundred_fuzzed_bodies_each_way_end_no_replica(replica: Replica) -> None:
    fuzz(replica, 500)
