"""The log of requests by version, for a comparison of two. Standard library, Python 3.9.

requests/digits/             a model
  3.digits-0.jsonl           version 3 in the replica digits-0: a RequestRecord a line, as JSON
  3.digits-0.jsonl.old       what came before it: together they have at most the settings' max_bytes
"""

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple

from slurm_tf import files
from slurm_tf.serve.replica_settings import RequestLogSettings

_NAME = re.compile(r"(?P<version>[0-9]+)\.(?P<replica>.+)\.jsonl(\.old)?", re.ASCII)
_OLD = ".old"
# More records than these are not kept until they are written: the log never holds up what it describes.
_MOST_WAITING = 20_000


@dataclass(frozen=True)
class RequestRecord:
    """A request that was answered or refused.

    `time`: when it came, in seconds since 1970. `api`: Predict, Classify, Regress. `entrypoint`: GRPC or REST. `code`:
    its status, OK or another of gRPC's names. `milliseconds`: what it took. `request`, `response`: for a sample of the
    requests the bytes of both, in base64, "" for the others.
    """

    time: float
    api: str
    entrypoint: str
    code: str
    milliseconds: float
    request: str = ""
    response: str = ""


class RequestLog:
    """Collects records and writes them; `flush` may run in another thread than `add`."""

    def __init__(self, settings: RequestLogSettings, replica: str) -> None:
        self.settings, self._replica = settings, replica
        self.dropped = 0
        self._waiting: List[Tuple[str, int, RequestRecord]] = []

    def add(self, model: str, version: int, record: RequestRecord) -> None:
        """Remember a record of a version of a model."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((model, version, record))
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Write what was added. Raises OSError, RunError."""
        waiting, self._waiting = self._waiting, []
        lines: Dict[Tuple[str, int], List[str]] = {}
        for model, version, record in waiting:
            text = json.dumps({key: value for key, value in vars(record).items() if value != ""})
            lines.setdefault((model, version), []).append(text + "\n")
        for (model, version), texts in lines.items():
            files.own_folder(self.settings.folder)
            folder = files.own_folder(os.path.join(self.settings.folder, model))
            self._append(os.path.join(folder, f"{version}.{self._replica}.jsonl"), "".join(texts).encode())

    def _append(self, path: str, data: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(path) + len(data) > self.settings.max_bytes // 2:
                os.replace(path, path + _OLD)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(data[: self.settings.max_bytes // 2])


def read(folder: str, model: str) -> Iterator[Tuple[int, RequestRecord]]:
    """Yield each record of a model with its version, in no order; a line that is not whole is left out.

    Raises OSError, but for a model without a log.
    """
    base = os.path.join(folder, model)
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            with open(os.path.join(base, name), encoding="utf-8", errors="replace") as file:
                for line in file:
                    with contextlib.suppress(ValueError, TypeError):
                        yield int(match["version"]), RequestRecord(**json.loads(line))
