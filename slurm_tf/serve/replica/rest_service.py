"""The REST side of a replica: the paths of TensorFlow Serving, over uvicorn."""

import asyncio
import contextlib
import re
import socket
import time
from typing import Any, Awaitable, Callable, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import unquote_to_bytes

import numpy as np
import uvicorn
from google.protobuf import json_format

from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica import inference, json_examples, json_tensors
from slurm_tf.serve.replica.access import HEADER, Access
from slurm_tf.serve.replica.certificate import Certificate
from slurm_tf.serve.replica.inference import Inference
from slurm_tf.serve.replica.recorder import Asked, Recorder
from slurm_tf.serve.replica.replica_log import say
from slurm_tf.serve.replica.request_error import Code, RequestError, invalid
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.replica.signatures import ServedSignature
from slurm_tf.serve.replica_settings import ReplicaSettings

# model_servers/http_rest_api_util.cc
_POST = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r":(?P<call>classify|regress|predict)",
    re.IGNORECASE,
)
_GET = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?:/(?P<metadata>metadata))?",
    re.IGNORECASE,
)
_METRICS = "/monitoring/prometheus/metrics"
_JSON, _TEXT = b"application/json", b"text/plain; version=0.0.4"
_LARGEST = 2**63 - 1

Headers = Mapping[bytes, bytes]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Dict[str, Any]], Awaitable[None]]


class _TooLargeError(RequestError):
    """A body that is larger than a replica takes."""

    @property
    def http_status(self) -> int:
        return 413


class _NoPathError(RequestError):
    """A path that there is not."""

    @property
    def http_status(self) -> int:
        return 404


class RestService:
    """The application that uvicorn calls for each request."""

    def __init__(self, settings: ReplicaSettings, calls: Inference, recorder: Recorder, access: Access) -> None:
        self._settings, self._inference, self._recorder, self._access = settings, calls, recorder, access
        self.closing = False

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: Headers = dict(scope["headers"])
        kind, extra = _JSON, []
        try:
            self._access.check(headers.get(HEADER.encode()))
            status, body, kind = await self._answer(scope, headers, receive)
        except RequestError as error:
            status, body = error.http_status, json_tensors.dumped({"error": error.message})
            if error.code is Code.UNAUTHENTICATED:
                extra.append((b"www-authenticate", b"Bearer"))
            if error.busy:
                extra.append((b"retry-after", b"1"))
        if self.closing:
            extra.append((b"connection", b"close"))
        sent = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *extra]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Mapping[str, Any], headers: Headers, receive: Receive) -> Tuple[int, bytes, bytes]:
        """Return status, body and its type. Raises RequestError."""
        method, path = scope["method"], scope["raw_path"].decode("ascii", "replace").partition("?")[0]
        if method == "GET" and path == _METRICS:
            self._recorder.metrics.in_flight.set(to=self._recorder.in_flight)
            return 200, self._recorder.metrics.page().encode(), _TEXT
        pattern = {"POST": _POST, "GET": _GET}.get(method)
        match = pattern and pattern.fullmatch(path)
        if match is None:
            if not path.lower().startswith("/v1/"):
                raise _NoPathError(Code.NOT_FOUND, f"Not found: {path[:256]}")
            raise invalid(f"Malformed request: {method} {path[:256]}")
        if not match["name"]:
            raise invalid("Missing model name in request.")
        spec = _spec(match)
        if method == "GET":
            return 200, await self._get(spec, bool(match["metadata"])), _JSON
        body = await self._body(headers, receive)
        return 200, await self._recorded(match["call"].lower(), spec, body), _JSON

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Return the body of a request. Raises RequestError for a larger one than the settings allow."""
        most = self._settings.max_request_bytes
        too_large = _TooLargeError(Code.INVALID_ARGUMENT, f"the body has more than {most} bytes")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) < 20 and int(length) > most:
            raise too_large
        parts: List[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(Code.CANCELLED, "the client has gone")
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > most:
                raise too_large
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _recorded(self, call: str, spec: Any, body: bytes) -> bytes:
        """Return the answer to a POST, counted and logged."""
        began = time.monotonic()
        seconds = self._settings.request_seconds
        asked = Asked(call.capitalize(), "REST", began, began + seconds)
        self._recorder.begin(asked)
        code, answer = Code.INTERNAL, b""
        calls = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        try:
            answer = await asyncio.wait_for(calls[call](spec, body, asked), seconds)
            code = Code.OK
        except RequestError as error:
            code = error.code
            raise
        except asyncio.TimeoutError:
            code = Code.DEADLINE_EXCEEDED
            raise RequestError(code, f"Timed out after {seconds:g} s") from None
        finally:
            self._recorder.end(asked, code, body, answer)
        return answer

    async def _predict(self, spec: Any, body: bytes, asked: Asked) -> bytes:
        version = self._inference.version(spec, asked)
        with version:
            signature, inputs, rows = _predict_call(body, version)
            names = signature.chosen(())
            outputs = await version.run(signature, names, inputs, asked.deadline, asked.alone)
        return json_tensors.text(dict(zip(names, outputs)), rows)

    async def _classify(self, spec: Any, body: bytes, asked: Asked) -> bytes:
        request = _examples_request(protocol.ClassificationRequest(), spec, body)
        return json_examples.classifications(await self._inference.classify(request, asked))

    async def _regress(self, spec: Any, body: bytes, asked: Asked) -> bytes:
        request = _examples_request(protocol.RegressionRequest(), spec, body)
        return json_examples.regressions(await self._inference.regress(request, asked))

    async def _get(self, spec: Any, metadata: bool) -> bytes:
        """Return the status or the metadata of a model, as the JSON of their messages."""
        if not metadata:
            response = await self._inference.status(protocol.GetModelStatusRequest(model_spec=spec), _no_asked())
            return json_tensors.dumped(_message(response))
        version = self._inference.models.find(spec)
        shown = protocol.ModelSpec(name=version.model)
        shown.version.value = version.number
        signatures = _message(inference.signature_map(version))
        return json_tensors.dumped({"model_spec": _message(shown), "metadata": {"signature_def": signatures}})


def _no_asked() -> Asked:
    return Asked("", "REST", 0.0, 0.0)


def _message(message: Any) -> Dict[str, Any]:
    found: Dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def _spec(match: "re.Match[str]") -> Any:
    """Return the ModelSpec that a path names. Raises RequestError."""
    spec = protocol.ModelSpec()
    try:
        spec.name = unquote_to_bytes(match["name"]).decode()
        if match["label"]:
            spec.version_label = unquote_to_bytes(match["label"]).decode()
    except UnicodeDecodeError as error:
        raise invalid("Failed to decode model name: it is not UTF-8") from error
    if match["version"]:
        if len(match["version"]) > 19 or int(match["version"]) > _LARGEST:
            raise invalid(f"Failed to convert version: {match['version'][:64]} to numeric.")
        spec.version.value = int(match["version"])
    return spec


def _predict_call(body: bytes, version: ServedVersion) -> Tuple[ServedSignature, List[np.ndarray], bool]:
    """Return signature and inputs of the call that a body asks for, and whether it is in row form. Raises RequestError.

    Of what the JSON holds only the arrays are left while the request waits: the garbage collector would look through
    the lists of all requests that wait, each time that it parses another one.
    """
    request = json_tensors.parsed(body)
    signature = version.signature(request.get(json_tensors.SIGNATURE_NAME, ""))
    arrays, rows = json_tensors.arrays(request, signature)
    return signature, signature.arrays(arrays), rows


def _examples_request(request: Any, spec: Any, body: bytes) -> Any:
    found = json_tensors.parsed(body)
    request.model_spec.CopyFrom(spec)
    try:
        request.model_spec.signature_name = found.get(json_tensors.SIGNATURE_NAME, "")
    except (UnicodeEncodeError, ValueError) as error:
        raise invalid("the name of the signature is not UTF-8") from error
    json_examples.fill(found, request.input)
    return request


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the replica."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RestServer:
    """The server of a RestService; `port`: where it listens."""

    def __init__(self, service: RestService, bound: socket.socket, certificate: Optional[Certificate]) -> None:
        self._service, self._socket = service, bound
        self.port: int = bound.getsockname()[1]
        config = uvicorn.Config(
            service, interface="asgi3", ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_graceful_shutdown=60,
        )  # fmt: skip
        config.load()
        config.ssl = certificate.context() if certificate else None
        self._server = _Server(config)

    async def run(self) -> None:
        """Answer until `stop` is called."""
        await self._server.serve(sockets=[self._socket])

    def close_connections(self) -> None:
        """Close each connection with its next answer: its client is to find another replica."""
        self._service.closing = True

    async def stop(self, seconds: float) -> None:
        """Answer what has come, within `seconds`, and listen no more."""
        self._server.config.timeout_graceful_shutdown = int(seconds)
        self._server.should_exit = True
        end = time.monotonic() + seconds
        while self._server.server_state.tasks and time.monotonic() < end:
            await asyncio.sleep(0.05)


def server(
    settings: ReplicaSettings, calls: Inference, recorder: Recorder, access: Access, certificate: Optional[Certificate]
) -> RestServer:
    """Return a server that listens. Raises ModelError, OSError for a port that is taken."""
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    bound = socket.create_server((settings.address, settings.rest_port), family=family, backlog=2048)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not see that this is TCP
    say(f"REST listens on port {bound.getsockname()[1]}")
    return RestServer(RestService(settings, calls, recorder, access), bound, certificate)
