"""The endpoint file of a replica: where it answers, and what. Standard library, Python 3.9.

    endpoints/                 a private folder of the service, 0700
      digits-0.json            one file a replica, 0600: written once a model answers, renewed every RENEW_SECONDS

A file that is older than STALE_SECONDS is one that a replica has left behind: it was killed, or its node is gone.
"""

import contextlib
import hashlib
import os
import ssl
import time
from dataclasses import dataclass
from enum import Enum
from typing import List, Optional, Tuple

from slurm_tf import files
from slurm_tf.errors import ModelError, RunError
from slurm_tf.run.json_format import JsonFormat
from slurm_tf.serve.replica_settings import check_name

FORMAT = "1.0"
SUFFIX = ".json"
# How often a replica writes its file again, and from which age on nobody counts on it.
RENEW_SECONDS, STALE_SECONDS = 2.0, 10.0
_JSON = JsonFormat("endpoint", FORMAT, ModelError, "the replica writes it again within seconds")


class VersionState(str, Enum):
    """The states of a version in TensorFlow Serving (apis/get_model_status.proto)."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True)
class VersionStatus:
    """A version of a model in a replica; `reason`: why it is not AVAILABLE, "" for no reason but its turn."""

    version: int
    state: VersionState
    reason: str = ""


@dataclass(frozen=True)
class ModelStatus:
    """A model in a replica; `default`: the version that answers requests which name none, None for none.

    `reason`: why its folder or its serving.json cannot be read, so that the last state stays; "" else.
    """

    name: str
    default: Optional[int]
    versions: Tuple[VersionStatus, ...]
    reason: str = ""


@dataclass(frozen=True)
class Endpoint:
    """Where a replica answers.

    `certificate`: in PEM, what clients trust in place of an authority, "" for a replica without TLS. `fingerprint`:
    the SHA-256 of its DER, in hexadecimal. `open`: no token is asked for. `started`, `written`, `ends`: in seconds
    since 1970; `ends`: when the allocation ends, None where that is not known.
    """

    replica: str
    job: str
    host: str
    grpc_port: int
    rest_port: int
    certificate: str
    fingerprint: str
    open: bool
    models: Tuple[ModelStatus, ...]
    started: float
    written: float
    ends: Optional[float]

    def stale(self, now: float) -> bool:
        """Return whether the replica has not renewed its file for STALE_SECONDS."""
        return now - self.written > STALE_SECONDS

    def answers(self, model: str) -> bool:
        """Return whether a version of a model answers requests that name none."""
        return any(each.name == model and each.default is not None for each in self.models)


def fingerprint(certificate: str) -> str:
    """Return the SHA-256 of a certificate, of the first one in PEM text, in hexadecimal."""
    end = "-----END CERTIFICATE-----"
    first = certificate[: certificate.index(end) + len(end)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN") :])).hexdigest()


def path(folder: str, replica: str) -> str:
    """Return the path of a replica's endpoint file. Raises ModelError for a name that is none."""
    check_name(replica)
    return os.path.join(folder, replica + SUFFIX)


def write(folder: str, endpoint: Endpoint) -> None:
    """Write a replica's file, whole. Raises OSError."""
    _JSON.write(path(folder, endpoint.replica), endpoint)


def remove(folder: str, replica: str) -> None:
    """Remove a replica's file, if there is one. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(folder, replica))


def read(file: str) -> Endpoint:
    """Return what an endpoint file says. Raises ModelError for one that others could have written, OSError."""
    try:
        files.check_own(file, sticky=False)
    except RunError as error:
        raise ModelError(error.found, error.needed, error.do) from error
    return _JSON.read(file, Endpoint)


def living(folder: str, now: Optional[float] = None) -> Tuple[Endpoint, ...]:
    """Return the endpoints of the replicas that live, the oldest replica first.

    Files that are stale, damaged or gone meanwhile are left out. Raises ModelError for a folder that others can
    change: what stands there decides who gets the requests and the token. Raises OSError.
    """
    try:
        files.check_own(folder, sticky=False)
    except RunError as error:
        raise ModelError(error.found, error.needed, error.do) from error
    moment = time.time() if now is None else now
    found: List[Endpoint] = []
    for name in os.listdir(folder):
        if name.endswith(SUFFIX) and not name.startswith("."):
            with contextlib.suppress(ModelError, OSError):
                found.append(read(os.path.join(folder, name)))
    return tuple(sorted((each for each in found if not each.stale(moment)), key=lambda each: each.started))
