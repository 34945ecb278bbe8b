"""Decides why signals came, and when the programs have saved or cannot. No I/O; the time comes from outside.

| what is seen                                                     | cause      | after it               |
|------------------------------------------------------------------|------------|------------------------|
| SIGINT, the run's `cancelled` marker, any signal without Slurm   | cancel     | the end                |
| squeue tells a PreemptTime                                       | preemption | another attempt        |
| the signal of the job's --signal, or SIGTERM at the time limit   | timeout    | another attempt        |
| squeue does not answer                                           | unknown    | what Slurm makes of it |
| anything else                                                    | cancel     | the end                |

Programs save at the first signal, before its cause is known. Where none has started, as the files of [stage] are
copied, nothing is to be saved: the copies end, and those that are whole are there for the next attempt. Signals that
are repeated change nothing. A SIGTERM that
reaches the coordinator after a preemption or a timeout was decided comes either at the job's end or from `scancel`.
"""

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Dict, List, Optional

from slurm_tf.launch.decide.restarts import INDEPENDENT_WORKERS
from slurm_tf.run import env, process_end
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.settings import DATA_SERVICE, ENGINE, REPLICA, LaunchSettings
from slurm_tf.slurm.in_job import JobStatus

# Slurm ends a job at its limit, or up to this many seconds before the end that squeue said.
AT_THE_LIMIT = 5.0
# A --signal may come this much earlier than it says: sbatch(1) of 22.05.
_EARLY_WARNING = 60.0
# How long a save may take where Slurm does not say when the job ends.
_SAVE_SECONDS = 120.0
# Of the time until the end, kept for what comes after the save.
_MARGIN_SECONDS = 5.0
# srun ends a step one of whose agents died: it signals the other agents first, and the loss is seen a moment later.
_STEP_SECONDS = 2.0
# When its time is over a job gets SIGTERM, and SIGKILL only KillWait later: 30 s by default.
_SHORTEST_SAVE = 10.0
# Tasks of these roles save nothing at a signal.
_SERVING = ("ps", "evaluator", "scheduler", REPLICA, *DATA_SERVICE)
_WITH_SERVING_WORKERS = ("ps", ENGINE)


class TerminationAction(Enum):
    """What the coordinator is to do: have the programs save, or end them."""

    SAVE = "save"
    END = "end"


class TerminationState(Enum):
    """How far a termination has come: see Termination."""

    RUNNING = "running"
    WARNED = "warned"
    AGENTS_SIGNALLED = "agents signalled"
    SIGNALLED = "signalled"
    SAVING = "saving"
    TIME_OVER = "time over"
    ENDING = "ending"
    ENDING_AT_ONCE = "ending at once"


_NOT_BEGUN = (TerminationState.RUNNING, TerminationState.WARNED)
_CAUSE_OPEN = (TerminationState.AGENTS_SIGNALLED, TerminationState.SIGNALLED)
_AWAITING_SAVES = (TerminationState.SAVING, TerminationState.TIME_OVER)


@dataclass
class _Program:
    """A program that runs. `listens`: it uses slurm_tf.train and has said so; `saves_by_itself`: at a signal."""

    saves_by_itself: bool
    listens: bool = False
    is_writer: bool = False
    saved: bool = False

    @property
    def is_awaited(self) -> bool:
        return self.is_writer and not self.saved if self.listens else self.saves_by_itself


class Termination:
    """A state machine that all signals of one attempt go through.

    | state              | event                                                  | next state         | action     |
    |--------------------|--------------------------------------------------------|--------------------|------------|
    | RUNNING            | the signal of --signal, and no program can save        | WARNED             |            |
    | RUNNING            | the signal of --signal, and a program can save         | SAVING (timeout)   | SAVE       |
    | RUNNING            | the signal of --signal, and files are being staged     | SAVING (timeout)   | SAVE       |
    | WARNED             | a program says that it writes checkpoints              | SAVING (timeout)   | SAVE       |
    | RUNNING, WARNED    | any other signal to an agent                           | AGENTS_SIGNALLED   | SAVE       |
    | RUNNING, WARNED    | any other signal to the coordinator                    | SIGNALLED          | SAVE       |
    | RUNNING, WARNED    | a preemption or timeout is injected                    | SAVING             | SAVE       |
    | AGENTS_SIGNALLED   | a signal to the coordinator                            | SIGNALLED          |            |
    | AGENTS_SIGNALLED   | an agent is lost, and srun ends the step for that      | the one before     |            |
    | AGENTS_SIGNALLED   | squeue has no cause, and no agent is lost within 2 s   | SAVING (cancel)    |            |
    | both _SIGNALLED    | squeue's answer has a cause, or there is none          | SAVING             |            |
    | any before ENDING  | SIGINT; any signal if marked cancelled, or local       | SAVING (cancel)    | SAVE once  |
    | SAVING             | SIGTERM to the coordinator when the job's time is over | TIME_OVER          |            |
    | SAVING             | SIGTERM to the coordinator before that                 | SAVING (cancel)    |            |
    | SAVING, TIME_OVER  | all have saved, their time is over, or a second SIGINT | ENDING             | END        |
    | ENDING             | a second SIGINT                                        | ENDING_AT_ONCE     | END        |

    CANCEL and UNKNOWN are final, whatever comes later. From TIME_OVER on a cancel changes the cause, not the state.

    `is_staging`: files are being staged, and no program of this attempt has started; the coordinator sets it.
    `cause`: NONE until it is decided. `asks`: squeue is to be asked; the answer goes to `learn`. `can_save`: whether a
    program that can save was told to. `ends_at`: when the job ends as squeue says, in time.monotonic. `notes`: lines to
    print.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        name, self._warning_seconds = settings.warning
        self.state = TerminationState.RUNNING
        self.cause = EndCause.NONE
        self.asks = False
        self.notes: List[str] = []
        self.can_save = self.is_staging = False
        self.ends_at: Optional[float] = None
        self._settings = settings
        self._warning = signal.Signals[f"SIG{name}"] if name else None
        self._programs: Dict[str, _Program] = {}
        self._number, self._reason = 0, ""
        # the state to which a lost agent brings us back
        self._before = TerminationState.RUNNING
        self._actions: List[TerminationAction] = []
        self._interrupts = 0
        # until when saves are awaited
        self._until: Optional[float] = None
        # when signals of agents alone count as a cancel
        self._cancel_at: Optional[float] = None

    # --- programs ---

    def started(self, name: str) -> None:
        """Record that task `name` runs."""
        role = name.partition(":")[0]
        serves = role in _SERVING or (role == "worker" and self._settings.strategy in _WITH_SERVING_WORKERS)
        self._programs[name] = _Program(bool(self._settings.checkpoint_signal) and not serves)

    def listening(self, name: str, is_writer: bool, now: float) -> None:
        """Record that the program of `name` listens; `is_writer`: it is the one that commits checkpoints."""
        if name in self._programs:
            self._programs[name].listens, self._programs[name].is_writer = True, is_writer
        if is_writer and self.state is TerminationState.WARNED:
            self._begin_timeout(self._warning or 0, "the job", now)

    def saved(self, name: str, error: Optional[str]) -> None:
        """Record that `name` has saved, or why it could not."""
        if name in self._programs:
            self._programs[name].saved = True
        if error:
            self.notes.append(f"{name} could not save: {error}")

    def ended(self, name: str) -> None:
        """Record that `name` does not run any more."""
        self._programs.pop(name, None)

    @property
    def listeners(self) -> List[str]:
        """The tasks whose programs listen."""
        return [name for name, program in self._programs.items() if program.listens]

    def heeds_a_signal(self, name: str) -> bool:
        """Whether the program of `name` saves at the job file's signal, so that its exit code says nothing."""
        program = self._programs.get(name)
        return program is not None and program.saves_by_itself and not program.listens

    # --- signals ---

    def signal(self, number: int, receiver: str, direct: bool, now: float, cancelled: bool = False) -> None:
        """Record that `receiver` got signal `number`.

        `direct`: the receiver is the coordinator. `cancelled`: the run has the marker.
        """
        self._interrupts += direct and number == signal.SIGINT
        if self.cause in (EndCause.CANCEL, EndCause.UNKNOWN):
            return
        if cancelled or number == signal.SIGINT or self._settings.local:
            self._cancel(number, receiver, now)
        elif number == self._warning and number != signal.SIGTERM:
            self._warn(number, receiver, now)
        elif self.cause is EndCause.NONE:
            self.asks = self.asks or not self.begun
            is_direct = direct or self.state is TerminationState.SIGNALLED
            self._begin(number, receiver, now)
            self.state = TerminationState.SIGNALLED if is_direct else TerminationState.AGENTS_SIGNALLED
        elif direct and number == signal.SIGTERM:
            if not self._is_time_over(now):
                self._cancel(number, receiver, now)
            elif self.state is TerminationState.SAVING:
                self.state = TerminationState.TIME_OVER

    def learn(self, status: JobStatus, left: Optional[float], now: float) -> None:
        """Record squeue's answer; `left`: seconds until the job ends, as it says."""
        if left is not None:
            self.ends_at = now + left
        if self.cause.is_interruption:
            self._set_until(now)
        elif self.state in _CAUSE_OPEN:
            self._explain(status, left, now)

    def inject(self, cause: EndCause, now: float) -> None:
        """Begin a termination of this cause without a signal: all is done that is done at a real one."""
        if not self.begun:
            self._before = self.state
            self._actions.append(TerminationAction.SAVE)
            self._number, self._reason = signal.SIGTERM, "injected by slurm-tf interrupt"
            self._until = now + _SAVE_SECONDS
            self._decide(cause, now)

    def withdraw(self) -> bool:
        """Record that an agent is lost: return whether that explains the signals, so that no termination is under way.

        Never where srun lets a step go on without the agent: programs that were told to save would not be started
        again.
        """
        if self.state is not TerminationState.AGENTS_SIGNALLED or self._settings.strategy in INDEPENDENT_WORKERS:
            return False
        self.state, self._reason, self.asks = self._before, "", False
        self._cancel_at = self._until = None
        self._actions.clear()
        return True

    # --- what is to be done ---

    @property
    def begun(self) -> bool:
        """Whether a signal came that begins a termination."""
        return self.state not in _NOT_BEGUN

    @property
    def code(self) -> int:
        """The job's exit code."""
        return env.INTERRUPTED if self.cause.is_interruption else 128 + self._number

    @property
    def reason(self) -> str:
        """What happened, in words, as far as it is known."""
        return self._reason if self.cause is EndCause.NONE else f"{self.cause.value}: {self._reason}"

    @property
    def at_once(self) -> bool:
        """Whether a second SIGINT came: no save and no end is waited for."""
        return self._interrupts > 1

    def due(self, now: float) -> Optional[TerminationAction]:
        """Return the next action, each one once; None if there is nothing to do now."""
        if self._cancel_at is not None and now >= self._cancel_at:
            self._decide(EndCause.CANCEL, now)
        if not self._actions:
            self._advance(now)
        action = self._actions.pop(0) if self._actions else None
        if action is TerminationAction.SAVE:
            self.can_save = any(each.listens or each.saves_by_itself for each in self._programs.values())
        return action

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` has something new to say."""
        return self._until if self.state in _AWAITING_SAVES else self._cancel_at

    def _advance(self, now: float) -> None:
        """Go on to the end of the programs where it is time for that."""
        if self.state in _AWAITING_SAVES and self._may_end(now):
            self.state = TerminationState.ENDING
            self._actions.append(TerminationAction.END)
        elif self.state is TerminationState.ENDING and self.at_once:
            self.state = TerminationState.ENDING_AT_ONCE
            self._actions.append(TerminationAction.END)

    def _may_end(self, now: float) -> bool:
        awaited = [name for name, program in self._programs.items() if program.is_awaited]
        if not awaited or self.state is TerminationState.TIME_OVER:
            return True
        is_late = self._until is not None and now >= self._until
        if is_late:
            self.notes.append(f"{', '.join(awaited)} did not save in time")
        return is_late or self.at_once

    def _warn(self, number: int, receiver: str, now: float) -> None:
        if self.state is not TerminationState.RUNNING:
            return
        if self.is_staging or any(program.is_awaited for program in self._programs.values()):
            self._begin_timeout(number, receiver, now)
        else:
            self.state = TerminationState.WARNED
            name = process_end.signal_name(number)
            self.notes.append(f"{receiver} got {name}: no program says that it can save, all go on")

    def _begin_timeout(self, number: int, receiver: str, now: float) -> None:
        self._begin(number, receiver, now)
        self._decide(EndCause.TIMEOUT, now)
        # for the time that is left
        self.asks = True

    def _cancel(self, number: int, receiver: str, now: float) -> None:
        self._begin(number, receiver, now)
        self._decide(EndCause.CANCEL, now)

    def _explain(self, status: JobStatus, left: Optional[float], now: float) -> None:
        """Decide the cause by squeue's answer, if that has one."""
        if status.preempted:
            self._decide(EndCause.PREEMPTION, now)
        elif not status.is_known:
            self.notes.append(f"squeue does not say why: {status.problem}")
            self._decide(EndCause.UNKNOWN, now)
        elif left is not None and self._is_limit(status, left):
            self._decide(EndCause.TIMEOUT, now)
        elif self.state is TerminationState.SIGNALLED:
            self._decide(EndCause.CANCEL, now)
        else:
            self._cancel_at = now + _STEP_SECONDS

    def _is_limit(self, status: JobStatus, left: float) -> bool:
        warned = self._warning == signal.SIGTERM == self._number and status.state != "COMPLETING"
        return left <= (self._warning_seconds + _EARLY_WARNING if warned else 0.0) + AT_THE_LIMIT

    def _is_time_over(self, now: float) -> bool:
        return self.ends_at is not None and now >= self.ends_at - AT_THE_LIMIT

    def _begin(self, number: int, receiver: str, now: float) -> None:
        """Note the signal that counts from now on; the first one begins a termination."""
        if not self.begun:
            self._before = self.state
            self._actions.append(TerminationAction.SAVE)
        self._number, self._reason = number, f"{receiver} got {process_end.signal_name(number)}"
        if self.is_staging:
            self._reason += " while files were staged"
        self._until = now + _SAVE_SECONDS if self._until is None else self._until

    def _decide(self, cause: EndCause, now: float) -> None:
        self.cause, self._cancel_at = cause, None
        if self.state in (*_NOT_BEGUN, *_CAUSE_OPEN):
            self.state = TerminationState.SAVING
        self.notes.append(self.reason)
        self._set_until(now)

    def _set_until(self, now: float) -> None:
        """Let the save have the time that is left, but for what comes after it."""
        if self.cause.is_interruption and self.ends_at is not None:
            left = max(self.ends_at - now, 0.0)
            margin = self._settings.kill_wait + _MARGIN_SECONDS
            self._until = now + max(left - margin, left * 0.75, _SHORTEST_SAVE)
