"""Decides what to do when a task ends; the coordinator does it. No I/O; the time comes from outside.

| a task ended     | ps                    | engine                | between_graph         | all other strategies  |
|------------------|-----------------------|-----------------------|-----------------------|-----------------------|
| lead, well       | all others are ended  | all others are ended  | stragglers have `wait`| stragglers have `wait`|
| lead, badly      | all start again       | all start again       | all start again       | all start again       |
| worker, well     | as badly              | it is done            | it is done            | it is done            |
| worker, badly    | it alone starts again | it alone starts again | it alone starts again | all start again       |
| ps, in any way   | all start again       | -                     | all start again       | -                     |
| scheduler, badly | -                     | all start again       | -                     | -                     |
| evaluator, badly | it alone starts again | -                     | it alone starts again | it alone starts again |
| data-*, any way  | -                     | -                     | -                     | all start again       |

A service has no lead: a replica that ended well is done, one that ended badly starts again alone, and the job is over
with its last one. "data-*" are the roles of a tf.data service: what a data worker had read and not delivered is lost
with it, so it is not started again by itself. The lead is the chief or an engine's driver, or worker 0 where there is
none. An engine's driver may end its scheduler and workers before it ends itself. Each restart counts against
`max-restarts`. Once these are used up, the job goes on without a worker of the first three columns as long as another
one lives, and always without an evaluator; anything else ends the job. All start again in place, under the same agents.
Where agents are gone, all start again in a new step of the allocation: when an agent is lost, and whenever MPI's
processes start again, whose step Slurm's PMIx plugin ends with the first that dies (_errhandler in pmixp_client_v2.c,
22.05.8). A task that would start again alone is not started again if its agent is gone; but srun ends the steps of the
last column with their first agent (jobspec/plan.py).
"""

import signal
from dataclasses import dataclass, replace
from enum import Enum
from typing import Dict, List, Optional, Sequence

from slurm_tf.run import process_end
from slurm_tf.run.settings import DATA_SERVICE, DATA_WORKER, ENGINE, REPLICA, SERVE, LaunchSettings
from slurm_tf.run.status import AttemptState, TaskState


class OutcomeCause(str, Enum):
    """Why a job ends: by its programs' doing, by a signal (launch/decide/termination.py), by the loss of a task.

    CANNOT_START: a program's command cannot be executed, or srun refuses the step; it would again in another attempt.
    """

    PROGRAM = "program"
    TERMINATION = "termination"
    TASK_LOST = "task lost"
    CANNOT_START = "cannot start"


class Verb(str, Enum):
    """What the agent of a task is to do with its program."""

    START = "start"
    END = "end"


# Workers do not need each other: jobspec/plan.py has srun let their step go on without one.
INDEPENDENT_WORKERS = ("ps", "between_graph", ENGINE, SERVE)
# Tasks of these roles only serve others: once the lead is done they are ended.
_SERVING = {"ps": ("ps", "worker"), "between_graph": ("ps",), ENGINE: ("scheduler", "worker")}
# All start again when a task of these roles fails.
_NEEDED_BY_ALL = ("chief", "ps", "scheduler", "driver", *DATA_SERVICE)
# Tasks of these roles may be done before the lead.
_MAY_BE_DONE = ("scheduler", "worker", "evaluator", REPLICA)
# A task that was told to end is killed `kill_wait` later. If it has not ended after that time more, it counts as lost.
_END_SECONDS = 15.0
_NEW_STEP = "a new step is started"


@dataclass(frozen=True)
class Action:
    """What is to be done with one task, which is given by name."""

    verb: Verb
    task: str


@dataclass(frozen=True)
class Outcome:
    """How the job ends: its exit code, and the reason in words, "" for a good end."""

    code: int
    reason: str
    cause: OutcomeCause = OutcomeCause.PROGRAM


@dataclass(frozen=True)
class TaskError:
    """Why a task failed, in words ("" if it did not say), and when it said so, or else ended."""

    words: str
    at: float


def exit_code(code: int) -> int:
    """Return a shell's exit code for a process that ended with `code`, negative for a signal."""
    return 128 - code if code < 0 else code


def describe(code: Optional[int], error: str = "") -> str:
    """Return how a process ended, in words; None for one whose agent is gone. `error`: why it did."""
    words = "is lost: its agent's connection ended" if code is None else process_end.words(code)
    return f"{words}: {error}" if error else words


class RestartPolicy:
    """A state machine of one attempt: it gets every end of a task, and returns the actions to carry out.

    `outcome`: None until it is decided; `restarts`: of tasks and steps; `notes`: lines to print.
    """

    def __init__(self, settings: LaunchSettings) -> None:
        self.state = AttemptState.REGISTERING
        self.outcome: Optional[Outcome] = None
        self.restarts = 0
        self.notes: List[str] = []
        # whether the step is to be replaced: how its tasks end then says nothing
        self.step_is_lost = False
        # why all start again, in words
        self.restart_reason = ""
        # the task that failed first, "" where the outcome is no failure of one
        self.failed_task = ""
        self._settings = settings
        self._independent = settings.strategy in INDEPENDENT_WORKERS
        self._workers_serve = settings.strategy == "ps"
        self._role = {f"{role}:{index}": role for role, index in settings.tasks}
        self._tasks = dict.fromkeys(self._role, TaskState.RUNNING)
        self._lead = "" if settings.strategy == SERVE else settings.lead
        self._hosts: Dict[str, str] = {}
        self._save_at_signal: Sequence[str] = ()
        # the state before SAVING
        self._before = AttemptState.RUNNING
        self._stragglers_until: Optional[float] = None
        self._lost_at: Dict[str, float] = {}
        self._errors: Dict[str, TaskError] = {}

    def begin(self, hosts: Dict[str, str]) -> List[Action]:
        """Start every task: all of a step have registered; `hosts`: node of each by name."""
        self._hosts = hosts
        return self._start_all()

    def renewed(self) -> None:
        """Record that a new step has been started."""
        self.state, self.step_is_lost = AttemptState.REGISTERING, False

    def ended(self, name: str, code: Optional[int], now: float, error: Optional[TaskError] = None) -> List[Action]:
        """Record that task `name` ended with `code`, negative for a signal, None if its agent is gone, and why."""
        self._errors[name] = error or TaskError("", now)
        self._see_who_failed_first(name)
        if self._tasks[name] != TaskState.RUNNING:
            self._tasks[name] = TaskState.LOST if code is None else self._tasks[name]
            return []
        self._tasks[name] = TaskState.LOST if code is None else TaskState.ENDED
        self._lost_at.pop(name, None)
        if self.state == AttemptState.RUNNING:
            return self._ended_while_all_run(name, code, now)
        if self.state == AttemptState.FINISHING:
            return self._ended_after_lead(name, code, now)
        if self.state == AttemptState.RESTARTING:
            return self._ended_in_restart(name, code)
        if self.state == AttemptState.SAVING and name == self._lead and code == 0 and name not in self._save_at_signal:
            return self._lead_is_done(now)
        return []

    def save(self, at_signal: Sequence[str]) -> None:
        """Record that the programs save, to be ended then; tasks that do `at_signal` may exit with 0."""
        if self.state in (AttemptState.RUNNING, AttemptState.RESTARTING):
            self._before, self.state, self._save_at_signal = self.state, AttemptState.SAVING, at_signal

    def resume(self) -> None:
        """Record that no termination is under way: the programs go on."""
        if self.state == AttemptState.SAVING:
            self.state = self._before

    def stop(self, code: int, reason: str, now: float, cause: OutcomeCause = OutcomeCause.TERMINATION) -> List[Action]:
        """End the job now, for a reason that is not an end of a task."""
        if self.outcome is None:
            self.outcome = Outcome(code, reason, cause)
        self.state = AttemptState.ENDING
        return self._end(self._running(), now)

    def tick(self, now: float) -> List[Action]:
        """Return what is to be done at this time."""
        actions: List[Action] = []
        for name in [name for name, when in self._lost_at.items() if now >= when]:
            self.notes.append(f"{self._where(name)} was told to end and did not")
            actions += self.ended(name, None, now)
        if self._stragglers_until is not None and now >= self._stragglers_until:
            self._stragglers_until = None
            late = self._running()
            self.notes.append(f"ended stragglers {', '.join(late)} {self._settings.wait:.0f} s after {self._lead}")
            actions += self._end(late, now)
        return actions

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        due = [*self._lost_at.values(), self._stragglers_until]
        return min((when for when in due if when is not None), default=None)

    @property
    def over(self) -> bool:
        """Whether the outcome is decided and no task runs."""
        return self.outcome is not None and not self._running()

    def _see_who_failed_first(self, name: str) -> None:
        """Name another task in the outcome than the one whose end decided it, if its error came before that.

        A program that fails may end after others that fail only because of it: TensorFlow says goodbye to all first.
        """
        error, outcome = self._errors[name], self.outcome
        is_failure = outcome is not None and self.failed_task and outcome.cause is OutcomeCause.PROGRAM
        if is_failure and outcome and error.words and error.at < self._errors[self.failed_task].at:
            self.failed_task = name
            self.outcome = replace(outcome, reason=f"{self._where(name)} failed: {error.words}")

    def _ended_while_all_run(self, name: str, code: Optional[int], now: float) -> List[Action]:
        role, well = self._role[name], code == 0
        if name == self._lead and well:
            return self._lead_is_done(now)
        if well and role in _MAY_BE_DONE and not (role == "worker" and self._workers_serve):
            return self._replica_is_done() if role == REPLICA else []
        alone = self._independent or (role == "evaluator" and code is not None)
        if name == self._lead or role in _NEEDED_BY_ALL or not alone:
            return self._fail(name, code, now)
        if code is not None and self._use_restart(name, code, f"{name} is started again in place"):
            self._tasks[name] = TaskState.RUNNING
            return [Action(Verb.START, name)]
        others = [other for other in self._running() if self._role[other] == role]
        if role in ("worker", REPLICA) and not others:
            return self._fail(name, code, now)
        self.notes.append(f"{self._how(name, code)}; the job goes on without it")
        return []

    def _replica_is_done(self) -> List[Action]:
        """End the job with the last replica of a service: another job has taken over from each."""
        if not self._running():
            self.state, self.outcome = AttemptState.FINISHING, Outcome(0, "")
        return []

    def _lead_is_done(self, now: float) -> List[Action]:
        self.state, self.outcome = AttemptState.FINISHING, Outcome(0, "")
        serving = [name for name in self._running() if self._only_serves(name)]
        if len(serving) == len(self._running()):
            return self._end(serving, now)
        self._stragglers_until = now + self._settings.wait
        # parameter servers and data workers are needed until the last straggler that uses them is done
        return self._end([name for name in serving if self._role[name] not in _NEEDED_BY_ALL], now)

    def _ended_after_lead(self, name: str, code: Optional[int], now: float) -> List[Action]:
        if code not in (0, -signal.SIGTERM, -signal.SIGKILL):
            self.notes.append(f"{self._how(name, code)}, after {self._lead} was done")
        running = self._running()
        if running and all(self._only_serves(other) for other in running):
            self._stragglers_until = None
            return self._end(running, now)
        return []

    def _fail(self, name: str, code: Optional[int], now: float) -> List[Action]:
        self.step_is_lost = self._settings.horovod == "mpi" or TaskState.LOST in self._tasks.values()
        how = _NEW_STEP if self.step_is_lost else "all tasks are started again in place"
        if self._use_restart(name, code, how):
            self.state = AttemptState.RESTARTING
            return self._end(self._running(), now) if self._running() else self._start_all_again()
        cause = OutcomeCause.TASK_LOST if code is None else OutcomeCause.PROGRAM
        self.failed_task = name if self.outcome is None else self.failed_task
        return self.stop(exit_code(code or 1), self._how(name, code), now, cause)

    def _ended_in_restart(self, name: str, code: Optional[int]) -> List[Action]:
        if code is None and not self.step_is_lost:
            self.step_is_lost = True
            self._note_restart(name, code, _NEW_STEP)
        return [] if self._running() else self._start_all_again()

    def _use_restart(self, name: str, code: Optional[int], how: str) -> bool:
        if self.restarts >= self._settings.max_restarts:
            return False
        self.restarts += 1
        self._note_restart(name, code, how)
        return True

    def _note_restart(self, name: str, code: Optional[int], how: str) -> None:
        count = f"restart {self.restarts} of {self._settings.max_restarts}"
        self.restart_reason = self._how(name, code)
        self.notes.append(f"{self.restart_reason}; {how} ({count})")

    def _start_all_again(self) -> List[Action]:
        if self.step_is_lost:
            self.state = AttemptState.RENEWING
            return []
        return self._start_all()

    def _start_all(self) -> List[Action]:
        self.state = AttemptState.RUNNING
        self._tasks = dict.fromkeys(self._tasks, TaskState.RUNNING)
        return [Action(Verb.START, name) for name in self._tasks]

    def _only_serves(self, name: str) -> bool:
        return self._role[name] in (*_SERVING.get(self._settings.strategy, ()), *DATA_SERVICE)

    def _running(self) -> List[str]:
        return [name for name, state in self._tasks.items() if state == TaskState.RUNNING]

    def _how(self, name: str, code: Optional[int]) -> str:
        """Return which task ended, how and why."""
        lost = "; what it had read and not delivered is lost" if self._role[name] == DATA_WORKER else ""
        return f"{self._where(name)} {describe(code, self._errors[name].words)}{lost}"

    def _where(self, name: str) -> str:
        return f"{name} on {self._hosts[name]}"

    def _end(self, names: Sequence[str], now: float) -> List[Action]:
        for name in names:
            # if it is told twice, the first time counts
            self._lost_at.setdefault(name, now + self._settings.kill_wait + _END_SECONDS)
        return [Action(Verb.END, name) for name in names]
