"""The gRPC side of a replica: PredictionService and ModelService of TensorFlow Serving, and gRPC's health check."""

import asyncio
import math
import time
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, NoReturn, Optional, Tuple

import grpc
from google.protobuf.message import DecodeError

from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica.access import HEADER, Access
from slurm_tf.serve.replica.certificate import Certificate
from slurm_tf.serve.replica.inference import Inference
from slurm_tf.serve.replica.recorder import Asked, Recorder
from slurm_tf.serve.replica.request_error import Code, RequestError
from slurm_tf.serve.replica_settings import ReplicaSettings

_PREDICTION, _MODEL, _HEALTH = (
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "grpc.health.v1.Health",
)
_STATUS = {status.value[0]: status for status in grpc.StatusCode}
# Of a message for a client; gRPC sends it as a header.
_MOST_TEXT = 1000
_WATCH_SECONDS = 0.5
# Says that the replica is busy, not lost, and when to come back (gRPC's proposal A6, client retries).
_PUSHBACK = (("grpc-retry-pushback-ms", "1000"),)
# How long the requests of a connection that is to close may take.
_GRACE_MS = 60_000

Call = Callable[[Any, Asked], Awaitable[Any]]


class GrpcService(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handlers of all methods. A request reaches them as bytes: they are parsed where an error is an answer.

    Requests without the token reach none of them. An interceptor would do the same in two more steps a request.
    """

    def __init__(self, inference: Inference, recorder: Recorder, access: Access) -> None:
        self._inference, self._recorder, self._access = inference, recorder, access
        calls: Dict[Tuple[str, str], Tuple[Any, Call]] = {
            (_PREDICTION, "Predict"): (protocol.PredictRequest, inference.predict),
            (_PREDICTION, "Classify"): (protocol.ClassificationRequest, inference.classify),
            (_PREDICTION, "Regress"): (protocol.RegressionRequest, inference.regress),
            (_PREDICTION, "MultiInference"): (protocol.MultiInferenceRequest, inference.multi_inference),
            (_PREDICTION, "GetModelMetadata"): (protocol.GetModelMetadataRequest, inference.metadata),
            (_MODEL, "GetModelStatus"): (protocol.GetModelStatusRequest, inference.status),
            (_MODEL, "HandleReloadConfigRequest"): (protocol.ReloadConfigRequest, inference.reload),
        }
        self._handlers = {
            f"/{service}/{name}": grpc.unary_unary_rpc_method_handler(self._handler(name, kind, call))
            for (service, name), (kind, call) in calls.items()
        }
        self._handlers[f"/{_HEALTH}/Check"] = grpc.unary_unary_rpc_method_handler(self._check)
        self._handlers[f"/{_HEALTH}/Watch"] = grpc.unary_stream_rpc_method_handler(self._watch)

    def service(self, handler_call_details: Any) -> Optional[Any]:
        """Return the handler of a method, one that refuses who has no token; None for a method that there is not."""
        header = None
        for key, value in handler_call_details.invocation_metadata:
            if key == HEADER:
                header = value
                break
        try:
            self._access.check(header)
        except RequestError as error:
            return _refusal(error)
        return self._handlers.get(handler_call_details.method)

    def _handler(self, api: str, kind: Any, call: Call) -> Callable[[bytes, Any], Awaitable[Any]]:
        recorder = self._recorder

        async def handle(data: bytes, context: Any) -> Any:
            began = time.monotonic()
            remaining = context.time_remaining()
            asked = Asked(api, "GRPC", began, math.inf if remaining is None else began + remaining)
            try:
                recorder.begin(asked)
            except RequestError as error:
                await _abort(context, error)
            code, answer = Code.INTERNAL, b""
            try:
                response = await call(kind.FromString(data), asked)
                answer = response.SerializeToString()
                code = Code.OK
            except RequestError as error:
                code = error.code
                await _abort(context, error)
            except DecodeError:
                code = Code.INVALID_ARGUMENT
                await _abort(context, RequestError(code, f"the request is no {kind.DESCRIPTOR.name}"))
            except asyncio.CancelledError:
                code = Code.CANCELLED
                raise
            finally:
                recorder.end(asked, code, data, answer)
            return answer

        return handle

    def _health(self, data: bytes) -> int:
        """Return the status of the service that a HealthCheckRequest names. Raises DecodeError, RequestError."""
        service = protocol.HealthCheckRequest.FromString(data).service
        status = protocol.HealthCheckResponse.ServingStatus
        models = self._inference.models
        if service in ("", _PREDICTION, _MODEL, _HEALTH):
            return int(status.Value("SERVING" if models.answers() else "NOT_SERVING"))
        if service in models.models:
            return int(status.Value("SERVING" if models.models[service].default is not None else "NOT_SERVING"))
        return int(status.Value("SERVICE_UNKNOWN"))

    async def _check(self, data: bytes, context: Any) -> bytes:
        try:
            status = self._health(data)
        except DecodeError:
            await _abort(context, RequestError(Code.INVALID_ARGUMENT, "the request is no HealthCheckRequest"))
        if status == protocol.HealthCheckResponse.ServingStatus.Value("SERVICE_UNKNOWN"):
            await _abort(context, RequestError(Code.NOT_FOUND, "unknown service"))
        found: bytes = protocol.HealthCheckResponse(status=status).SerializeToString()
        return found

    async def _watch(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        last = None
        while True:
            try:
                status = self._health(data)
            except DecodeError:
                await _abort(context, RequestError(Code.INVALID_ARGUMENT, "the request is no HealthCheckRequest"))
            if status != last:
                last = status
                yield protocol.HealthCheckResponse(status=status).SerializeToString()
            await asyncio.sleep(_WATCH_SECONDS)


async def _abort(context: Any, error: RequestError) -> NoReturn:
    await context.abort(_STATUS[error.code], error.message[:_MOST_TEXT], _PUSHBACK if error.busy else ())
    raise error


def _refusal(error: RequestError) -> Any:
    """Return the handler of a request that is refused unread."""

    async def refuse(data: bytes, context: Any) -> NoReturn:  # noqa: ARG001 - the shape of a handler
        await _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(refuse)


def server(settings: ReplicaSettings, service: GrpcService, certificate: Optional[Certificate]) -> Tuple[Any, int]:
    """Return a server that can be started, and its port. Raises RuntimeError, OSError for a port that is taken."""
    options: List[Tuple[str, int]] = [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.max_connection_age_ms", int(settings.connection_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", _GRACE_MS),
        ("grpc.so_reuseport", 0),
    ]
    made = grpc.aio.server(options=options)
    made.add_generic_rpc_handlers((service,))
    address = f"[{settings.address}]" if ":" in settings.address else settings.address
    where = f"{address}:{settings.grpc_port}"
    if certificate is None:
        return made, made.add_insecure_port(where)
    pair = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
    return made, made.add_secure_port(where, pair)
