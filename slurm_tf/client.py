"""Asks models that `slurm-tf serve` serves: finds the replicas by itself, and goes on when their jobs change.

from slurm_tf.client import Model

Model("digits").predict(images)

`predict` is over gRPC where what that needs is installed (the extra `serve`), else over REST, with the same answers.
"""

import base64
import hashlib
import http.client
import importlib.util
import json
import os
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from slurm_tf.errors import ServiceError
from slurm_tf.run.folder import RunFolder
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.replica_watch import ReplicaWatch
from slurm_tf.submit import run_index

if TYPE_CHECKING:
    from slurm_tf.serve.predict_call import PredictChannel

Array = npt.NDArray[Any]
_Answer = TypeVar("_Answer")

_CONNECT_SECONDS, _ANSWER_SECONDS, _PAUSE_SECONDS = 3.0, 60.0, 0.2
# The types of TensorFlow (tensorflow/core/framework/types.proto) whose values JSON has as numbers or truths.
_TYPES = {
    "DT_FLOAT": np.float32, "DT_DOUBLE": np.float64, "DT_HALF": np.float16, "DT_INT8": np.int8, "DT_INT16": np.int16,
    "DT_INT32": np.int32, "DT_INT64": np.int64, "DT_UINT8": np.uint8, "DT_UINT16": np.uint16, "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64, "DT_BOOL": np.bool_,
}  # fmt: skip
_TEXT = "DT_STRING"
# An output of texts with such a name is bytes, as over REST.
_BYTES = "_bytes"
_UNAVAILABLE = 503
# What gRPC needs; ml_dtypes comes with TensorFlow.
_OF_GRPC = ("grpc", "google", "google.protobuf", "cryptography", "ml_dtypes")


@dataclass(frozen=True, slots=True)
class _Types:
    """The types of a signature's inputs and outputs, by name, as TensorFlow names them: DT_FLOAT."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Model:
    """A model of a service of yours. Its methods raise ServiceError. It is for one thread at a time."""

    def __init__(
        self,
        name: str,
        service: str = "",
        version: int | None = None,
        label: str = "",
        signature: str = "serving_default",
        wait: float = 60.0,
    ) -> None:
        """Find the service that answers for the model.

        `service`: the folder of its run; else one of your runs whose replicas live. `version`, `label`: which version
        answers, else the one that the service chooses. `wait`: how many seconds a request waits for a replica.
        """
        self.name, self._signature, self._wait = name, signature, wait
        run = RunFolder(os.path.abspath(service)) if service else _find(name)
        self._watch = ReplicaWatch(run.endpoints)
        self._token = _token(run)
        self._connections: dict[tuple[str, float], http.client.HTTPSConnection] = {}
        self._channels: dict[tuple[str, float], PredictChannel] = {}
        self._version, self._label = version, label
        which = f"/versions/{version}" if version is not None else ""
        self._path = f"/v1/models/{name}{which or (f'/labels/{label}' if label else '')}"
        self._types: _Types | None = None
        self._has_grpc = has_grpc()

    def predict(self, inputs: Any) -> Any:  # noqa: ANN401 - an array, or one by name, as the model has it
        """Return what the model computes of `inputs`: an array, or a dictionary of arrays by the names of the inputs.

        The first dimension is that of rows. The result is an array, or a dictionary of arrays where there are several.
        """
        arrays = _typed(inputs, self._signature_types().inputs) if self._has_grpc else None
        if arrays is not None and {_TEXT, *_TYPES}.issuperset(self._signature_types().outputs.values()):
            return self._predict_over_grpc(arrays)
        found = self._post("predict", {"inputs": _encoded(inputs)})["outputs"]
        types = self._signature_types().outputs
        if isinstance(found, dict):
            return {name: _array(value, types.get(name, "")) for name, value in found.items()}
        return _array(found, next(iter(types.values()), ""))

    def metadata(self) -> dict[str, Any]:
        """Return the model's signatures, as TensorFlow Serving's REST has them."""
        found: dict[str, Any] = self._ask("GET", f"{self._path}/metadata", None)
        return found

    def status(self) -> dict[str, Any]:
        """Return the states of the model's versions, as TensorFlow Serving's REST has them."""
        found: dict[str, Any] = self._ask("GET", self._path, None)
        return found

    def _post(self, verb: str, value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        body = json.dumps({"signature_name": self._signature, **value}).encode()
        return self._ask("POST", f"{self._path}:{verb}", body)

    def _predict_over_grpc(self, inputs: Mapping[str, Array]) -> Any:  # noqa: ANN401 - as `predict`
        from slurm_tf.serve import predict_call  # noqa: PLC0415 - grpcio may be missing

        target = predict_call.Target(self.name, self._signature, self._version, self._label)
        request = predict_call.request(target, inputs)
        answer = self._exchange(lambda replica: self._channel(replica).ask(request, _ANSWER_SECONDS))
        found = {name: _plain_output(name, array) for name, array in predict_call.outputs(answer).items()}
        return found if len(found) > 1 else next(iter(found.values()))

    def _signature_types(self) -> _Types:
        """Return the types of the signature's inputs and outputs, asked for once."""
        if self._types is None:
            signatures = self.metadata()["metadata"]["signature_def"]["signature_def"]
            found = signatures.get(self._signature, {})
            self._types = _Types(*(_dtypes(found.get(each, {})) for each in ("inputs", "outputs")))
        return self._types

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of an answer to a request that only computes."""
        return self._exchange(lambda replica: self._rest(replica, method, path, body))

    def _exchange(self, send: Callable[[Endpoint], _Answer]) -> _Answer:
        """Return the answer to a request that only computes; another replica is asked where one is lost."""
        until, lost = time.monotonic() + self._wait, 0
        while True:
            replica = self._choose()
            if replica is None:
                if time.monotonic() >= until:
                    raise ServiceError(f"no replica answers for {self.name}", "one", "slurm-tf serve status says why")
                time.sleep(_PAUSE_SECONDS)
                continue
            try:
                return send(replica)
            except (OSError, http.client.HTTPException) as error:
                self._forget(replica)
                lost += 1
                if lost > 3:
                    raise ServiceError(f"replica {replica.replica} was lost: {error}", "an answer") from error
            except ServiceError as error:
                self._types = None  # another version may have another signature by now
                if error.status != _UNAVAILABLE or time.monotonic() >= until:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _choose(self) -> Endpoint | None:
        able = [each for each in self._watch.usable() if each.answers(self.name)]
        return random.choice(able) if able else None

    def _rest(self, replica: Endpoint, method: str, path: str, body: bytes | None) -> Any:  # noqa: ANN401 - JSON
        key = (replica.replica, replica.started)
        connection = self._connections.get(key) or _connection(replica)
        self._connections[key] = connection
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return _answer(answer.status, answer.read())

    def _channel(self, replica: Endpoint) -> "PredictChannel":
        from slurm_tf.serve import predict_call  # noqa: PLC0415 - grpcio may be missing

        key = (replica.replica, replica.started)
        if key not in self._channels:
            self._channels[key] = predict_call.PredictChannel(replica, self._token)
        return self._channels[key]

    def _forget(self, replica: Endpoint) -> None:
        self._watch.lost(replica)
        key = (replica.replica, replica.started)
        for known in (self._connections.pop(key, None), self._channels.pop(key, None)):
            if known is not None:
                known.close()


def has_grpc() -> bool:
    """Return whether all that gRPC needs is installed."""
    return all(importlib.util.find_spec(name) for name in _OF_GRPC)


def _find(name: str) -> RunFolder:
    """Return the newest of the user's services whose replicas live and answer for a model. Raises ServiceError."""
    for folder in reversed(run_index.read() or ()):
        run = RunFolder(folder)
        if os.path.isdir(run.endpoints) and any(each.answers(name) for each in endpoint.living(run.endpoints)):
            return run
    do = "slurm-tf serve MODELS/NAME starts one; a service in another folder: Model(NAME, service=FOLDER)"
    raise ServiceError(f"no service of yours answers for the model {name!r}", "one whose replicas live", do)


def _token(run: RunFolder) -> str:
    """Return the token of a service, "" for one without a token. Raises ServiceError."""
    try:
        with open(run.token, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise ServiceError(f"{run.token}: {error.strerror}", "the folder of a service of yours") from error


def _connection(replica: Endpoint) -> http.client.HTTPSConnection:
    """Return a connection to the replica whose certificate has the fingerprint. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what it is, is looked at by its fingerprint, before anything is sent
    made = http.client.HTTPSConnection(replica.host, replica.rest_port, timeout=_CONNECT_SECONDS, context=context)
    made.connect()
    certificate = made.sock.getpeercert(binary_form=True) or b""
    if hashlib.sha256(certificate).hexdigest() != replica.fingerprint:
        made.close()
        raise OSError("its certificate is not that of its endpoint file")
    made.sock.settimeout(_ANSWER_SECONDS)
    return made


def _answer(status: int, text: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of an answer. Raises ServiceError for an error."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ServiceError(f"the replica answered {status} and no JSON", "an answer", status=status) from error
    if status != http.client.OK:
        raise ServiceError(f"the replica answered {status}: {value.get('error', value)}", "an answer", status=status)
    return value


def _dtypes(tensors: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    return {name: each.get("dtype", "") for name, each in tensors.items()}


def _typed(inputs: Any, types: Mapping[str, str]) -> Mapping[str, Array] | None:  # noqa: ANN401 - as `predict`
    """Return the inputs as arrays of the signature's types, None where they are not what it takes: REST says why."""
    named = inputs if isinstance(inputs, Mapping) else dict.fromkeys(types, inputs)
    if not types or named.keys() != types.keys() or (len(types) > 1 and named is not inputs):
        return None
    found: dict[str, Array] = {}
    for name, value in named.items():
        array = _of_type(np.asarray(value), types[name])
        if array is None:
            return None
        found[name] = array
    return found


def _of_type(array: Array, type_name: str) -> Array | None:
    """Return an array in the type of an input, None where values would change more than by rounding."""
    if type_name == _TEXT:
        return _bytes_of(array)
    if type_name not in _TYPES or array.dtype.kind not in "biuf":
        return None
    wanted = np.dtype(_TYPES[type_name])
    if wanted.kind == "f":
        return array.astype(wanted) if array.dtype.kind != "b" else None
    if wanted.kind == "b" or array.dtype.kind not in "iu":
        return array if array.dtype == wanted else None
    limits = np.iinfo(wanted.name)
    fits = not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)
    return array.astype(wanted) if fits else None


def _bytes_of(array: Array) -> Array | None:
    """Return an array of texts as one of bytes, None for another array."""
    values = array.ravel().tolist()
    if not all(isinstance(each, (str, bytes)) for each in values):
        return None
    found = np.empty(len(values), dtype=object)
    found[:] = [each.encode() if isinstance(each, str) else each for each in values]
    return found.reshape(array.shape)


def _plain_output(name: str, array: Array) -> Array:
    """Return an output as REST gives it: texts as text, bytes where the name says so."""
    if array.dtype != object or name.endswith(_BYTES):
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [each.decode() for each in array.ravel().tolist()]
    return texts.reshape(array.shape)


def _encoded(value: Any) -> Any:  # noqa: ANN401 - what JSON has
    """Return inputs as TensorFlow Serving's JSON has them."""
    if isinstance(value, Mapping):
        return {name: _encoded(each) for name, each in value.items()}
    return _plain(np.asarray(value).tolist())


def _plain(value: Any) -> Any:  # noqa: ANN401 - what JSON has
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _array(value: Any, type_name: str) -> Array:  # noqa: ANN401 - JSON
    """Return an output as an array of its type; texts as an array of objects, bytes where they are in base64."""
    if type_name in _TYPES:
        return np.asarray(value, dtype=_TYPES[type_name])
    return np.asarray(_decoded(value), dtype=object)


def _decoded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value
