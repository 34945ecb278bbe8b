"""Programs that have stopped to make progress. No I/O; the time comes from outside.

| a program                                  | is hung when                                              |
|--------------------------------------------|-----------------------------------------------------------|
| with slurm_tf.train, before its first step | that takes longer than `watch.compile`                    |
| with slurm_tf.train, in training           | no step was done for `watch.step`                         |
| with slurm_tf.train, in an evaluation      | it takes longer than `watch.evaluate`                     |
| any other                                  | it has printed nothing for `watch.output`, if that is     |
|                                            | set, and no file of the run's checkpoints has changed     |

Under allreduce one that hangs makes all wait, and nobody knows which: all that make no progress print their stacks, and
are killed a moment later. What then happens is what happens after any bad end. One that hangs while all others are
known to go on hangs alone: its node may be at fault. Nobody waits for an evaluator, and it waits for nobody.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from slurm_tf.run.settings import WatchSettings


class HangAction(str, Enum):
    """What the agent of a hung program is to do: have it print its stacks, kill it."""

    DUMP = "dump"
    KILL = "kill"


class Phase(str, Enum):
    """What a program with slurm_tf.train is doing: its first step, training, an evaluation."""

    COMPILE = "compile"
    TRAIN = "train"
    EVALUATE = "evaluate"


# How long a program may take to print its stacks.
_DUMP_SECONDS = 5.0
# Tasks that wait for each other make their last progress within so long: it is told now and then
# (train/checkpoint/step_boundary.py).
_TOGETHER_SECONDS = 10.0


@dataclass
class _Program:
    """`phase`: what it last said, "" if it never did; `since`: when it last made progress."""

    since: float
    phase: str = ""
    step: Optional[int] = None
    kill_at: Optional[float] = None


class HangDetector:
    """All programs of one attempt. `notes`: lines to print; `alone`: those that were killed and hung alone."""

    def __init__(self, settings: WatchSettings, newest: Callable[[], int] = lambda: 0) -> None:
        """`newest`: when a file of the run's checkpoints was last changed, by any clock."""
        self.notes: List[str] = []
        self.alone: List[str] = []
        self._settings = settings
        self._programs: Dict[str, _Program] = {}
        self._newest = newest
        self._looked: Optional[float] = None
        self._seen = 0
        self._changed = 0.0

    def started(self, name: str, now: float) -> None:
        """Take in that task `name` runs."""
        self._programs[name] = _Program(now)
        if self._settings.output and self._looked is None:
            self._looked, self._seen = now, self._newest()

    def line(self, name: str, words: Mapping[str, Any], now: float) -> bool:
        """Take in what the program of `name`, or its agent, said; return whether it was for nobody else."""
        program = self._programs.get(name)
        if program is None:
            return False
        if isinstance(words.get("phase"), str):
            program.phase, program.since = words["phase"], now
            return True
        if isinstance(words.get("at"), int):
            program.step, program.since = words["at"], now
            return True
        if "output" in words:
            program.since = now if not program.phase else program.since
            return True
        return False

    def ended(self, name: str) -> None:
        """Take in that `name` does not run any more."""
        self._programs.pop(name, None)

    def slept(self, seconds: float) -> None:
        """Take in that nobody looked for so long: a job that was suspended stood still with its programs."""
        for program in self._programs.values():
            program.since += seconds
            program.kill_at = None if program.kill_at is None else program.kill_at + seconds

    def due(self, now: float) -> List[Tuple[str, HangAction]]:
        """Return (task, DUMP or KILL) of those that are hung."""
        orders = []
        for name, program in self._programs.items():
            budget = self._budget(program.phase)
            if program.kill_at is None and budget and now >= program.since + budget:
                self._look(program, now)
            if program.kill_at is None and budget and now >= program.since + budget:
                program.kill_at = now + _DUMP_SECONDS
                what = f"in phase {program.phase}" if program.phase else "and has printed and saved nothing"
                last = "" if program.step is None else f", after step {program.step}"
                self.notes.append(f"{name} makes no progress for {budget:.0f} s {what}{last}: it is killed")
                if program.phase:
                    orders.append((name, HangAction.DUMP))
            elif program.kill_at is not None and now >= program.kill_at:
                program.kill_at = float("inf")
                orders.append((name, HangAction.KILL))
                self.alone += [name] if self._is_alone(name) else []
        return orders

    def _look(self, program: _Program, now: float) -> None:
        """See whether the run's checkpoints have changed: progress of a program that says nothing itself."""
        if program.phase:
            return
        if self._looked != now:
            newest, seen = self._newest(), self._seen
            self._looked, self._seen = now, newest
            self._changed = self._changed if newest == seen else now
        program.since = max(program.since, self._changed)

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` has something to say."""
        times = [
            program.since + self._budget(program.phase) if program.kill_at is None else program.kill_at
            for program in self._programs.values()
            if self._budget(program.phase) and program.kill_at != float("inf")
        ]
        return min(times, default=None)

    def _is_alone(self, name: str) -> bool:
        if _is_evaluator(name):
            return True
        until = self._programs[name].since + _TOGETHER_SECONDS
        others = [each for other, each in self._programs.items() if other != name and not _is_evaluator(other)]
        return all(each.since > until for each in others)

    def _budget(self, phase: str) -> float:
        """Return the seconds that a program may take in `phase`, 0 for as long as it likes."""
        settings = self._settings
        budgets = {
            "": settings.output,
            Phase.COMPILE: settings.compile,
            Phase.TRAIN: settings.step,
            Phase.EVALUATE: settings.evaluate,
        }
        return budgets.get(phase, 0.0)


def _is_evaluator(name: str) -> bool:
    return name.startswith("evaluator:")
