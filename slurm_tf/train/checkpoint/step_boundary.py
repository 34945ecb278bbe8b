"""Between two steps, and in the pauses of training: where it may be saved, and ended after an interruption.

An interruption (a preemption, a time limit, a cancel) comes as a line from the agent. The answer is {"saved": ...},
after which the agent ends this program. Who answers, and when:

- Training is where the newest checkpoint is: before its first step is done (it reads data, or compiles), or just saved.
  There is nothing to do, and that is said at once.
- It is in a pause: an evaluation, or code of the program's own between two yields of `run.loop`. A thread of the
  interruption's own saves, as the main one may be busy for long.
- It is in a step. The main thread saves at the end of it.

Tasks that train alike end at the same step. The writer asks the others to stop after the next one; none of them can be
further, as each step needs all of them, and all have heard it when the writer goes on into that step. An interruption
that comes just after the end of a step has looked for one is seen at the end of the next, unless that step was saved.
"""

import contextlib
import sys
import threading
import time
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from slurm_tf.errors import CheckpointError
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.checkpoint import local_state
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.collectives.step_clock import Clock

_BEAT_SECONDS = 5.0


class StepBoundary:
    """One task's steps. `step`: how many are done."""

    def __init__(self, control: Optional[AgentConnection], writes: bool, alike: bool, pauses: bool) -> None:
        """`writes`: this task commits checkpoints. `alike`: tasks must agree where they stop.

        `pauses`: another thread may save while the program evaluates; not under ps, where closures may run then.
        """
        self.step = 0
        self._control, self._writes, self._alike, self._pauses = control, writes, alike, pauses
        self._lock = threading.RLock()
        self._checkpoints: Optional[Checkpoints] = None
        self._checkpoint: Any = None
        self._collective: allreduce.Collective = allreduce.SingleTask()
        self._own: Sequence[Any] = ()
        self._gathered: Dict[str, bytes] = {}
        self._saved = 0
        self._paused = False
        self._reason = ""
        self._agreed: Optional[Tuple[int, bool]] = None
        self._answered = False
        self._phase = ""
        self._beaten = 0.0
        self._measured: Optional[Tuple[int, float]] = None
        # where tasks wait for each other in each step
        self.clock: Optional[Clock] = None

    # --- in threads of the control line ---

    def interrupt(self, reason: str) -> None:
        """Take in that training is to be saved and ended."""
        if not self._writes:
            return
        with self._lock:
            self._reason = self._reason or reason
            if self.step == self._saved or (self._paused and self._pauses):
                self._save_and_answer()

    def agree(self, message: Dict[str, Any]) -> Optional[str]:
        """Answer the writer, which wants all to come together after a step."""
        self._agreed = (int(message["meet"]), bool(message["stop"]))
        return None

    @property
    def is_interrupted(self) -> bool:
        """Whether training is to be saved and ended."""
        return bool(self._reason)

    # --- in the main thread ---

    def begin(
        self,
        step: int,
        collective: allreduce.Collective,
        checkpoints: Optional[Checkpoints],
        checkpoint: Any,
        own_variables: Sequence[Any],
    ) -> None:
        """Take in what is trained, at `step`, which is that of the newest checkpoint or 0."""
        with self._lock:
            self.step = self._saved = step
            self._collective, self._checkpoints, self._checkpoint = collective, checkpoints, checkpoint
            self._own = own_variables

    def phase(self, name: str) -> None:
        """Say what training does, for whoever waits for it to go on: each phase takes its own time."""
        if self._control and name != self._phase:
            self._phase = name
            self._control.tell({"phase": name, "step": self.step})

    def beat(self, step: int) -> None:
        """Say now and then how far training is, for whoever waits for it to go on."""
        if self._control and time.monotonic() - self._beaten >= _BEAT_SECONDS:
            self._beaten = time.monotonic()
            self._control.tell({"at": step, **self._own_work(step)})

    def _own_work(self, step: int) -> Dict[str, float]:
        """Return how long this task worked by itself in each step since the last time."""
        if self.clock is None:
            return {}
        last, self._measured = self._measured, (step - self.clock.skipped, self.clock.seconds)
        if last is None or self._measured[0] <= last[0]:  # the first steps were compiled
            return {}
        return {"own": (self._measured[1] - last[1]) / (self._measured[0] - last[0])}

    def reached(self, step: int, last: bool = False) -> None:
        """Take in that `step` steps are done; save if it is time. Collective at times.

        After an interruption it raises SystemExit. `last`: of all; it is saved and on storage then. Raises
        CheckpointError if it is not.
        """
        self.phase("train")
        with self._lock:
            self.step, reason = step, self._reason
        self.beat(step)
        agreed = self._agreed
        if last or (agreed and step >= agreed[0]):
            self._meet(stop=bool(agreed and agreed[1]) or bool(reason), last=last)
        elif not agreed and self._writes and (reason or self._is_due(step)):
            if not self._alike or self._control is None or not (reason or self._own):
                self._meet(stop=bool(reason), last=False)
            else:
                self._ask_to_meet(self._control, step + 1, bool(reason))

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Be in a pause of training: no variable of it changes here. Collective."""
        gathered = self._gather()
        with self._lock:
            self._gathered, self._paused = gathered, True
            if self._reason and self._writes and self._pauses:
                self._save_and_answer()
        before = self._phase
        self.phase("evaluate")
        try:
            yield
        finally:
            with self._lock:
                self._paused = False
            self._skip()
            self.end_if_told()
        # the step that comes has a step's time; not where the program breaks off, which may take its own afterwards
        self.phase(before)

    def _skip(self) -> None:
        if self.clock:
            self.clock.skip()

    def end_if_told(self) -> None:
        """Raise SystemExit if the agent has said that this program is to end."""
        if self._control and self._control.is_leaving():
            self._control.leave()

    def _is_due(self, step: int) -> bool:
        return self._checkpoints is not None and self._checkpoints.due(step)

    def _ask_to_meet(self, control: AgentConnection, step: int, stop: bool) -> None:
        try:
            errors = control.ask("*", {"meet": step, "stop": stop})
        except OSError as error:
            errors = {"the agent": str(error)}
        failed = [f"{task}: {error}" for task, error in errors.items() if error]
        if not failed:
            self._agreed = (step, stop)
            return
        _say(f"cannot meet the others after step {step}: {'; '.join(failed)}")
        if stop:  # they are gone, or cannot be reached: what they alone have is lost, and nothing else
            self._gathered = {}
            self._close(stop, last=False)

    def _meet(self, stop: bool, last: bool) -> None:
        self._gathered, self._agreed = self._gather(), None
        self._close(stop, last)

    def _gather(self) -> Dict[str, bytes]:
        """Return what goes beside TensorFlow's files of a checkpoint; collective."""
        return {local_state.FILE: local_state.gather(self._collective, self._own)} if self._own else {}

    def _close(self, stop: bool, last: bool) -> None:
        """Save, as far as it is this task's affair; end if it is to `stop`."""
        with self._lock:
            self._write()
            if last and not stop and self._checkpoints is not None and self._writes:
                self._checkpoints.wait()
            if last:
                self.phase("done")
            if not stop:
                if self._reason and self._writes and self.step == self._saved:
                    self._answer()  # it was heard just after this step had looked
                self._skip()
                return
            if self._writes:
                self._answer()
        if self._control:
            self._control.leave()

    def _save_and_answer(self) -> None:
        try:
            if self.step != self._saved:
                self._write()
        except CheckpointError as error:
            self._answer(str(error))
        self._answer()

    def _write(self) -> None:
        if self._writes and self._checkpoints is not None and self._checkpoint is not None:
            self._checkpoints.save(self._checkpoint, self.step, self._gathered)
            self._saved = self.step

    def _answer(self, problem: str = "") -> None:
        """Say that all up to the newest checkpoint is on storage, or why it is not: because of `problem`, for one."""
        if self._answered or self._control is None:
            return
        self._answered, error = True, problem or None
        if problem or self._checkpoint is None:  # None: before there is anything to train
            pass
        elif self._checkpoints is None:
            error = "the program keeps no checkpoints"
        else:
            try:
                self._checkpoints.wait()
            except CheckpointError as failure:
                error = str(failure)
        _say(f"{self._reason}: " + (error or f"all of step {self._saved} is saved"))
        self._control.tell({"saved": {"step": self._saved, "error": error}})


def _say(text: str) -> None:
    sys.stderr.write(f"slurm_tf.train: {text}\n")
    sys.stderr.flush()
