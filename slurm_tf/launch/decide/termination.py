"""What a signal means, and when the programs have done what they can about it. No I/O; the time comes from outside.

| what is seen                                                     | cause      | after it               |
|------------------------------------------------------------------|------------|------------------------|
| SIGINT, the run's `cancelled` marker, any signal without Slurm   | cancel     | the end                |
| squeue tells a PreemptTime                                       | preemption | another attempt        |
| the signal of the job's --signal, or SIGTERM at the time limit   | timeout    | another attempt        |
| squeue does not answer                                           | unknown    | what Slurm makes of it |
| anything else                                                    | cancel     | the end                |

Programs save at the first signal, whatever it will turn out to mean; signals that are repeated change nothing. One that
reaches the coordinator while it waits for a preemption or a time limit is either the end of that time or a `scancel`.
"""

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Dict, List, Optional

from slurm_tf.launch.decide.restarts import INDEPENDENT_WORKERS
from slurm_tf.run import env
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.slurm.in_job import JobStatus

# Slurm ends a job at its limit or up to so many seconds before what squeue said.
AT_THE_LIMIT = 5.0
# A --signal may come so much earlier than it says: sbatch(1) of 22.05.
_EARLY_WARNING = 60.0
# How long a save may take where nobody says when the job ends.
_SAVE_SECONDS = 120.0
# Of the time until the end, kept for what comes after the save.
_MARGIN_SECONDS = 5.0
# A step that srun ends because an agent died signals the other agents first, and that agent is missed a moment later.
_STEP_SECONDS = 2.0
# When its time is over a job gets SIGTERM, and SIGKILL only KillWait later: 30 s by default.
_SHORTEST_SAVE = 10.0
# Tasks of these roles save nothing at a signal.
_SERVING = ("ps", "evaluator")


class TerminationAction(Enum):
    """What is to be done at a termination: have the programs save, then end them."""

    SAVE = "save"
    END = "end"


@dataclass
class _Program:
    """A program that runs. `listens`: it uses slurm_tf.train and has said so; `saves_by_itself`: at a signal."""

    saves_by_itself: bool
    listens: bool = False
    writes: bool = False
    saved: bool = False

    @property
    def is_awaited(self) -> bool:
        return self.writes and not self.saved if self.listens else self.saves_by_itself


class Termination:
    """All signals of one attempt.

    `asks`: squeue is to be asked; the answer goes to `learn`. `notes`: lines to print.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        name, self._warning_seconds = settings.warning
        self.cause = EndCause.NONE
        self.asks = False
        self.notes: List[str] = []
        # whether there was a program that could
        self.can_save = False
        # when the job ends as squeue has it, in time.monotonic
        self.ends_at: Optional[float] = None
        self._settings = settings
        self._warning = signal.Signals[f"SIG{name}"] if name else None
        self._programs: Dict[str, _Program] = {}
        self._number, self._reason = 0, ""
        self._direct = self._warned = self._over = self._told = self._left = self._hurried = False
        self._keyboard = 0
        self._until = 0.0
        self._decide_at: Optional[float] = None

    # --- programs ---

    def started(self, name: str) -> None:
        """Take in that task `name` runs."""
        role = name.partition(":")[0]
        serves = role in _SERVING or (role == "worker" and self._settings.strategy == "ps")
        self._programs[name] = _Program(bool(self._settings.checkpoint_signal) and not serves)

    def hello(self, name: str, writes: bool, now: float) -> None:
        """Take in that the program of `name` listens; `writes`: it is the one that commits checkpoints."""
        if name in self._programs:
            self._programs[name].listens, self._programs[name].writes = True, writes
        if writes and self._warned and not self.begun:
            self._begin(self._warning or 0, "the job", now)
            self._decide(EndCause.TIMEOUT, now)
            self.asks = True

    def saved(self, name: str, error: Optional[str]) -> None:
        """Take in that `name` has saved, or why it could not."""
        if name in self._programs:
            self._programs[name].saved = True
        if error:
            self.notes.append(f"{name} could not save: {error}")

    def ended(self, name: str) -> None:
        """Take in that `name` does not run any more."""
        self._programs.pop(name, None)

    @property
    def listeners(self) -> List[str]:
        """The tasks whose programs listen."""
        return [name for name, program in self._programs.items() if program.listens]

    def heeds_a_signal(self, name: str) -> bool:
        """Whether the program of `name` saves at the job file's signal: how it then ends says nothing."""
        program = self._programs.get(name)
        return program is not None and program.saves_by_itself and not program.listens

    # --- signals ---

    def signal(self, number: int, who: str, direct: bool, now: float, cancelled: bool = False) -> None:
        """Take in that `who` got signal `number`; `direct`: the coordinator; `cancelled`: the run has the marker."""
        self._keyboard += direct and number == signal.SIGINT
        if self.cause in (EndCause.CANCEL, EndCause.UNKNOWN):
            return
        if cancelled or number == signal.SIGINT or self._settings.local:
            self._begin(number, who, now)
            self._decide(EndCause.CANCEL, now)
        elif number == self._warning and number != signal.SIGTERM:
            self._warn(number, who, now)
        elif self.cause is EndCause.NONE:
            self._direct = self._direct or direct
            self.asks = self.asks or not self.begun
            self._begin(number, who, now)
        elif direct and number == signal.SIGTERM:
            if self.ends_at is not None and now >= self.ends_at - AT_THE_LIMIT:
                self._over = True
            else:
                self._begin(number, who, now)
                self._decide(EndCause.CANCEL, now)

    def learn(self, standing: JobStatus, left: Optional[float], now: float) -> None:
        """Take in squeue's answer; `left`: seconds until the job ends, as it says."""
        if left is not None:
            self.ends_at = now + left
        if self.cause.is_interruption:
            self._set_until(now)
        elif self.cause is EndCause.NONE and self.begun:
            if standing.preempted:
                self._decide(EndCause.PREEMPTION, now)
            elif not standing.is_known:
                self.notes.append(f"squeue does not say why: {standing.problem}")
                self._decide(EndCause.UNKNOWN, now)
            elif left is not None and self._is_limit(standing, left):
                self._decide(EndCause.TIMEOUT, now)
            elif self._direct:
                self._decide(EndCause.CANCEL, now)
            else:
                self._decide_at = now + _STEP_SECONDS

    def rehearse(self, cause: EndCause, now: float) -> None:
        """Take in that an interruption of that cause is rehearsed: all is done that is done at a real one."""
        if not self.begun:
            self._number, self._reason = signal.SIGTERM, "a rehearsal"
            self._until = now + _SAVE_SECONDS
            self._decide(cause, now)

    def withdraw(self) -> bool:
        """Take in that an agent is lost: return whether that explains the signals, which then were no interruption.

        Never where srun lets a step go on without it: programs that were told to save would not be started again.
        """
        if not self.begun or self.cause is not EndCause.NONE or self._direct:
            return False
        if self._settings.strategy in INDEPENDENT_WORKERS:
            return False
        self._reason, self._told, self._decide_at, self.asks = "", False, None, False
        self._until = 0.0
        return True

    # --- what is to be done ---

    @property
    def begun(self) -> bool:
        """Whether a signal came that means something."""
        return bool(self._reason)

    @property
    def code(self) -> int:
        """The job's exit code."""
        return env.INTERRUPTED if self.cause.is_interruption else 128 + self._number

    @property
    def reason(self) -> str:
        """What happened, in words, as far as it is known."""
        return f"{self.cause.value}: {self._reason}" if self.cause is not EndCause.NONE else self._reason

    @property
    def at_once(self) -> bool:
        """Whether nobody wants to wait: a second SIGINT."""
        return self._keyboard > 1

    def due(self, now: float) -> Optional[TerminationAction]:
        """Return what is to be done now, each once: SAVE, then END; that again for who cannot wait."""
        if self._decide_at is not None and now >= self._decide_at:
            self._decide(EndCause.CANCEL, now)
        if self.begun and not self._told:
            self._told = True
            self.can_save = any(each.listens or each.saves_by_itself for each in self._programs.values())
            return TerminationAction.SAVE
        if self._told and not self._left and self._may_leave(now):
            self._left = True
            return TerminationAction.END
        if self._left and self.at_once and not self._hurried:
            self._hurried = True
            return TerminationAction.END
        return None

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` has something new to say."""
        if self._decide_at is not None:
            return self._decide_at
        return self._until if self._told and not self._left and self.cause is not EndCause.NONE else None

    def _may_leave(self, now: float) -> bool:
        if self.cause is EndCause.NONE:
            return False
        awaited = [name for name, program in self._programs.items() if program.is_awaited]
        if awaited and now >= self._until and not self._over:
            self.notes.append(f"{', '.join(awaited)} did not save in time")
        return not awaited or self._over or self.at_once or now >= self._until

    def _warn(self, number: int, who: str, now: float) -> None:
        if self.begun or self._warned:
            return
        self._warned = True
        if any(program.is_awaited for program in self._programs.values()):
            self._begin(number, who, now)
            self._decide(EndCause.TIMEOUT, now)
            self.asks = True
        else:
            self.notes.append(f"{who} got {signal.Signals(number).name}: no program says that it can save, all go on")

    def _is_limit(self, standing: JobStatus, left: float) -> bool:
        warned = self._warning == signal.SIGTERM == self._number and standing.state != "COMPLETING"
        return left <= (self._warning_seconds + _EARLY_WARNING if warned else 0.0) + AT_THE_LIMIT

    def _begin(self, number: int, who: str, now: float) -> None:
        self._number, self._reason = number, f"{who} got {signal.Signals(number).name}"
        self._until = self._until or now + _SAVE_SECONDS

    def _decide(self, cause: EndCause, now: float) -> None:
        self.cause, self._decide_at = cause, None
        self.notes.append(self.reason)
        self._set_until(now)

    def _set_until(self, now: float) -> None:
        """Let the save have the time that is left, but for what comes after it."""
        if self.cause.is_interruption and self.ends_at is not None:
            left = max(self.ends_at - now, 0.0)
            margin = self._settings.kill_wait + _MARGIN_SECONDS
            self._until = now + max(left - margin, left * 0.75, _SHORTEST_SAVE)
