"""Asks one replica for Predict over gRPC, with arrays of numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from slurm_tf.errors import ServiceError
from slurm_tf.serve import replica_channel
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.protocol import serving_messages
from slurm_tf.serve.replica import tensors
from slurm_tf.serve.replica.request_error import HTTP_STATUS, Code

_METHOD = "/tensorflow.serving.PredictionService/Predict"
_BUSY = 429
_MOST_BYTES = 2**63

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, slots=True)
class Target:
    """Which signature of which model is asked; `version` None and `label` "": the version that the service chooses."""

    model: str
    signature: str
    version: int | None
    label: str


class PredictChannel:
    """A channel to one replica."""

    def __init__(self, replica: Endpoint, token: str) -> None:
        """Make the channel; it connects with the first call. Raises ServiceError for a wrong certificate."""
        made = replica_channel.settings(replica)
        if made.credentials is None:
            self._channel = grpc.insecure_channel(made.target, options=made.options)
        else:
            self._channel = grpc.secure_channel(made.target, made.credentials, options=made.options)
        self._ask = self._channel.unary_unary(_METHOD)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def ask(self, request: bytes, seconds: float) -> bytes:
        """Return the answer.

        Raises ConnectionError where the replica is lost, ServiceError for an error, with the status of it over REST.
        """
        try:
            answer: bytes = self._ask(request, metadata=self._metadata, timeout=seconds)
        except grpc.RpcError as error:
            is_busy = replica_channel.is_pushed_back(error)
            if error.code() is grpc.StatusCode.UNAVAILABLE and not is_busy:
                raise ConnectionError(error.details()) from error
            status = _BUSY if is_busy else HTTP_STATUS.get(Code(error.code().value[0]), 500)
            raise ServiceError(
                f"the replica answered {status}: {error.details()}", "an answer", status=status
            ) from error
        return answer

    def close(self) -> None:
        """End the channel."""
        self._channel.close()


def request(target: Target, inputs: Arrays) -> bytes:
    """Return a request; the arrays have the types of the signature, texts are bytes in arrays of objects."""
    made = serving_messages.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = target.model, target.signature
    if target.version is not None:
        made.model_spec.version.value = target.version
    elif target.label:
        made.model_spec.version_label = target.label
    for name, array in inputs.items():
        _fill(made.inputs[name], array)
    found: bytes = made.SerializeToString()
    return found


def outputs(answer: bytes) -> "dict[str, np.ndarray[Any, Any]]":
    """Return the arrays of an answer by name; texts are bytes in arrays of objects."""
    response = serving_messages.PredictResponse.FromString(answer)
    return {name: tensors.array_of(tensor, _MOST_BYTES) for name, tensor in response.outputs.items()}


def _fill(tensor: Any, array: "np.ndarray[Any, Any]") -> None:  # noqa: ANN401 - a message of protobuf
    """Write an array into a TensorProto: numbers as their bytes, which is faster than a value each."""
    tensors.fill(tensor, array[:0] if array.ndim and array.dtype != object else array)
    if array.ndim and array.dtype != object:
        tensor.tensor_shape.dim[0].size = len(array)
        tensor.tensor_content = np.ascontiguousarray(array).tobytes()
