"""Reports of slurm-tf's own verbs, each made by a process of its own, which takes its database with it."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus

from starlette.exceptions import HTTPException

# How long a report may take, how long it is shown again without asking Slurm, and how many are kept.
_SECONDS, _KEPT_SECONDS, _KEPT = 120.0, 60.0, 20
_PREFIX = "slurm-tf: "


@dataclass(frozen=True, slots=True)
class Report:
    """What a verb printed. `notes`: the lines on standard error, of which none is an error."""

    text: str
    notes: tuple[str, ...]


class ReportProcess:
    """Makes reports, one at a time; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, ...], tuple[float, Report]] = {}

    def report(self, *words: str) -> Report:
        """Return what `slurm-tf WORDS` prints. Raises HTTPException, also where the verb says that it cannot."""
        with self._lock:
            oldest = time.monotonic() - _KEPT_SECONDS
            self._made = dict([(key, made) for key, made in self._made.items() if made[0] > oldest][-_KEPT:])
            if words not in self._made:
                self._made[words] = (time.monotonic(), _run(words))
            return self._made[words][1]


def _run(words: tuple[str, ...]) -> Report:
    environ = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "slurm_tf", *words], env=environ, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise HTTPException(
            HTTPStatus.GATEWAY_TIMEOUT, f"slurm-tf {words[0]} did not end in {_SECONDS:.0f} s: ask for fewer days"
        ) from error
    said = [line.removeprefix(_PREFIX) for line in done.stderr.splitlines() if line]
    if done.returncode:
        raise HTTPException(HTTPStatus.BAD_GATEWAY, "\n".join(said) or f"slurm-tf {words[0]} did not say why")
    return Report(done.stdout, tuple(said))
