"""Sums over a group of incarnations: what they were allocated, used and lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from slurm_tf.account.exit_classes import ExitClass

# The sums of a group, and what of the view `parts` adds up to them; mostly CPU-, GPU-, node- or billing-seconds, or
# seconds of an incarnation (`wall`). `known_*`: of the incarnations whose use Slurm recorded. `told_seconds`: of those
# whose loss the run recorded. A sum is NULL if it is unknown of every row what to add; where nothing was lost,
# a sum of losses is 0. Conditions are in `case`: DuckDB takes longer for a `filter` of an aggregate.
SUMS = {
    "incarnations": "count(*)",
    "jobs": "count(distinct hash(cluster, id))",
    "wall_seconds": "sum(seconds)",
    "gpu_seconds": "sum(gpus * seconds)",
    "cpu_seconds": "sum(cpus * running)",
    "node_seconds": "sum(node_count * seconds)",
    "billing_seconds": "sum(billing * seconds)",
    "used_cpu": "sum(case when whole > 0 and cpus is not null then used_cpu * running / whole end)",
    "known_cpu": "sum(case when used_cpu is not null and ended is not null then cpus * running end)",
    "used_memory": "sum(case when memory > 0 then used_memory / 1048576.0 * seconds end)",
    "known_memory": "sum(case when used_memory is not null then memory::double * seconds end)",
    "used_gpu": "sum(gpu_busy / 100 * gpus * seconds)",
    "known_gpu": "sum(case when gpu_busy is not null then gpus * seconds end)",
    "wait_seconds": "sum(waited)",
    "waits": "quantile_disc(waited, [0.5, 0.9])",
    "requeue_seconds": """sum(case when submitted is null then null when is_requeued then started - submitted
        else 0 end)""",
    "held_seconds": """sum(case when is_requeued
        then greatest(0, least(coalesce(eligible, submitted), started) - submitted) end)""",
    "told_seconds": "sum(case when start_lost is not null then seconds end)",
    "start_seconds": "sum(start_lost)",
    "rollback_seconds": "sum(rolled_back)",
    "lost_gpu_seconds": "case when max(gone) > 0 then sum(case when gone > 0 then gpus * gone end) else 0 end",
    "lost_cpu_seconds": """case when max(gone) > 0
        then sum(case when gone > 0 then cpus * least(gone, running) end) else 0 end""",
    "cost": "case when count(cost) = count(*) then coalesce(sum(cost), 0.0) end",
}


class ExitClassSums(NamedTuple):
    """What the incarnations of one exit class used and lost; the loss is an upper bound if no run recorded it."""

    end: ExitClass
    incarnations: int
    gpu_seconds: int | None
    cpu_seconds: int | None
    lost_gpu_seconds: int | None
    lost_cpu_seconds: int | None

    def as_dict(self) -> dict[str, float | None]:
        """Return the sums in hours; None: unknown."""
        return {
            "incarnations": self.incarnations,
            "gpu_hours": in_hours(self.gpu_seconds),
            "cpu_hours": in_hours(self.cpu_seconds),
            "lost_gpu_hours_at_most": in_hours(self.lost_gpu_seconds),
            "lost_cpu_hours_at_most": in_hours(self.lost_cpu_seconds),
        }


# Those of SUMS that are no whole numbers.
REAL = ("used_cpu", "used_memory", "known_memory", "used_gpu", "waits", "cost")
# Whole numbers of SUMS that are None where they are unknown of every row; the other ones are 0 there.
MAY_BE_UNKNOWN = (
    "gpu_seconds", "cpu_seconds", "node_seconds", "billing_seconds", "requeue_seconds", "lost_gpu_seconds",
    "lost_cpu_seconds",
)  # fmt: skip
# The numbers of a group, as CSV and JSON name them.
NUMBERS = (
    "gpu_hours", "cpu_hours", "node_hours", "gpu_seconds", "cpu_seconds", "node_seconds", "jobs", "incarnations",
    "wait_p50", "wait_p90", "cpu_use", "memory_use", "gpu_use", "lost_gpu_hours_at_most", "lost_cpu_hours_at_most",
    "requeue_hours", "start_hours", "rollback_hours", "effective", "effective_is_at_most", "billing_hours", "cost",
)  # fmt: skip
_NO_BOUND = 0.995  # rounded it is 100%


@dataclass(slots=True)
class Amounts:
    """The sums of one group, those of SUMS and in their order. None: unknown of every row; 0 without any row.

    `ends`: the sums of each exit class that occurs, if they were asked for.
    """

    incarnations: int = 0
    jobs: int = 0
    wall_seconds: int = 0
    gpu_seconds: int | None = 0
    cpu_seconds: int | None = 0
    node_seconds: int | None = 0
    billing_seconds: int | None = 0
    used_cpu: float = 0.0
    known_cpu: int = 0
    used_memory: float = 0.0
    known_memory: float = 0.0
    used_gpu: float = 0.0
    known_gpu: int = 0
    wait_seconds: int = 0
    waits: Sequence[int] | None = None
    requeue_seconds: int | None = 0
    held_seconds: int = 0
    told_seconds: int = 0
    start_seconds: int = 0
    rollback_seconds: int = 0
    lost_gpu_seconds: int | None = 0
    lost_cpu_seconds: int | None = 0
    cost: float | None = None
    ends: list[ExitClassSums] = field(default_factory=list)

    def waited(self, percent: int) -> int | None:
        """Return the 50th or 90th percentile of the waiting times from eligible to start, in seconds; None: unknown."""
        return self.waits[(50, 90).index(percent)] if self.waits else None

    @property
    def cpu_use(self) -> float | None:
        """The share of the allocated CPU time that was used, computed as seff does; None if Slurm did not record it."""
        return self.used_cpu / self.known_cpu if self.known_cpu else None

    @property
    def memory_use(self) -> float | None:
        """The peak memory use divided by the allocated memory, weighted by allocated memory and time."""
        return self.used_memory / self.known_memory if self.known_memory else None

    @property
    def gpu_use(self) -> float | None:
        """The mean use of the GPUs, weighted by GPU-seconds."""
        return self.used_gpu / self.known_gpu if self.known_gpu else None

    @property
    def effective(self) -> float | None:
        """The share of the time since the jobs were eligible in which they trained and kept the result.

        The time includes the two minutes for which Slurm holds a job after a requeue. The share is an upper bound if
        the records of runs do not cover all of the time: what is not known to be lost counts as kept. A bound of 100%
        is none.
        """
        whole = self.wall_seconds + self.wait_seconds + self.held_seconds
        share = (self.wall_seconds - self.start_seconds - self.rollback_seconds) / whole if whole else None
        says_nothing = share is None or (not self.is_told and share > _NO_BOUND)
        return None if says_nothing else share

    @property
    def is_told(self) -> bool:
        """Whether the records of runs cover all of the time."""
        return self.told_seconds == self.wall_seconds > 0

    def as_dict(self) -> dict[str, Any]:
        """Return all sums, for JSON; None: unknown. Shares are from 0 to 1, times in seconds."""
        numbers = dict(zip(NUMBERS, self.numbers(), strict=True))
        return {**numbers, "ends": {row.end.word: row.as_dict() for row in self.ends}}

    def numbers(self) -> tuple[float | None, ...]:
        """Return the sums without those of exit classes, in the order of NUMBERS."""
        wait_p50, wait_p90 = self.waits or (None, None)
        is_told_any = self.told_seconds > 0
        return (
            in_hours(self.gpu_seconds), in_hours(self.cpu_seconds), in_hours(self.node_seconds),
            self.gpu_seconds, self.cpu_seconds, self.node_seconds,
            self.jobs, self.incarnations, wait_p50, wait_p90,
            self.cpu_use, self.memory_use, self.gpu_use,
            in_hours(self.lost_gpu_seconds), in_hours(self.lost_cpu_seconds), in_hours(self.requeue_seconds),
            self.start_seconds / 3600 if is_told_any else None, self.rollback_seconds / 3600 if is_told_any else None,
            self.effective, not self.is_told, in_hours(self.billing_seconds), self.cost,
        )  # fmt: skip


def in_hours(seconds: float | None) -> float | None:
    """Return seconds in hours; None: unknown."""
    return None if seconds is None else seconds / 3600


def known_sum(amounts: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None if there are amounts, all of them unknown."""
    found = list(amounts)
    known = [each for each in found if each is not None]
    return sum(known) if known or not found else None
