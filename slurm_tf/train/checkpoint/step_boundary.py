"""Saves training between two steps or in a pause, and ends it there after an interruption.

An interruption (a preemption, a time limit, a cancel) is announced by the agent. The writer saves and answers with the
message Saved, after which the agent ends this program. Which thread answers, and when:

- Nothing has changed since the newest checkpoint: before the first step is done (the program reads data, or compiles),
  or just after a save. The thread of the interruption answers at once.
- Training is in a pause: an evaluation, or code of the program's own between two yields of `run.loop`. The thread of
  the interruption saves, as the main thread may be busy for long.
- Training is in a step. The main thread saves at the end of the step.

Tasks that train in lockstep must all stop after the same step. The writer requests that for the step after the current
one. No task can be further, as each step needs all of them, and all have received the request before the writer starts
that step. An interruption that arrives after the end of a step has checked for one is handled at the end of the next
step, unless that step was saved.
"""

import contextlib
import enum
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from slurm_tf.errors import CheckpointError
from slurm_tf.run.program_messages import ALL_ROLES, Phase, PhaseEntered, Saved, StepReached, StepTime
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.checkpoint import local_state
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.collectives.step_clock import StepClock
from slurm_tf.train.data import iterator_positions
from slurm_tf.train.train_log import log

_REPORT_SECONDS = 5.0


class _Interruption(enum.Enum):
    """Whether training is to be saved and ended, and whether the agent was told that it is saved."""

    NONE = enum.auto()
    ANNOUNCED = enum.auto()
    ANSWERED = enum.auto()


@dataclass(frozen=True)
class _SyncPoint:
    """The step after which all tasks come together to save, and to end if `stop`."""

    step: int
    stop: bool


class StepBoundary:
    """Decides after each step of one task whether to save and whether to end. `step`: how many steps are done."""

    def __init__(
        self, agent: Optional[AgentConnection], is_writer: bool, in_lockstep: bool, saves_in_pauses: bool
    ) -> None:
        """`is_writer`: this task commits checkpoints. `in_lockstep`: all tasks must stop after the same step.

        `saves_in_pauses`: another thread may save during a pause; not under ps, where workers may run steps then.
        """
        self.step = 0
        self._agent, self._is_writer, self._in_lockstep = agent, is_writer, in_lockstep
        self._saves_in_pauses = saves_in_pauses
        self._lock = threading.RLock()
        self._checkpoints: Optional[Checkpoints] = None
        self._checkpoint: Any = None
        self._collective: allreduce.Collective = allreduce.SingleTaskCollective()
        self._local_variables: Sequence[Any] = ()
        self._iterators: Sequence[Any] = ()
        self._extras: Dict[str, bytes] = {}
        self._saved_step = 0
        self._is_paused = False
        self._interruption, self._reason = _Interruption.NONE, ""
        self._sync_point: Optional[_SyncPoint] = None
        self._phase: Optional[Phase] = None
        self._reported_at = 0.0
        self._measured: Optional[Tuple[int, float]] = None
        # set where tasks wait for each other in each step
        self.clock: Optional[StepClock] = None

    # --- in threads of the agent connection ---

    def interrupt(self, reason: str) -> None:
        """Record that training is to be saved and ended; do it here if no step runs."""
        if not self._is_writer:
            return
        with self._lock:
            if self._interruption is _Interruption.NONE:
                self._interruption, self._reason = _Interruption.ANNOUNCED, reason
            if self.step == self._saved_step or (self._is_paused and self._saves_in_pauses):
                self._save_and_answer()

    def handle_sync_request(self, content: Mapping[str, Any]) -> Optional[str]:
        """Accept the writer's request that all tasks come together after a step; return no error."""
        self._sync_point = _SyncPoint(int(content["step"]), bool(content["stop"]))
        return None

    @property
    def is_interrupted(self) -> bool:
        """Whether training is to be saved and ended."""
        return self._interruption is not _Interruption.NONE

    # --- in the main thread ---

    def track(
        self,
        step: int,
        collective: allreduce.Collective,
        checkpoints: Optional[Checkpoints],
        checkpoint: Any,
        local_variables: Sequence[Any],
        iterators: Sequence[Any] = (),
    ) -> None:
        """Set what is trained and saved. `step`: that of the newest checkpoint, or 0."""
        with self._lock:
            self.step = self._saved_step = step
            self._collective, self._checkpoints, self._checkpoint = collective, checkpoints, checkpoint
            self._local_variables, self._iterators = local_variables, iterators

    def enter_phase(self, phase: Phase) -> None:
        """Tell the hang detector what training does now, as each phase has a time limit of its own."""
        if self._agent and phase is not self._phase:
            self._phase = phase
            self._agent.send(PhaseEntered(phase))

    def report_step(self, step: int) -> None:
        """Tell the coordinator every few seconds that `step` is done, and how long this task works in a step."""
        if self._agent and time.monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = time.monotonic()
            self._agent.send(StepReached(step))
            seconds = self._step_time(step)
            if seconds is not None:
                self._agent.send(StepTime(seconds))

    def _step_time(self, step: int) -> Optional[float]:
        """Return the mean seconds of own work in each step since the last report, None if they are not known."""
        if self.clock is None:
            return None
        last, self._measured = self._measured, (step - self.clock.skipped, self.clock.seconds)
        if last is None or self._measured[0] <= last[0]:  # None: the first steps were compiled
            return None
        return (self._measured[1] - last[1]) / (self._measured[0] - last[0])

    def after_step(self, step: int, last: bool = False) -> None:
        """Record that `step` steps are done; save if a save is due. Collective at times.

        Raises SystemExit after an interruption. `last`: this was the last step of all; the checkpoint is on storage
        when this returns. Raises CheckpointError if it cannot be written.
        """
        self.enter_phase(Phase.TRAIN)
        with self._lock:
            self.step, interrupted = step, self.is_interrupted
        self.report_step(step)
        sync_point = self._sync_point
        if last or (sync_point and step >= sync_point.step):
            self._synchronize(stop=bool(sync_point and sync_point.stop) or interrupted, last=last)
        elif not sync_point and self._is_writer and (interrupted or self._is_due(step)):
            if not self._in_lockstep or self._agent is None or not (interrupted or self._has_local_state):
                self._synchronize(stop=interrupted, last=False)
            else:
                self._request_sync(self._agent, _SyncPoint(step + 1, interrupted))

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Pause training: its variables do not change inside this context. Collective."""
        extras = self._gather_local_state()
        with self._lock:
            self._extras, self._is_paused = extras, True
            if self.is_interrupted and self._is_writer and self._saves_in_pauses:
                self._save_and_answer()
        before = self._phase
        self.enter_phase(Phase.EVALUATE)
        try:
            yield
        finally:
            with self._lock:
                self._is_paused = False
            self._skip_measurement()
            self.exit_if_requested()
        # The next step has the time limit of a step. Not after an exception: the program may do something else then.
        self.enter_phase(before or Phase.DONE)

    def _skip_measurement(self) -> None:
        if self.clock:
            self.clock.skip()

    def exit_if_requested(self) -> None:
        """Raise SystemExit if the agent has told this program to exit."""
        if self._agent and self._agent.is_exit_requested():
            self._agent.wait_and_exit()

    def _is_due(self, step: int) -> bool:
        return self._checkpoints is not None and self._checkpoints.due(step)

    def _request_sync(self, agent: AgentConnection, point: _SyncPoint) -> None:
        try:
            errors = agent.request(ALL_ROLES, {"step": point.step, "stop": point.stop})
        except OSError as error:
            errors = {"the agent": str(error)}
        failed = [f"{task}: {error}" for task, error in errors.items() if error]
        if not failed:
            self._sync_point = point
            return
        log(f"cannot synchronize with the other tasks after step {point.step}: {'; '.join(failed)}")
        if point.stop:  # The others cannot be reached, so only their local state is lost.
            self._extras = {}
            self._save_or_stop(stop=True, last=False)

    def _synchronize(self, stop: bool, last: bool) -> None:
        self._extras, self._sync_point = self._gather_local_state(), None
        self._save_or_stop(stop, last)

    def _gather_local_state(self) -> Dict[str, bytes]:
        """Return the extra files of a checkpoint, by name, with what differs between tasks. Collective."""
        found = {}
        if self._local_variables:
            found[local_state.FILE] = local_state.gather(self._collective, self._local_variables)
        if self._iterators:
            found[iterator_positions.FILE] = iterator_positions.gather(self._collective, self._iterators)
        return found

    @property
    def _has_local_state(self) -> bool:
        return bool(self._local_variables or self._iterators)

    def _save_or_stop(self, stop: bool, last: bool) -> None:
        """Save if this task is the writer; then end training if `stop`."""
        with self._lock:
            self._save()
            if last and not stop and self._checkpoints is not None and self._is_writer:
                self._checkpoints.wait()
            if last:
                self.enter_phase(Phase.DONE)
            if not stop:
                if self.is_interrupted and self._is_writer and self.step == self._saved_step:
                    self._answer()  # the interruption came after this step had checked for one
                self._skip_measurement()
                return
            if self._is_writer:
                self._answer()
        if self._agent:
            self._agent.wait_and_exit()

    def _save_and_answer(self) -> None:
        try:
            if self.step != self._saved_step:
                self._save()
        except CheckpointError as error:
            self._answer(str(error))
        self._answer()

    def _save(self) -> None:
        if self._is_writer and self._checkpoints is not None and self._checkpoint is not None:
            self._checkpoints.save(self._checkpoint, self.step, self._extras)
            self._saved_step = self.step

    def _answer(self, problem: str = "") -> None:
        """Tell the agent, once, that the newest checkpoint is on storage, or why it is not.

        `problem`: an error that is known before the last save is waited for.
        """
        if self._interruption is _Interruption.ANSWERED or self._agent is None:
            return
        self._interruption = _Interruption.ANSWERED
        error = problem or self._wait_for_save()
        log(f"{self._reason}: " + (error or f"all of step {self._saved_step} is saved"))
        self._agent.send(Saved(self._saved_step, error or None))

    def _wait_for_save(self) -> str:
        """Wait until the last save is on storage; return why it is not, or ""."""
        if self._checkpoint is None:  # nothing is trained yet
            return ""
        if self._checkpoints is None:
            return "the program keeps no checkpoints"
        try:
            self._checkpoints.wait()
        except CheckpointError as error:
            return str(error)
        return ""
