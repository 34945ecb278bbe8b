"""A replica as a process of its own, and clients of it that know the public protocol alone."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica_settings import Batching, ReplicaSettings, ServedModel
from tests.conftest import PYTHONPATH, ROOT

TOKEN = "only-the-tests-know-this-token"
_SECONDS = 120
_BATCHING = Batching()
SERVICES = {
    "Predict": ("PredictionService", "PredictRequest", "PredictResponse"),
    "Classify": ("PredictionService", "ClassificationRequest", "ClassificationResponse"),
    "Regress": ("PredictionService", "RegressionRequest", "RegressionResponse"),
    "MultiInference": ("PredictionService", "MultiInferenceRequest", "MultiInferenceResponse"),
    "GetModelMetadata": ("PredictionService", "GetModelMetadataRequest", "GetModelMetadataResponse"),
    "GetModelStatus": ("ModelService", "GetModelStatusRequest", "GetModelStatusResponse"),
    "HandleReloadConfigRequest": ("ModelService", "ReloadConfigRequest", "ReloadConfigResponse"),
}


def wait_for(what: Callable[[], Any], seconds: float = _SECONDS) -> Any:
    """Return the first true value of `what`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


class Replica:
    """A replica that serves `models`, by name, from `folder`, where its own files are."""

    def __init__(
        self, folder: Path, models: Mapping[str, Path], batching: Batching = _BATCHING, **settings: Any
    ) -> None:
        self.folder = folder
        self.endpoints = folder / "endpoints"
        self.endpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        served = tuple(ServedModel(name, str(base), batching) for name, base in models.items())
        made = ReplicaSettings("first", served, str(self.endpoints), token_file=str(token))
        made = replace(made, poll_seconds=0.2, connection_seconds=1.0, **settings)
        if made.open:
            made = replace(made, token_file=None)
        self.settings = made
        self.file = folder / f"{made.replica}.json"
        replica_settings.write(str(self.file), made)
        self.log = folder / f"{made.replica}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slurm_tf.serve.replica", str(self.file)],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def ready(self) -> "Replica":
        """Wait until each model answers."""
        names = [model.name for model in self.settings.models]

        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            path = Path(endpoint.path(str(self.endpoints), self.settings.replica))
            return path.exists() and all(endpoint.read(str(path)).answers(name) for name in names)

        wait_for(answers)
        return self

    @property
    def endpoint(self) -> Endpoint:
        return endpoint.read(endpoint.path(str(self.endpoints), self.settings.replica))

    def beside(self) -> list[int]:
        """Return the process that computes calls of many rows, by its number; none on a machine with one core."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> int:
        """End the replica as Slurm does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()

    def channel(self) -> Any:
        import grpc

        at = self.endpoint
        address = f"{at.host}:{at.grpc_port}"
        if not at.certificate:
            return grpc.insecure_channel(address)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(at.certificate.encode()))

    def call(
        self, name: str, request: Any, token: "str | None" = TOKEN, channel: Any = None, timeout: float = 30
    ) -> Any:
        """Return the response of a gRPC method. Raises grpc.RpcError."""
        service, _, response = SERVICES[name]
        with channel or self.channel() as opened:
            method = opened.unary_unary(
                f"/tensorflow.serving.{service}/{name}",
                request_serializer=type(request).SerializeToString if not isinstance(request, bytes) else None,
                response_deserializer=getattr(protocol, response).FromString,
            )
            metadata = [("authorization", f"Bearer {token}")] if token is not None else []
            return method(request, metadata=metadata, timeout=timeout)

    def rest(
        self, path: str, body: Any = None, token: "str | None" = TOKEN, method: "str | None" = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, JSON and headers of an answer; `body`: what is posted, as JSON or as bytes."""
        at = self.endpoint
        scheme = "https" if at.certificate else "http"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        request = urllib.request.Request(f"{scheme}://{at.host}:{at.rest_port}{path}", data, headers, method=method)  # noqa: S310 - of a replica
        context = ssl.create_default_context(cadata=at.certificate) if at.certificate else None
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310
                return answer.status, _json(answer.read()), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read()), dict(error.headers)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


def predict_request(name: str, inputs: Mapping[str, Any], signature: str = "", version: "int | None" = None) -> Any:
    """Return a PredictRequest for arrays of numpy or lists."""
    import numpy as np

    from slurm_tf.serve.replica import tensors

    request = protocol.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        tensors.fill(request.inputs[key], np.asarray(value))
    return request
