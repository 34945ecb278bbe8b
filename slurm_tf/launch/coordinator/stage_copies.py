"""Has the files of [stage] copied to the scratch of each node before the programs start, once on each node.

The agent of a node's lowest rank copies; all others wait. A node of parameter servers, or of other tasks that read no
training data, alone copies nothing.
"""

import time
from typing import Callable, Dict, List, Mapping, Optional, Tuple, Union

from slurm_tf import units
from slurm_tf.errors import StageError
from slurm_tf.launch.staging import stage_links
from slurm_tf.launch.staging.sources import Search
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    Report,
)
from slurm_tf.launch.transport.stage_messages import (
    Stage,
    StageAnswer,
    Staged,
    StageFailed,
    StageProgress,
    StillStaging,
)
from slurm_tf.run import stage_plan
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import DATA_DISPATCHER
from slurm_tf.run.stage_plan import StagePlan
from slurm_tf.run.stage_settings import StageSettings
from slurm_tf.run.status import StagingStatus

Outgoing = List[Tuple[int, Message]]
# Tasks of these roles read no training data: they keep variables, or say who computes what.
_WITHOUT_DATA = ("ps", "scheduler", DATA_DISPATCHER)
# How often the search for the files is looked at.
_LOOK_SECONDS = 0.1
# How often agents that wait are told to go on waiting, and how often a line says how far the copies are.
_TELL_SECONDS, _SAY_SECONDS = 30.0, 60.0


def one_a_node(reports: Mapping[int, Report]) -> Dict[str, int]:
    """Return the rank whose agent copies or removes files on each node of these tasks: its lowest."""
    return {reports[rank].node: rank for rank in sorted(reports, reverse=True)}


class StageCopies:
    """The copies of one step. `folders`: where the tasks of each node find the files, once `over`."""

    def __init__(
        self,
        settings: StageSettings,
        folder: RunFolder,
        reports: Mapping[int, Report],
        roles: Mapping[int, str],
        now: float,
        say: Callable[[str], None],
    ) -> None:
        """`reports`: those of all tasks, by rank; `roles`: the role of each rank."""
        self.folders: Dict[str, str] = {}
        self._settings, self._folder, self._ranks, self._say = settings, folder, sorted(reports), say
        self._nodes = {report.node for report in reports.values()}
        reading = {rank: report for rank, report in reports.items() if roles[rank] not in _WITHOUT_DATA}
        self._copying = one_a_node(reading)
        self._size = 0
        self._search: Optional[Search] = Search(settings)
        self._progress: Dict[int, StageProgress] = {}
        self._ends: Dict[int, Union[Staged, StageFailed]] = {}
        self._begun = now
        self._tell_at, self._say_at = now + _TELL_SECONDS, now + _SAY_SECONDS

    def answered(self, rank: int, answer: StageAnswer) -> None:
        """Record how far the copy of a node is, or how it ended."""
        if isinstance(answer, StageProgress):
            self._progress[rank] = answer
        elif rank in self._copying.values():
            self._ends[rank] = answer

    def tick(self, now: float) -> Outgoing:
        """Return what to send to which rank. Raises StageError, RunError or OSError."""
        if self._search:
            return self._begin(self._search.result())
        if len(self._ends) == len(self._copying) and not self.folders:
            self._finish(now)
        if now >= self._say_at:
            self._say_at = now + _SAY_SECONDS
            self._say(self.status.words)
        if now < self._tell_at:
            return []
        self._tell_at = now + _TELL_SECONDS
        return [(rank, StillStaging()) for rank in self._ranks]

    @property
    def over(self) -> bool:
        """Whether the tasks of every node have the files."""
        return bool(self.folders)

    @property
    def wakes_at(self) -> float:
        """When `tick` has something to do."""
        if self._search:
            return time.monotonic() + _LOOK_SECONDS
        return min(self._tell_at, self._say_at)

    @property
    def status(self) -> StagingStatus:
        """How far the copies are."""
        copied = dict.fromkeys(self._copying.values(), (0, self._size))
        copied.update((rank, (told.copied, told.wanted)) for rank, told in self._progress.items())
        for rank, each in self._ends.items():
            if isinstance(each, Staged):
                copied[rank] = each.copied, each.copied
        return StagingStatus(
            bytes=sum(done for done, _ in copied.values()),
            wanted=sum(wanted for _, wanted in copied.values()),
            nodes=len(self._ends),
            all_nodes=len(self._copying),
        )

    def _begin(self, plan: Optional[StagePlan]) -> Outgoing:
        """Have the nodes copy, once it is known what."""
        if plan is None:
            return []
        self._search, self._size = None, plan.bytes
        stage_plan.write(self._folder, plan)
        nodes = len(self._copying)
        size = units.format_bytes(plan.bytes)
        self._say(f"staging {len(plan.files)} files, {size}, on {nodes} node{'s' * (nodes != 1)}")
        return [(rank, Stage(self._folder.stage_plan, self._folder.path)) for rank in self._copying.values()]

    def _finish(self, now: float) -> None:
        """Give each node's tasks their folder. Raises StageError for a node without one, or OSError."""
        ends = {node: self._ends[rank] for node, rank in self._copying.items()}
        failed = {node: end for node, end in ends.items() if isinstance(end, StageFailed)}
        for node, failure in sorted(failed.items(), key=lambda each: each[1].is_of_scratch):
            if not (self._settings.optional and failure.is_of_scratch):
                more = f", and {len(failed) - 1} other nodes" if len(failed) > 1 else ""
                raise StageError(f"{node}{more}: {failure.found}", failure.needed, failure.do)
        links = stage_links.make(self._folder, self._settings) if failed or len(ends) < len(self._nodes) else ""
        for node, failure in failed.items():
            self._say(f"{node}: {failure.found}; its tasks read the files of [stage] from shared storage")
        staged = {node: end for node, end in ends.items() if isinstance(end, Staged)}
        self.folders = {node: staged[node].folder if node in staged else links for node in self._nodes}
        if staged:
            copied = units.format_bytes(sum(end.copied for end in staged.values()))
            kept = units.format_bytes(sum(end.kept for end in staged.values()))
            nodes = len(staged)
            what = f"on {nodes} node{'s' * (nodes != 1)}: copied {copied}, kept {kept} of an earlier attempt"
            self._say(f"staged in {now - self._begun:.0f} s {what}")
