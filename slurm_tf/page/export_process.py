"""Exports of runs, each by a process of its own: `slurm-tf export` has TensorFlow imported, and takes a minute."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from slurm_tf.errors import UsageError

# So many exports at once, as each has a TensorFlow of its own; and so many bytes of what one printed are shown.
_MOST, _MOST_BYTES = 2, 4000


@dataclass(frozen=True, slots=True)
class ExportState:
    """An export. `started`: seconds since the epoch; `is_over`: its process has ended.

    `version`: the folder of the version that there is now, "" for none. `lines`: what the verb said, its last lines.
    """

    started: float
    is_over: bool
    version: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Export:
    process: "subprocess.Popen[bytes]"
    started: float
    output: IO[bytes]
    said: IO[bytes]


class ExportProcesses:
    """The exports that were started here, the last one of each run; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exports: dict[str, _Export] = {}

    def start(self, run: str, words: Sequence[str]) -> None:
        """Start `slurm-tf export` of the run in a folder, with further words. Raises UsageError, OSError."""
        with self._lock:
            living = [folder for folder, each in self._exports.items() if each.process.poll() is None]
            if run in living:
                raise UsageError("an export of this run is under way", "one at a time", "look again when it has ended")
            if len(living) >= _MOST:
                raise UsageError(f"{_MOST} exports are under way", "fewer", "look again when one has ended")
            output, said = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - they are read later
            process = subprocess.Popen(
                [sys.executable, "-m", "slurm_tf", "export", run, "--json", *words], stdin=subprocess.DEVNULL,
                stdout=output, stderr=said, env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1"},
            )  # fmt: skip
            self._exports[run] = _Export(process, time.time(), output, said)

    def state(self, run: str) -> ExportState | None:
        """Return how the last export of the run in a folder is, None for none."""
        with self._lock:
            found = self._exports.get(run)
            if found is None:
                return None
            code = found.process.poll()
            said = _last(found.said).decode("utf-8", "replace").splitlines()
            version = json.loads(_last(found.output))["path"] if code == 0 else ""
            return ExportState(found.started, code is not None, version, said)


def _last(file: IO[bytes]) -> bytes:
    """Return the end of a file that another process writes, whose own place in it stays."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _MOST_BYTES, max(0, size - _MOST_BYTES))
