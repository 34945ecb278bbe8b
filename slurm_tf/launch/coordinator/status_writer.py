"""How an attempt is doing, for whoever looks into the run's folder: written by the coordinator, read by `status`."""

import json
import math
import os
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from slurm_tf import files
from slurm_tf.launch.job_context import attempt_id
from slurm_tf.run import lease
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import VERSION

# What happens to tasks is written so soon, in one go for all to which it happens; progress less often.
_SOON = 0.2
_PROGRESS = 2.0


class Status:
    """One attempt's status file.

    Times are of the coordinator's clock, seconds since the epoch. States are those of launch/decide/restarts.py, and
    "registering" before all tasks have registered.
    """

    def __init__(
        self,
        folder: RunFolder,
        run: str,
        planned: List[str],
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """`planned`: the tasks by name; `environ`: the batch script's; `say`: told when the file cannot be written."""
        self._folder, self._own, self._say = folder, attempt_id(environ), say
        self._due: Optional[float] = None
        self._failed = False
        self._values: Dict[str, Any] = {
            "contract": VERSION,
            "run": run,
            "job": environ.get("SLURM_JOB_ID", ""),
            "attempt": int(environ.get("SLURM_RESTART_COUNT") or 0),
            "host": os.uname().nodename,
            "started": time.time(),
            "state": "registering",
            "restarts": 0,
            "code": None,
            "reason": "",
            "stragglers": None,
            "tasks": {name: {"state": "missing"} for name in planned},
        }
        self.write()

    def update(self, **values: object) -> None:
        """Set values of the attempt."""
        if any(self._values.get(name) != value for name, value in values.items()):
            self._values.update(values)
            self._write_in(_SOON)

    def task(self, name: str, **values: object) -> None:
        """Set values of one task."""
        self._values["tasks"].setdefault(name, {}).update(values)
        self._write_in(_SOON)

    def progress(self, name: str, words: object) -> None:
        """Take in what a program said of its progress: numbers, by name. A program may say anything."""
        if not isinstance(words, dict) or not isinstance(words.get("values"), dict):
            return
        progress: Dict[str, object] = {key: _number(words.get(key)) for key in ("step", "steps", "rate")}
        progress["values"] = {str(key)[:64]: _number(value) for key, value in list(words["values"].items())[:32]}
        self._values["tasks"].setdefault(name, {})["progress"] = {**progress, "at": time.time()}
        self._write_in(_PROGRESS)

    def tick(self, now: float) -> None:
        """Write what is due."""
        if self._due is not None and now >= self._due:
            self.write()

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        return self._due

    def write(self) -> None:
        """Write the file now, unless it is another attempt's. Training goes on where that fails, as on a full disk."""
        self._due = None
        if lease.is_taken_over(self._folder, self._own):
            return
        self._values["written"] = time.time()
        try:
            files.write_whole(self._folder.status, json.dumps(self._values).encode())
        except OSError as error:
            if not self._failed:
                self._say(f"cannot write {self._folder.status}: {error.strerror}")
            self._failed = True

    def _write_in(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        self._due = due if self._due is None else min(self._due, due)


def _number(value: object) -> Optional[float]:
    """Return a number as it is, if JSON has it: a loss may be NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value
