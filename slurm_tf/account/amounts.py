"""Sums over a group of incarnations: what they were allocated, used and lost."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from slurm_tf.account.exit_classes import ExitClass

# The sums of a group, and what of the view `parts` adds up to them; mostly CPU-, GPU-, node- or billing-seconds, or
# seconds of an incarnation (`wall`). `known_*`: of the incarnations whose use Slurm recorded. `told_seconds`: of those
# whose loss the run recorded.
SUMS = {
    "incarnations": "count(*)",
    "jobs": "count(distinct hash(cluster, id))",
    "wall_seconds": "sum(seconds)",
    "gpu_seconds": "sum(gpus * seconds)",
    "cpu_seconds": "sum(cpus * running)",
    "node_seconds": "sum(node_count * seconds)",
    "billing_seconds": "sum(billing * seconds)",
    "used_cpu": "sum(used_cpu * running / whole) filter (whole > 0)",
    "known_cpu": "sum(cpus * running) filter (used_cpu is not null and ended is not null)",
    "used_memory": "sum(used_memory / 1048576.0 * seconds) filter (memory > 0)",
    "known_memory": "sum(memory * seconds) filter (used_memory is not null)",
    "used_gpu": "sum(gpu_busy / 100 * gpus * seconds)",
    "known_gpu": "sum(gpus * seconds) filter (gpu_busy is not null)",
    "wait_seconds": "sum(waited)",
    "waits": "quantile_disc(waited, [0.5, 0.9])",
    "requeue_seconds": "sum(started - submitted) filter (is_requeued)",
    "held_seconds": "sum(greatest(0, least(coalesce(eligible, submitted), started) - submitted)) filter (is_requeued)",
    "told_seconds": "sum(seconds) filter (start_lost is not null)",
    "start_seconds": "sum(start_lost)",
    "rollback_seconds": "sum(rolled_back)",
    "lost_gpu_seconds": "sum(gpus * gone)",
    "lost_cpu_seconds": "sum(cpus * gone)",
    "cost": "case when count(cost) = count(*) then coalesce(sum(cost), 0.0) end",
}


class ExitClassSums(NamedTuple):
    """What the incarnations of one exit class used and lost; the loss is an upper bound if no run recorded it."""

    end: ExitClass
    incarnations: int
    gpu_seconds: int
    cpu_seconds: int
    lost_gpu_seconds: int
    lost_cpu_seconds: int


class Amounts:
    """The sums of one group, those of SUMS; what is not known of any row is 0, but for the cost.

    `ends`: the sums of each exit class that occurs, if they were asked for.
    """

    __slots__ = ("cost", "ends", "waits", *(name for name in SUMS if name not in ("cost", "waits")))

    incarnations: int
    jobs: int
    wall_seconds: int
    gpu_seconds: int
    cpu_seconds: int
    node_seconds: int
    billing_seconds: int
    used_cpu: float
    known_cpu: int
    used_memory: float
    known_memory: int
    used_gpu: float
    known_gpu: int
    wait_seconds: int
    requeue_seconds: int
    held_seconds: int
    told_seconds: int
    start_seconds: int
    rollback_seconds: int
    lost_gpu_seconds: int
    lost_cpu_seconds: int
    cost: float | None
    waits: Sequence[int] | None

    def __init__(self, *sums: Any) -> None:  # noqa: ANN401 - numbers of DuckDB
        """`sums`: in the order of SUMS; none: all are 0."""
        for name, value in zip(SUMS, sums or [None] * len(SUMS), strict=True):
            setattr(self, name, value if value is not None or name in ("cost", "waits") else 0)
        self.ends: list[ExitClassSums] = []

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
