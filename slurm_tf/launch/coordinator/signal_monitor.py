"""Watches the signals of an attempt: has squeue asked for their cause, and the cause recorded once it is decided.

What signals mean is decided in launch/decide/termination.py.
"""

import os
import signal
import time
from typing import Callable, Dict, List, Optional

from slurm_tf.launch.decide.termination import Termination, TerminationAction
from slurm_tf.launch.job_context import JobContext
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.slurm import in_job

# How often squeue is looked at while it runs.
_POLL_SECONDS = 0.05
# How much later than its program's end an agent may say that it got a signal itself.
_SUSPECT_SECONDS = 2.0
# How often squeue is started again if a signal has ended it.
_MOST_RETRIES = 3


class SignalMonitor:
    """The signals of one attempt."""

    def __init__(
        self,
        context: JobContext,
        termination: Termination,
        recorder: Optional[AttemptRecorder],
        local: bool,
        say: Callable[[str], None],
    ) -> None:
        """`recorder`: None for a preflight alone; `local`: whether the run does without Slurm."""
        self._context, self._termination, self._recorder = context, termination, recorder
        self._local, self._say = local, say
        self._question: Optional[in_job.Question] = None
        self._retries = _MOST_RETRIES
        # until when it is open whether the end of a task's program begins a termination
        self._suspects: Dict[str, float] = {}

    def signal(self, number: int, receiver: str, direct: bool) -> None:
        """Record that `receiver` got signal `number`; `direct`: it is the coordinator."""
        self._termination.signal(number, receiver, direct, time.monotonic(), self._context.is_cancelled)

    def is_suspect(self, name: str, code: int, now: float) -> bool:
        """Return whether the end of the program of `name` with `code`, unasked, may begin a termination.

        With proctrack/linuxproc a signal reaches the program as well as its agent. Whether it did is known soon after:
        see `suspects_due`.
        """
        if code != -signal.SIGTERM or self._local or self._termination.begun:
            return False
        self._suspects[name] = now + _SUSPECT_SECONDS
        return True

    def suspects_due(self, now: float) -> List[str]:
        """Return the suspects whose ends count now, with a termination or without one."""
        return [name for name, until in self._suspects.items() if self._termination.begun or now >= until]

    def started(self, name: str) -> None:
        """Record that the program of task `name` runs."""
        self._termination.started(name)

    def ended(self, name: str) -> None:
        """Record that the program of `name` does not run any more."""
        self._termination.ended(name)
        self._suspects.pop(name, None)

    def due(self, now: float) -> Optional[TerminationAction]:
        """Return what is to be done now, as Termination.due does. To be called in each round of the coordinator."""
        self._ask_squeue(now)
        action = self._termination.due(now)
        if self._recorder and self._termination.cause is not EndCause.NONE:
            # now, not at the end: Slurm kills this process KillWait after its SIGTERM, and the step may take longer
            self._recorder.decided(self._termination.cause, self._termination.reason)
        for note in self._termination.notes:
            self._say(note)
        self._termination.notes.clear()
        return action

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` or `suspects_due` has something new to say."""
        due = time.monotonic() + _POLL_SECONDS if self._question else self._termination.wakes_at
        return min((when for when in (due, *self._suspects.values()) if when is not None), default=None)

    def _ask_squeue(self, now: float) -> None:
        if self._termination.asks and self._question is None:
            self._termination.asks = False
            self._question = self._start_squeue()
        answer = self._question.answer() if self._question else None
        if answer is None:
            return
        if answer.code is not None and answer.code < 0 and self._retries:
            # with proctrack/linuxproc the signal reaches squeue as well
            self._retries -= 1
            self._question = self._start_squeue()
            return
        self._question = None
        status = in_job.job_status(answer)
        self._termination.learn(status, None if status.ends is None else status.ends - time.time(), now)

    def _start_squeue(self) -> in_job.Question:
        return in_job.Question(in_job.job_status_command(self._context.job), os.environ)
