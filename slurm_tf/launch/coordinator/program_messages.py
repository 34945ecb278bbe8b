"""Gives what programs with slurm_tf.train say of their training to the parts of the coordinator that use it."""

import time
from typing import Any, Mapping, Optional

from slurm_tf.launch.coordinator.progress_monitor import ProgressMonitor
from slurm_tf.launch.decide.hangs import Phase
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.run.attempts import AttemptRecorder


class ProgramMessages:
    """The messages of all programs of one attempt. A program may send anything."""

    def __init__(
        self, termination: Termination, progress: ProgressMonitor, recorder: Optional[AttemptRecorder]
    ) -> None:
        """`recorder`: None for a preflight alone."""
        self._termination, self._progress, self._recorder = termination, progress, recorder

    def take(self, name: str, message: Mapping[str, Any]) -> bool:
        """Record what the program of task `name` said; return whether it was for the coordinator alone."""
        if self._recorder and (message.get("phase") == Phase.TRAIN or "at" in message):
            self._recorder.trains()
        if self._progress.message(name, message):
            return True
        for key, record in (("hello", self._hello), ("saved", self._saved), ("committed", self._committed)):
            if isinstance(message.get(key), dict):
                record(name, message[key])
                return True
        return False

    def _hello(self, name: str, hello: Mapping[str, Any]) -> None:
        writes = bool(hello.get("writes"))
        self._termination.hello(name, writes, time.monotonic())
        if writes and self._recorder:
            self._recorder.tells_of_checkpoints()

    def _saved(self, name: str, saved: Mapping[str, Any]) -> None:
        error = saved.get("error")
        self._termination.saved(name, None if error is None else str(error))

    def _committed(self, _: str, committed: Mapping[str, Any]) -> None:
        if isinstance(committed.get("step"), int) and self._recorder:
            self._recorder.committed(committed["step"])
