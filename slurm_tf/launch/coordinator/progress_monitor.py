"""Watches the programs' progress: has hung ones killed, finds stragglers, and tells the exclusion of their nodes."""

import time
from typing import Callable, List, Mapping, Optional, Tuple

from slurm_tf import files
from slurm_tf.launch.decide.hangs import HangAction, HangDetector
from slurm_tf.launch.decide.stragglers import StragglerDetector
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.program_messages import Phase
from slurm_tf.run.settings import WatchSettings
from slurm_tf.run.status import StragglerReport

# A longer time between two calls than the coordinator ever waits: it was stopped.
_STOPPED_SECONDS = 30.0


class ProgressMonitor:
    """The progress of all programs of one attempt."""

    def __init__(
        self, folder: RunFolder, settings: WatchSettings, exclusion: Exclusion, say: Callable[[str], None]
    ) -> None:
        self._hangs = HangDetector(settings, lambda: files.newest(folder.checkpoints))
        self._stragglers = StragglerDetector(settings)
        self._exclusion, self._say = exclusion, say
        self._called_at = time.monotonic()

    def started(self, name: str) -> None:
        """Record that the program of task `name` runs."""
        self._hangs.started(name, time.monotonic())

    def phase_entered(self, name: str, phase: Phase) -> None:
        """Record that the program of `name` does something else now."""
        self._hangs.phase_entered(name, phase, time.monotonic())

    def step_reached(self, name: str, step: int) -> None:
        """Record that the program of `name` has done `step`."""
        self._hangs.step_reached(name, step, time.monotonic())

    def step_time(self, name: str, seconds: float) -> None:
        """Record how long the program of `name` works by itself in each step."""
        self._stragglers.step_time(name, seconds, time.monotonic())

    def printed(self, name: str) -> None:
        """Record that the program of `name` has printed something."""
        self._hangs.printed(name, time.monotonic())

    def ended(self, name: str) -> None:
        """Record that the program of `name` does not run any more."""
        self._hangs.ended(name)
        self._stragglers.ended(name)

    def awake(self, now: float) -> None:
        """Record that the coordinator runs: while a job is suspended, its programs stand still as well."""
        if now - self._called_at > _STOPPED_SECONDS:
            self._hangs.suspended(now - self._called_at)
        self._called_at = now

    def due(
        self, now: float, nodes: Mapping[str, str], is_training: bool, is_terminating: bool
    ) -> List[Tuple[str, HangAction]]:
        """Return (task, action) for the programs that are hung, where all train.

        `nodes`: node of each task by name. Nodes of slow and of hung tasks are told to the exclusion.
        """
        self.awake(now)
        actions = self._hangs.due(now) if is_training else []
        for note in self._hangs.notes:
            self._say(note)
        self._hangs.notes.clear()
        for name, note in self._stragglers.notes:
            self._say(f"{name} on {nodes[name]} is slow: it {note}; they wait for it")
        self._stragglers.notes.clear()
        slow = self._stragglers.slow if is_training and not is_terminating else None
        if slow is not None:
            self._exclusion.slow({name: (nodes[name], how) for name, how in slow.items()})
        for name in self._hangs.alone:
            self._exclusion.hung(name, nodes[name])
        self._hangs.alone.clear()
        return actions

    @property
    def report(self) -> Optional[StragglerReport]:
        """How long each task works by itself in a step, and which are slow; None if nothing is known."""
        return self._stragglers.report

    @property
    def wakes_at(self) -> Optional[float]:
        """When `due` has something new to say."""
        return self._hangs.wakes_at
