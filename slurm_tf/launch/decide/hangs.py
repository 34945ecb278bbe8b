"""Finds programs that make no progress any more. No I/O; the time comes from outside.

| a program                                  | is hung when                                              |
|--------------------------------------------|-----------------------------------------------------------|
| with slurm_tf.train, before its first step | that takes longer than `watch.compile`                    |
| with slurm_tf.train, in training           | no step was done for `watch.step`                         |
| with slurm_tf.train, in an evaluation      | it takes longer than `watch.evaluate`                     |
| any other                                  | it has printed nothing for `watch.output`, if that is     |
|                                            | set, and no file of the run's checkpoints has changed     |

Under allreduce all tasks wait for one that hangs, and it is not known which one that is: all that make no progress
print their stacks, and are killed a moment later. What then happens is what happens after any bad end. A task that
hangs while all others go on hangs alone, and its node may be at fault. No task waits for an evaluator, and it waits for
none.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Callable, Dict, List, Optional, Tuple

from slurm_tf.run.program_messages import Phase
from slurm_tf.run.settings import DATA_SERVICE, WatchSettings


class HangAction(Enum):
    """What the agent of a hung program is to do: have it print its stacks, kill it."""

    DUMP = "dump"
    KILL = "kill"


# How long a program may take to print its stacks.
_DUMP_SECONDS = 5.0
# Tasks that wait for each other make their last progress within this time of each other, as they tell it only now and
# then (train/checkpoint/step_boundary.py).
_TOGETHER_SECONDS = 10.0


@dataclass
class _Program:
    """A program that runs. `phase`: as it last said, None if it never did; `since`: when it last made progress."""

    since: float
    phase: Optional[Phase] = None
    step: Optional[int] = None
    kill_at: Optional[float] = None


class HangDetector:
    """The programs of one attempt. `notes`: lines to print; `alone`: tasks that hung alone, and were killed."""

    def __init__(self, settings: WatchSettings, newest_change: Callable[[], int] = lambda: 0) -> None:
        """`newest_change`: returns when a file of the run's checkpoints was last changed, by any clock."""
        self.notes: List[str] = []
        self.alone: List[str] = []
        self._settings = settings
        self._programs: Dict[str, _Program] = {}
        self._newest_change = newest_change
        # when the checkpoints were looked at, what was their newest change, and when that was first seen
        self._looked_at: Optional[float] = None
        self._last_change = 0
        self._changed_at = 0.0

    def started(self, name: str, now: float) -> None:
        """Record that the program of task `name` runs."""
        self._programs[name] = _Program(now)
        if self._settings.output and self._looked_at is None:
            self._looked_at, self._last_change = now, self._newest_change()

    def phase_entered(self, name: str, phase: Phase, now: float) -> None:
        """Record that the program of `name` does something else now."""
        program = self._programs.get(name)
        if program:
            program.phase, program.since = phase, now

    def step_reached(self, name: str, step: int, now: float) -> None:
        """Record that the program of `name` has done `step`."""
        program = self._programs.get(name)
        if program:
            program.step, program.since = step, now

    def printed(self, name: str, now: float) -> None:
        """Record that the program of `name` has printed something, which is progress of one that tells no phase."""
        program = self._programs.get(name)
        if program and program.phase is None:
            program.since = now

    def ended(self, name: str) -> None:
        """Record that the program of `name` does not run any more."""
        self._programs.pop(name, None)

    def suspended(self, seconds: float) -> None:
        """Record that the job stood still with its programs for some seconds, as `scontrol suspend` has it do."""
        for program in self._programs.values():
            program.since += seconds
            program.kill_at = None if program.kill_at is None else program.kill_at + seconds

    def due(self, now: float) -> List[Tuple[str, HangAction]]:
        """Return (task, action) for the programs that are hung."""
        actions = []
        for name, program in self._programs.items():
            limit = self._limit(program.phase)
            if program.kill_at is None and limit and now >= program.since + limit:
                self._check_checkpoints(program, now)
            if program.kill_at is None and limit and now >= program.since + limit:
                program.kill_at = now + _DUMP_SECONDS
                what = f"in phase {program.phase.value}" if program.phase else "and has printed and saved nothing"
                last = "" if program.step is None else f", after step {program.step}"
                self.notes.append(f"{name} makes no progress for {limit:.0f} s {what}{last}: it is killed")
                if program.phase:
                    actions.append((name, HangAction.DUMP))
            elif program.kill_at is not None and now >= program.kill_at:
                program.kill_at = float("inf")
                actions.append((name, HangAction.KILL))
                self.alone += [name] if self._is_alone(name) else []
        return actions

    def _check_checkpoints(self, program: _Program, now: float) -> None:
        """Count a change of the run's checkpoints as progress of a program that says nothing itself."""
        if program.phase:
            return
        if self._looked_at != now:
            newest, former = self._newest_change(), self._last_change
            self._looked_at, self._last_change = now, newest
            self._changed_at = self._changed_at if newest == former else now
        program.since = max(program.since, self._changed_at)

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` has something to say."""
        times = [
            program.since + self._limit(program.phase) if program.kill_at is None else program.kill_at
            for program in self._programs.values()
            if self._limit(program.phase) and program.kill_at != float("inf")
        ]
        return min(times, default=None)

    def _is_alone(self, name: str) -> bool:
        if _is_apart(name):
            return True
        until = self._programs[name].since + _TOGETHER_SECONDS
        others = [each for other, each in self._programs.items() if other != name and not _is_apart(other)]
        return all(each.since > until for each in others)

    def _limit(self, phase: Optional[Phase]) -> float:
        """Return the seconds without progress after which a program in `phase` is hung, 0 if it never is."""
        settings = self._settings
        limits = {
            None: settings.output,
            Phase.COMPILE: settings.compile,
            Phase.TRAIN: settings.step,
            Phase.EVALUATE: settings.evaluate,
            Phase.DONE: 0.0,
        }
        return limits[phase]


def _is_apart(name: str) -> bool:
    """Whether the task does not train."""
    return name.partition(":")[0] in ("evaluator", *DATA_SERVICE)
