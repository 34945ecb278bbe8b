"""The settings of a replica: the file that `python -m slurm_tf.serve.replica` gets. Standard library, Python 3.9."""

import os
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from slurm_tf import files
from slurm_tf.errors import ModelError, RunError
from slurm_tf.models.serving_file import VersionPolicy
from slurm_tf.run.json_format import JsonFormat

FORMAT = "1.0"
_JSON = JsonFormat("replica's settings", FORMAT, ModelError, "start the service again")
# A model's name stands in URLs, in names of files and in metrics.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
# Addresses that only programs of the same machine reach.
LOOPBACK = ("127.0.0.1", "::1")
# 32 random bytes as base64 or hexadecimal digits; a token of a site's own may be longer.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}", re.ASCII)


@dataclass(frozen=True)
class Batching:
    """How requests of several clients become one call of the model; the names are TensorFlow Serving's.

    `max_batch_size`: rows of a call; 1: each request is a call. `batch_timeout_micros`: how long the first request of
    a batch waits for others; with 0 a batch is what has come while the last call ran, or after a quick call as many
    requests as that had, so that a single client never waits. `max_enqueued_batches`: full batches that may wait; what
    comes then is refused as UNAVAILABLE. `num_batch_threads`: calls at a time. `allowed_batch_sizes`: rows are added up
    to the next of these sizes, the last of which is max_batch_size; () for calls of any size.
    """

    max_batch_size: int = 256
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 64
    num_batch_threads: int = 2
    allowed_batch_sizes: Tuple[int, ...] = ()


@dataclass(frozen=True)
class ServedModel:
    """A model to serve: its name for clients, and its base, the folder of its versions.

    `policy`: which versions are loaded, instead of what serving.json in the base says.
    """

    name: str
    base: str
    batching: Batching = Batching()
    policy: Optional[VersionPolicy] = None


@dataclass(frozen=True)
class RequestLogSettings:
    """Where requests are logged, a folder a model and a file a version in it, of at most `max_bytes` bytes each.

    `sample_percent`: of how many requests the inputs and outputs are logged as well.
    """

    folder: str
    max_bytes: int = 64 << 20
    sample_percent: float = 1.0


@dataclass(frozen=True)
class ReplicaSettings:
    """All that a replica is told.

    `replica`: its name among the replicas of a service. `job`: the id of its Slurm job, "" outside Slurm.
    `ends`: when its allocation ends, in seconds since 1970; None where that is not known.
    `host`: the name or address by which clients reach it. `address`: where it listens. Ports: 0 for one that the
    kernel chooses.
    `token_file`: the secret that clients must name; None only with `open`, which lets everybody ask.
    `certificate_file`, `key_file`: a site's certificate in PEM; "" for one that the replica makes for itself.
    `plaintext`: without TLS, for clients of the same machine: only with an address of LOOPBACK.
    `endpoint_folder`: the private folder of the service's endpoint files.
    `poll_seconds`: how often models are looked for new versions. `retry_seconds`: how long after a version could not
    be loaded that is tried again.
    `connection_seconds`: the age at which a connection of a client is closed, so that it finds other replicas.
    `successor_seconds`: how long after SIGTERM the replica goes on while no successor answers; 0: it does not wait.
    `max_request_bytes`: of a request. `max_in_flight`: requests at a time; what comes then is refused as UNAVAILABLE.
    `request_seconds`: how long a REST request may take (a gRPC request brings its deadline).
    `request_log`: None for no log.
    """

    replica: str
    models: Tuple[ServedModel, ...]
    endpoint_folder: str
    job: str = ""
    ends: Optional[float] = None
    host: str = "127.0.0.1"
    address: str = "127.0.0.1"
    grpc_port: int = 0
    rest_port: int = 0
    token_file: Optional[str] = None
    open: bool = False
    certificate_file: str = ""
    key_file: str = ""
    plaintext: bool = False
    poll_seconds: float = 2.0
    retry_seconds: float = 60.0
    connection_seconds: float = 5.0
    successor_seconds: float = 0.0
    max_request_bytes: int = 64 << 20
    max_in_flight: int = 4096
    request_seconds: float = 30.0
    request_log: Optional[RequestLogSettings] = None

    def token(self) -> Optional[bytes]:
        """Return the token that clients must name, None for an open replica. Raises ModelError, OSError."""
        if self.token_file is None:
            return None
        try:
            files.check_own(self.token_file, sticky=False)
        except RunError as error:
            raise ModelError(error.found, error.needed, error.do) from error
        if os.stat(self.token_file).st_mode & 0o077:
            raise ModelError("others can read the token", "a file of mode 0600", "make a new token", self.token_file)
        with open(self.token_file, encoding="ascii", errors="replace") as file:
            text = file.read(1024).strip()
        if not _TOKEN.fullmatch(text):
            raise ModelError("it holds no token", "16 to 512 letters, digits or ._~+/=-", where=self.token_file)
        return text.encode()


def check_name(name: str) -> None:
    """Raise ModelError for what cannot be the name of a model or of a replica."""
    if not _NAME.fullmatch(name):
        raise ModelError(f"found the name {name!r}", "up to 128 letters, digits, dots, hyphens and underscores")


def read(path: str) -> ReplicaSettings:
    """Return the settings in a file. Raises ModelError for settings that cannot be, OSError."""
    settings = _JSON.read(path, ReplicaSettings)
    try:
        check(settings)
    except ModelError as error:
        raise ModelError(error.found, error.needed, error.do, error.where or path) from error
    return settings


def write(path: str, settings: ReplicaSettings) -> None:
    """Write settings, for their owner alone. Raises ModelError for settings that cannot be, OSError."""
    check(settings)
    _JSON.write(path, settings)


def check(settings: ReplicaSettings) -> None:
    """Raise ModelError for settings that cannot be."""
    for name in (settings.replica, *(model.name for model in settings.models)):
        check_name(name)
    names = [model.name for model in settings.models]
    if len(set(names)) < len(names) or not names:
        raise ModelError(f"found the models {names}", "one model or more, each once")
    if settings.open == (settings.token_file is not None):
        raise ModelError("found open and a token, or neither", "a token, or `open` for a service without one")
    if bool(settings.certificate_file) != bool(settings.key_file):
        raise ModelError("found one of certificate_file and key_file", "both or neither")
    if settings.plaintext and settings.address not in LOOPBACK:
        raise ModelError(f"found plaintext at {settings.address}", f"TLS, or one of {', '.join(LOOPBACK)}")
    for port in (settings.grpc_port, settings.rest_port):
        if not 0 <= port <= 65535:
            raise ModelError(f"found the port {port}", "0 to 65535")
    if (
        min(settings.max_request_bytes, settings.max_in_flight) < 1
        or min(settings.poll_seconds, settings.request_seconds, settings.connection_seconds) <= 0
    ):
        raise ModelError("found a bound of 0 or less", "bounds above 0")
    for model in settings.models:
        _check_batching(model.batching)


def _check_batching(batching: Batching) -> None:
    """Raise ModelError for batching that cannot be."""
    if min(batching.max_batch_size, batching.max_enqueued_batches, batching.num_batch_threads) < 1:
        raise ModelError("found a bound of batching below 1", "1 or more")
    if batching.batch_timeout_micros < 0:
        raise ModelError(f"found batch_timeout_micros = {batching.batch_timeout_micros}", "0 or more")
    sizes = batching.allowed_batch_sizes
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != batching.max_batch_size):
        raise ModelError(f"found allowed_batch_sizes = {list(sizes)}", "rising sizes, the last one max_batch_size")
