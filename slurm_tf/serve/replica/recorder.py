"""What a replica counts and logs of each request, and how many it has at a time."""

import base64
import random
import time
from dataclasses import dataclass
from typing import Optional

from slurm_tf.serve.replica.metrics import Metrics
from slurm_tf.serve.replica.request_error import Code, RequestError
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.request_log import RequestLog, RequestRecord

# The name of a model in metrics for requests that none answered: what a client sent is no label.
_NO_MODEL = ""
# The name of a member of an enum is looked up by a function of Python, in every request.
_NAMES = {code: code.name for code in Code}


@dataclass
class Asked:
    """A request on its way: when it came and until when it counts, in seconds of time.monotonic; who answers it.

    `alone`: the replica had no other when it came.
    """

    api: str
    entrypoint: str
    began: float
    deadline: float
    model: str = _NO_MODEL
    version: Optional[int] = None
    alone: bool = False

    def answered_by(self, version: ServedVersion) -> None:
        """Say which version answers."""
        self.model, self.version = version.model, version.number


class Recorder:
    """Counts the requests of a replica. `log`: None for no log."""

    def __init__(self, metrics: Metrics, log: Optional[RequestLog], max_in_flight: int) -> None:
        self.metrics, self.log = metrics, log
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    def begin(self, asked: Asked) -> None:
        """Count a request that has come. Raises RequestError if there are too many; then `end` is not called."""
        if self.in_flight >= self._max_in_flight:
            raise RequestError(Code.UNAVAILABLE, f"the replica has {self.in_flight} requests", busy=True)
        asked.alone = not self.in_flight
        self.in_flight += 1

    def end(self, asked: Asked, code: Code, request: bytes = b"", response: bytes = b"") -> None:
        """Count a request that is over."""
        self.in_flight -= 1
        seconds = time.monotonic() - asked.began
        name = _NAMES[code]
        self.metrics.requests.add(asked.model, name)
        if asked.version is None:
            return
        self.metrics.versions.add(asked.model, str(asked.version), name)
        if code is Code.OK:
            self.metrics.latency.add(seconds * 1e6, asked.model, asked.api, asked.entrypoint)
        if self.log is not None:
            self._log(self.log, asked, code, seconds, request, response)

    def _log(self, log: RequestLog, asked: Asked, code: Code, seconds: float, request: bytes, response: bytes) -> None:
        sampled = request and random.random() * 100 < log.settings.sample_percent
        record = RequestRecord(
            round(time.time() - seconds, 3),
            asked.api,
            asked.entrypoint,
            code.name,
            round(seconds * 1e3, 3),
            base64.b64encode(request).decode() if sampled else "",
            base64.b64encode(response).decode() if sampled else "",
        )
        log.add(asked.model, asked.version or 0, record)
