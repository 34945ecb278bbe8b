"""A replica over gRPC answers as TensorFlow Serving does, and refuses what cannot be with its status."""

from collections.abc import Callable
from typing import Any

import pytest

from slurm_tf.serve.protocol import serving_messages as protocol
from tests.serve.running_replica import Replica, predict_request

pytestmark = pytest.mark.tensorflow


def floats(*values: float) -> Any:
    import numpy as np

    return np.array(values, np.float32)


def refused(replica: Replica, name: str, request: Any, **options: Any) -> tuple[str, str]:
    """Return the status and the message with which a request is refused."""
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        replica.call(name, request, **options)
    return caught.value.code().name, caught.value.details()


def examples(request: Any, *values: float) -> Any:
    for value in values:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return request


def test_predict(replica: Replica) -> None:
    response = replica.call("Predict", predict_request("kinds", {"x": floats(2, 4)}))
    assert list(response.outputs["y"].float_val) == [3, 4]
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [2]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("kinds", 1, "serving_default")


def test_predict_takes_tensor_content_one_value_for_all_and_no_rows(replica: Replica) -> None:
    request = predict_request("kinds", {"x": floats(2, 4)})
    tensor = request.inputs["x"]
    del tensor.float_val[:]
    tensor.tensor_content = floats(2, 4).tobytes()
    assert list(replica.call("Predict", request).outputs["y"].float_val) == [3, 4]
    tensor.tensor_content = b""
    tensor.float_val.append(2)
    tensor.tensor_shape.dim[0].size = 3
    assert list(replica.call("Predict", request).outputs["y"].float_val) == [3, 3, 3]
    tensor.tensor_shape.dim[0].size = 0
    del tensor.float_val[:]
    assert [dim.size for dim in replica.call("Predict", request).outputs["y"].tensor_shape.dim] == [0]


def test_predict_of_every_type(replica: Replica) -> None:
    import numpy as np

    from slurm_tf.serve.replica import tensors

    inputs = {
        "flag": np.array([True, False]),
        "small": np.array([0, 255], np.uint8),
        "wide": np.array([1e300, -0.0]),
        "narrow": np.array([0.1, np.inf], np.float16),
    }
    response = replica.call("Predict", predict_request("kinds", inputs, "types"))
    for name, array in inputs.items():
        found = tensors.array_of(response.outputs[name], 1000)
        assert found.dtype == array.dtype
        assert found.tobytes() == array.tobytes()


def test_an_output_filter_chooses(replica: Replica) -> None:
    import numpy as np

    request = predict_request("kinds", {"a": np.ones((1, 2), np.float32), "b": np.array([3])}, "pair")
    assert set(replica.call("Predict", request).outputs) == {"sum", "double"}
    request.output_filter.append("double")
    response = replica.call("Predict", request)
    assert {name: list(each.int64_val) for name, each in response.outputs.items()} == {"double": [6]}


def test_classify_regress_and_multi_inference(replica: Replica) -> None:
    request = examples(protocol.ClassificationRequest(), 0.25, 1)
    request.model_spec.name, request.model_spec.signature_name = "kinds", "classify"
    found = replica.call("Classify", request).result.classifications
    assert [[(each.label, each.score) for each in row.classes] for row in found] == [
        [("low", 0.75), ("high", 0.25)],
        [("low", 0), ("high", 1)],
    ]
    request = examples(protocol.RegressionRequest(), 2, 4)
    request.model_spec.name, request.model_spec.signature_name = "kinds", "regress"
    assert [each.value for each in replica.call("Regress", request).result.regressions] == [3, 4]
    several = examples(protocol.MultiInferenceRequest(), 1)
    for kind in ("classify", "regress"):
        task = several.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.name, task.model_spec.signature_name = "kinds", kind
    classes, values = replica.call("MultiInference", several).results
    assert classes.classification_result.classifications[0].classes[1].score == 1
    assert values.regression_result.regressions[0].value == 2.5
    assert values.model_spec.version.value == 1


def test_the_context_of_examples_stands_in_each(replica: Replica) -> None:
    request = protocol.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "regress"
    given = request.input.example_list_with_context
    given.context.features.feature["x"].float_list.value.append(2)
    given.examples.add()
    given.examples.add().features.feature["x"].float_list.value.append(4)
    assert [each.value for each in replica.call("Regress", request).result.regressions] == [3, 4]


def test_metadata_and_status(replica: Replica) -> None:
    request = protocol.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "kinds"
    found = protocol.SignatureDefMap()
    assert replica.call("GetModelMetadata", request).metadata["signature_def"].Unpack(found)
    assert found.signature_def["serving_default"].inputs["x"].dtype == 1
    asked = protocol.GetModelStatusRequest()
    asked.model_spec.name = "kinds"
    (status,) = replica.call("GetModelStatus", asked).model_version_status
    assert (status.version, status.State.Name(status.state), status.status.error_code) == (1, "AVAILABLE", 0)


def test_health(replica: Replica) -> None:
    import grpc

    with replica.channel() as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=protocol.HealthCheckRequest.SerializeToString,
            response_deserializer=protocol.HealthCheckResponse.FromString,
        )
        metadata = [("authorization", "Bearer only-the-tests-know-this-token")]
        for service in ("", "tensorflow.serving.PredictionService", "kinds"):
            assert check(protocol.HealthCheckRequest(service=service), metadata=metadata, timeout=30).status == 1
        with pytest.raises(grpc.RpcError, match="unknown service"):
            check(protocol.HealthCheckRequest(service="other"), metadata=metadata, timeout=30)
        with pytest.raises(grpc.RpcError, match="token"):
            check(protocol.HealthCheckRequest(), timeout=30)


@pytest.mark.parametrize("token", [None, "", "wrong", "only-the-tests-know-this-toke"])
def test_without_the_token_nothing_is_read(replica: Replica, token: "str | None") -> None:
    status, message = refused(replica, "Predict", b"\xff\xff no message", token=token)
    assert status == "UNAUTHENTICATED"
    assert "token" in message


def wrong(name: str = "kinds", signature: str = "", **changes: Any) -> Any:
    """Return a request for x = [2] of kinds, with one thing changed."""
    request = predict_request(name, {"x": floats(2)}, signature)
    tensor = request.inputs["x"]
    first = tensor.tensor_shape.dim[0]
    setters: dict[str, Callable[[Any], Any]] = {
        "version": lambda value: setattr(request.model_spec.version, "value", value),
        "label": lambda value: setattr(request.model_spec, "version_label", value),
        "size": lambda value: setattr(first, "size", value),
        "dtype": lambda value: setattr(tensor, "dtype", value),
        "content": lambda value: setattr(tensor, "tensor_content", value),
        "dims": lambda value: [tensor.tensor_shape.dim.add(size=1) for _ in range(value)],
        "unknown_rank": lambda value: setattr(tensor.tensor_shape, "unknown_rank", value),
        "output": request.output_filter.append,
        "extra": lambda value: request.inputs[value].CopyFrom(tensor),
        "no_input": lambda _: request.inputs.__delitem__("x"),
    }
    for key, value in changes.items():
        setters[key](value)
    return request


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"name": "other"}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ({"name": ""}, "INVALID_ARGUMENT", "no name"),
        ({"version": 7}, "NOT_FOUND", "Servable not found for request: Specific(kinds, 7)"),
        ({"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({"signature": "nope"}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        ({"output": "z"}, "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
        ({"extra": "z"}, "INVALID_ARGUMENT", "input tensor alias not found in signature: z"),
        ({"no_input": True}, "INVALID_ARGUMENT", "Missing but required: {x}"),
        ({"dtype": 2}, "INVALID_ARGUMENT", "float64; needed float"),
        ({"dtype": 9}, "INVALID_ARGUMENT", "int64; needed float"),
        ({"dtype": 20}, "INVALID_ARGUMENT", "type 20"),
        ({"dtype": 0}, "INVALID_ARGUMENT", "type 0"),
        ({"dims": 1}, "INVALID_ARGUMENT", "(1, 1); needed (?)"),
        ({"dims": 60}, "INVALID_ARGUMENT", "shape"),
        ({"unknown_rank": True}, "INVALID_ARGUMENT", "no shape"),
        ({"size": -1}, "INVALID_ARGUMENT", "shape [-1]"),
        ({"size": 2**40}, "INVALID_ARGUMENT", "more than"),
        ({"size": 2**62}, "INVALID_ARGUMENT", "more than"),
        ({"content": b"abc"}, "INVALID_ARGUMENT", "3 bytes of tensor_content"),
    ],
)
def test_a_predict_request_that_cannot_be(replica: Replica, changes: Any, status: str, message: str) -> None:
    found = refused(replica, "Predict", wrong(**changes))
    assert found[0] == status
    assert message in found[1]
    assert replica.process.poll() is None


def test_other_requests_that_cannot_be(replica: Replica) -> None:
    assert refused(replica, "Predict", b"\xff\xff") == ("INVALID_ARGUMENT", "the request is no PredictRequest")
    classify = examples(protocol.ClassificationRequest(), 1)
    classify.model_spec.name = "kinds"
    assert "takes no examples" in refused(replica, "Classify", classify)[1]
    classify.model_spec.signature_name = "regress"
    assert "does not classify" in refused(replica, "Classify", classify)[1]
    classify.model_spec.signature_name = "classify"
    classify.ClearField("input")
    assert refused(replica, "Classify", classify) == ("INVALID_ARGUMENT", "Input is empty")
    metadata = protocol.GetModelMetadataRequest(metadata_field=["weights"])
    metadata.model_spec.name = "kinds"
    assert refused(replica, "GetModelMetadata", metadata)[0] == "INVALID_ARGUMENT"
    status = protocol.GetModelStatusRequest()
    status.model_spec.name = "other"
    assert refused(replica, "GetModelStatus", status)[0] == "NOT_FOUND"
    assert refused(replica, "MultiInference", protocol.MultiInferenceRequest())[0] == "INVALID_ARGUMENT"


def test_an_error_of_the_model_is_that_of_its_request_alone(replica: Replica) -> None:
    import numpy as np

    request = predict_request("kinds", {"index": np.array([1, 7], np.int32)}, "picked")
    assert refused(replica, "Predict", request)[0] == "INVALID_ARGUMENT"
    request = predict_request("kinds", {"index": np.array([1], np.int32)}, "picked")
    assert list(replica.call("Predict", request).outputs["value"].float_val) == [20]
