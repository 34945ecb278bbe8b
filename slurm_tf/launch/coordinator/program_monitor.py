"""Passes what programs with slurm_tf.train tell of their training to the parts of the coordinator that use it."""

import time
from typing import Any, Callable, Dict, Optional, Type

from slurm_tf.launch.coordinator.progress_monitor import ProgressMonitor
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.run.attempts import AttemptRecorder
from slurm_tf.run.program_messages import (
    CheckpointCommitted,
    Listening,
    Phase,
    PhaseEntered,
    ProgramMessage,
    ProgressReport,
    Saved,
    StepReached,
    StepTime,
    TensorFlowVersion,
)


class ProgramMonitor:
    """The state of all programs of one attempt, as their messages tell it."""

    def __init__(
        self,
        termination: Termination,
        progress: ProgressMonitor,
        status: StatusWriter,
        recorder: Optional[AttemptRecorder],
    ) -> None:
        """`recorder`: None for a preflight alone."""
        self._termination, self._progress, self._status, self._recorder = termination, progress, status, recorder
        self._handlers: Dict[Type[Any], Callable[[str, Any], None]] = {
            Listening: self._on_listening,
            TensorFlowVersion: self._on_tensorflow_version,
            Saved: self._on_saved,
            CheckpointCommitted: self._on_checkpoint_committed,
            ProgressReport: self._status.progress,
            PhaseEntered: self._on_phase_entered,
            StepReached: self._on_step_reached,
            StepTime: self._on_step_time,
        }

    def handle(self, name: str, message: ProgramMessage) -> None:
        """Record a message of the program of task `name`."""
        self._handlers[type(message)](name, message)

    def _on_listening(self, name: str, message: Listening) -> None:
        self._termination.listening(name, message.is_writer, time.monotonic())
        if message.is_writer and self._recorder:
            self._recorder.tells_of_checkpoints()

    def _on_tensorflow_version(self, name: str, message: TensorFlowVersion) -> None:
        if self._recorder:
            self._recorder.uses_tensorflow(name.partition(":")[0], message.version)

    def _on_saved(self, name: str, message: Saved) -> None:
        self._termination.saved(name, message.error)

    def _on_checkpoint_committed(self, _name: str, message: CheckpointCommitted) -> None:
        if self._recorder:
            self._recorder.committed(message.step)

    def _on_phase_entered(self, name: str, message: PhaseEntered) -> None:
        self._progress.phase_entered(name, message.phase)
        if message.phase is Phase.TRAIN:
            self._record_training()

    def _on_step_reached(self, name: str, message: StepReached) -> None:
        self._progress.step_reached(name, message.step)
        self._record_training()

    def _on_step_time(self, name: str, message: StepTime) -> None:
        self._progress.step_time(name, message.seconds)

    def _record_training(self) -> None:
        if self._recorder:
            self._recorder.trains()
