"""Sums over a group of incarnations: what they were allocated, used and lost. Their size does not depend on the number
of records.
"""

from array import array
from typing import Any, NamedTuple

from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.histogram import Histogram
from slurm_tf.account.run_records import Lost
from slurm_tf.account.usage_record import UsageRecord

# The numbers that are stored for each exit class that occurs: the class, then the other fields of ExitClassSums.
_WIDTH = 6
MIB = 1024**2
_SUMS = (
    "billing_seconds", "cpu_seconds", "gpu_seconds", "gpu_used", "held_seconds", "incarnations", "jobs", "known_cpu",
    "known_gpu", "known_memory", "memory_used", "node_seconds", "requeue_seconds", "rollback_seconds", "start_seconds",
    "told_seconds", "used_cpu", "wait_seconds", "wall_seconds",
)  # fmt: skip


class ExitClassSums(NamedTuple):
    """What the incarnations of one exit class used and lost; the loss is an upper bound if no run recorded it."""

    end: ExitClass
    incarnations: int
    gpu_seconds: int
    cpu_seconds: int
    lost_gpu_seconds: int
    lost_cpu_seconds: int


class Amounts:
    """The sums of one group. Seconds are CPU-, GPU-, node- or billing-seconds, or seconds of an incarnation (`wall`).

    `known_*`: sums over the incarnations whose use Slurm recorded. `told_seconds`: seconds of the incarnations whose
    loss the run recorded.
    """

    __slots__ = ("_ends", "_waits", "cost", *_SUMS)

    billing_seconds: int
    cpu_seconds: int
    gpu_seconds: int
    gpu_used: float
    held_seconds: int
    incarnations: int
    jobs: int
    known_cpu: int
    known_gpu: int
    known_memory: int
    memory_used: int
    node_seconds: int
    requeue_seconds: int
    rollback_seconds: int
    start_seconds: int
    told_seconds: int
    used_cpu: float
    wait_seconds: int
    wall_seconds: int

    def __init__(self) -> None:
        for name in _SUMS:
            setattr(self, name, 0)
        self.cost: float | None = 0.0
        self._ends: array[int] = array("q")
        self._waits = Histogram()

    def add(
        self,
        record: UsageRecord,
        seconds: int,
        running: int,
        end: ExitClass,
        lost: Lost | None,
        cost: float | None,
        again: bool = False,
    ) -> None:
        """Add `seconds` of an incarnation, during `running` of which it was not suspended.

        `lost`: the loss that its run recorded, None without a record. `cost`: the price of this part, None if unknown.
        `again`: whether another part of the same incarnation was added before.
        """
        gpus, cpus = record.gpus * seconds, record.cpus * running
        if not again:
            self.incarnations += 1
        self.wall_seconds += seconds
        self.gpu_seconds += gpus
        self.cpu_seconds += cpus
        self.node_seconds += record.node_count * seconds
        self.billing_seconds += record.billing * seconds
        if cost is None:
            self.cost = None
        elif self.cost is not None:
            self.cost += cost
        if record.used_cpu is not None and record.ended is not None:
            whole = record.ended - (record.started or 0) - record.suspended
            self.used_cpu += record.used_cpu * running / whole if whole > 0 else 0.0
            self.known_cpu += cpus
        if record.used_memory is not None and record.memory:
            self.memory_used += record.used_memory * seconds // MIB
            self.known_memory += record.memory * seconds
        if record.gpu_use is not None:
            self.gpu_used += record.gpu_use / 100 * gpus
            self.known_gpu += gpus
        gone = seconds if end.loses else 0
        if lost is not None:
            self.told_seconds += seconds
            self.start_seconds += lost.start
            self.rollback_seconds += lost.rollback
            gone = lost.start + lost.rollback
        at, sums = self._at(end), self._ends
        sums[at + 1] += not again
        sums[at + 2] += gpus
        sums[at + 3] += cpus
        sums[at + 4] += record.gpus * gone
        sums[at + 5] += record.cpus * gone

    def _at(self, end: int) -> int:
        """Return the index at which the sums of an exit class begin; a linear search, as a group has few classes."""
        sums = self._ends
        for at in range(0, len(sums), _WIDTH):
            if sums[at] == end:
                return at
        sums.extend((end, 0, 0, 0, 0, 0))
        return len(sums) - _WIDTH

    def wait(self, record: UsageRecord) -> None:
        """Add the time from an incarnation's eligible time to its start, if both are known."""
        if record.eligible is not None and record.started is not None:
            seconds = max(0, record.started - record.eligible)
            self._waits.add(seconds)
            self.wait_seconds += seconds

    def merge(self, other: "Amounts") -> None:
        """Add the sums of another group; jobs that are in both count twice."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        for start in range(0, len(other._ends), _WIDTH):
            at = self._at(other._ends[start])
            for column in range(1, _WIDTH):
                self._ends[at + column] += other._ends[start + column]
        self._waits.merge(other._waits)

    @property
    def ends(self) -> list[ExitClassSums]:
        """The sums of each exit class that occurs."""
        sums = self._ends
        rows = [ExitClassSums(ExitClass(sums[at]), *sums[at + 1 : at + _WIDTH]) for at in range(0, len(sums), _WIDTH)]
        return sorted(rows)

    @property
    def lost_gpu_seconds(self) -> int:
        """GPU-seconds whose work is lost; an upper bound."""
        return sum(self._ends[4::_WIDTH])

    @property
    def lost_cpu_seconds(self) -> int:
        """CPU-seconds whose work is lost; an upper bound."""
        return sum(self._ends[5::_WIDTH])

    def waited(self, percent: float) -> int | None:
        """Return the percentile of the waiting times from eligible to start, in seconds; None if none is known."""
        return self._waits.percentile(percent)

    @property
    def cpu_use(self) -> float | None:
        """The share of the allocated CPU time that was used, computed as seff does; None if Slurm did not record it."""
        return self.used_cpu / self.known_cpu if self.known_cpu else None

    @property
    def memory_use(self) -> float | None:
        """The peak memory use divided by the allocated memory, weighted by allocated memory and time."""
        return self.memory_used / self.known_memory if self.known_memory else None

    @property
    def gpu_use(self) -> float | None:
        """The mean use of the GPUs, weighted by GPU-seconds."""
        return self.gpu_used / self.known_gpu if self.known_gpu else None

    @property
    def effective(self) -> float | None:
        """The share of the time since the jobs were eligible in which they trained and kept the result.

        The time includes the two minutes for which Slurm holds a job after a requeue. The share is an upper bound if
        the records of runs do not cover all of the time: what is not known to be lost counts as kept.
        """
        whole = self.wall_seconds + self.wait_seconds + self.held_seconds
        return (self.wall_seconds - self.start_seconds - self.rollback_seconds) / whole if whole else None

    @property
    def is_told(self) -> bool:
        """Whether the records of runs cover all of the time."""
        return self.told_seconds == self.wall_seconds > 0

    def as_dict(self) -> dict[str, Any]:
        """Return all sums, for JSON; None: unknown. Shares are from 0 to 1, times in seconds."""
        return {
            "gpu_hours": self.gpu_seconds / 3600,
            "cpu_hours": self.cpu_seconds / 3600,
            "node_hours": self.node_seconds / 3600,
            "gpu_seconds": self.gpu_seconds,
            "cpu_seconds": self.cpu_seconds,
            "node_seconds": self.node_seconds,
            "jobs": self.jobs,
            "incarnations": self.incarnations,
            "wait_p50": self.waited(50),
            "wait_p90": self.waited(90),
            "cpu_use": self.cpu_use,
            "memory_use": self.memory_use,
            "gpu_use": self.gpu_use,
            "lost_gpu_hours_at_most": self.lost_gpu_seconds / 3600,
            "lost_cpu_hours_at_most": self.lost_cpu_seconds / 3600,
            "requeue_hours": self.requeue_seconds / 3600,
            "start_hours": self.start_seconds / 3600 if self.told_seconds else None,
            "rollback_hours": self.rollback_seconds / 3600 if self.told_seconds else None,
            "effective": self.effective,
            "effective_is_at_most": not self.is_told,
            "billing_hours": self.billing_seconds / 3600,
            "cost": self.cost,
            "ends": {
                row.end.word: {
                    "incarnations": row.incarnations,
                    "gpu_hours": row.gpu_seconds / 3600,
                    "cpu_hours": row.cpu_seconds / 3600,
                    "lost_gpu_hours_at_most": row.lost_gpu_seconds / 3600,
                    "lost_cpu_hours_at_most": row.lost_cpu_seconds / 3600,
                }
                for row in self.ends
            },
        }
