"""The signals of an attempt, and squeue's word on them: what surrounds launch/decide/termination.py."""

import os
import signal
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from slurm_tf import files
from slurm_tf.launch.coordinator.fault_injection import FaultInjector
from slurm_tf.launch.decide.hangs import HangDetector, Phase
from slurm_tf.launch.decide.stragglers import Stragglers
from slurm_tf.launch.decide.termination import Termination, TerminationAction
from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.slurm import in_job

# How often a question is looked at.
_POLL_SECONDS = 0.05
# So much later than its program's end an agent's own signal may be told.
_SUSPECT_SECONDS = 2.0
# How often a question is asked again that was ended by a signal.
_QUESTIONS = 3
# Longer between two looks than the coordinator ever waits: it was stopped.
_ASLEEP_SECONDS = 30.0


class SignalMonitor:
    """Takes in signals, and what programs say of their checkpoints; has `interruption` learn what it means."""

    def __init__(
        self, place: JobContext, settings: LaunchSettings, record: Optional[AttemptRecorder], say: Callable[[str], None]
    ) -> None:
        """`say`: prints the notes."""
        self.interruption = Termination(settings)
        self.exclusion = Exclusion(place, say)
        self._watchdog = HangDetector(settings.watch, lambda: files.newest(place.folder.checkpoints))
        self.stragglers = Stragglers(settings.watch)
        self._rehearsal = FaultInjector(place.folder, attempt_id(place.environ), self.interruption, say)
        self._record, self._local = record, settings.local
        self._place, self._say = place, say
        self._question: Optional[in_job.Question] = None
        self._suspects: Dict[str, float] = {}
        self._looked = time.monotonic()
        self._patience = _QUESTIONS

    def signal(self, number: int, who: str, direct: bool) -> None:
        """Take in that `who` got signal `number`; `direct`: the coordinator itself."""
        self.interruption.signal(number, who, direct, time.monotonic(), self._place.is_cancelled)

    def started(self, name: str) -> None:
        """Take in that task `name` runs."""
        self.interruption.started(name)
        self._watchdog.started(name, time.monotonic())

    def line(self, name: str, words: Dict[str, Any]) -> bool:
        """Take in what the program of `name` said; return whether that was all. It may say anything."""
        self.stragglers.line(name, words, time.monotonic())
        if self._record and (words.get("phase") == Phase.TRAIN or "at" in words):
            self._record.trains()
        if self._watchdog.line(name, words, time.monotonic()):
            return True
        said = {key: words[key] for key in ("hello", "saved", "committed") if isinstance(words.get(key), dict)}
        if "hello" in said:
            writes = bool(said["hello"].get("writes"))
            self.interruption.hello(name, writes, time.monotonic())
            if writes and self._record:
                self._record.heard()
        elif "saved" in said:
            error = said["saved"].get("error")
            self.interruption.saved(name, None if error is None else str(error))
        elif "committed" in said and isinstance(said["committed"].get("step"), int) and self._record:
            self._record.committed(said["committed"]["step"])
        return bool(said)

    def orders(self, now: float, nodes: Mapping[str, str], trains: bool) -> List[Tuple[str, str]]:
        """Return (task, what its agent is to do): of what is rehearsed, and of what is hung where all `trains`."""
        orders = self._rehearsal.due(now, nodes) + (self._watchdog.due(now) if trains else [])
        for note in self._watchdog.notes:
            self._say(note)
        self._watchdog.notes.clear()
        for name, note in self.stragglers.notes:
            self._say(f"{name} on {nodes[name]} is slow: it {note}; they wait for it")
        self.stragglers.notes.clear()
        slow = self.stragglers.slow if trains and not self.interruption.begun else None
        if slow is not None:
            self.exclusion.slow({name: (nodes[name], how) for name, how in slow.items()})
        for name in self._watchdog.alone:
            self.exclusion.hung(name, nodes[name])
        self._watchdog.alone.clear()
        for node in self._rehearsal.failed:
            self.exclusion.is_bad(node, "its failure was rehearsed")
        return orders

    @property
    def orders_at(self) -> float:
        """When `orders` has something new to say."""
        watched = self._watchdog.wakes_at
        return self._rehearsal.wakes_at if watched is None else min(self._rehearsal.wakes_at, watched)

    @property
    def rehearses_a_dead_node(self) -> bool:
        """Whether a node counts as dead that is there."""
        return bool(self._rehearsal.failed)

    def suspects(self, name: str, code: int, now: float) -> bool:
        """Take in that the program of `name` ended with `code`, unasked; return whether that may begin a preemption.

        With proctrack/linuxproc the signal reaches the program as well as its agent. Its end is told by `ended` then.
        """
        if code != -signal.SIGTERM or self._local or self.interruption.begun:
            return False
        self._suspects[name] = now + _SUSPECT_SECONDS
        return True

    def ended(self, now: float) -> List[str]:
        """Return whose ends are to be taken in now."""
        return [name for name, until in self._suspects.items() if self.interruption.begun or now >= until]

    def gone(self, name: str) -> None:
        """Take in that `name` does not run any more."""
        self.interruption.ended(name)
        self._watchdog.ended(name)
        self.stragglers.ended(name)
        self._suspects.pop(name, None)

    def due(self, now: float) -> Optional[TerminationAction]:
        """Return what is to be done now, as Termination.due does. It is asked all the time."""
        if now - self._looked > _ASLEEP_SECONDS:
            self._watchdog.slept(now - self._looked)
        self._looked = now
        self._ask(now)
        word = self.interruption.due(now)
        if word is TerminationAction.SAVE:
            self.exclusion.begin(insists=True)
        if self._record and self.interruption.cause is not EndCause.NONE:
            # not at the end: Slurm kills us KillWait after its SIGTERM, and the step may take longer to end
            self._record.decided(self.interruption.cause, self.interruption.reason)
        for note in self.interruption.notes:
            self._say(note)
        self.interruption.notes.clear()
        return word

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` or `ended` has something new to say."""
        asked = time.monotonic() + _POLL_SECONDS if self._question else self.interruption.wakes_at
        return min((when for when in (asked, *self._suspects.values()) if when is not None), default=None)

    def _ask(self, now: float) -> None:
        if self.interruption.asks and self._question is None:
            self.interruption.asks = False
            self._question = in_job.Question(in_job.job_status_command(self._place.job), os.environ)
        answer = self._question.answer() if self._question else None
        if answer is not None and answer.code is not None and answer.code < 0 and self._patience:
            # with proctrack/linuxproc the signal reaches the question as well
            self._patience -= 1
            self._question = in_job.Question(in_job.job_status_command(self._place.job), os.environ)
        elif answer is not None:
            self._question = None
            standing = in_job.job_status(answer)
            self.interruption.learn(standing, None if standing.ends is None else standing.ends - time.time(), now)
