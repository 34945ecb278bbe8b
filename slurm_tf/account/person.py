"""The report for one person: hours by template, what was wasted and why, and what may still be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurm_tf.account import waste
from slurm_tf.account.amounts import SUMS, in_hours, known_sum
from slurm_tf.account.waste import Cause
from slurm_tf.account.window import Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Sums:
    """What the jobs of one template, or of one name, had and used; shares from 0 to 1, None: unknown.

    `wait`: the median of the seconds from eligible to start. `idle_seconds`: GPU-seconds of GPUs that were less than
    10% busy; None where the use of none of its GPUs is known.
    """

    label: str
    jobs: int
    gpu_seconds: float | None
    cpu_seconds: float | None
    wait: float | None
    gpu_use: float | None
    cpu_use: float | None
    idle_seconds: float | None
    wasted_gpu_seconds: float | None = 0.0
    wasted_cpu_seconds: float | None = 0.0

    def as_dict(self, name: str) -> dict[str, Any]:
        """Return all values, for JSON; None: unknown."""
        return {
            name: self.label or None,
            "jobs": self.jobs,
            "gpu_hours": in_hours(self.gpu_seconds),
            "cpu_hours": in_hours(self.cpu_seconds),
            "wait_p50": self.wait,
            "gpu_use": self.gpu_use,
            "cpu_use": self.cpu_use,
            "idle_gpu_hours": in_hours(self.idle_seconds),
            "wasted_gpu_hours_at_most": in_hours(self.wasted_gpu_seconds),
            "wasted_cpu_hours_at_most": in_hours(self.wasted_cpu_seconds),
        }


NOTHING = Sums("", 0, 0, 0, None, None, None, None)


@dataclass(frozen=True, slots=True)
class PersonReport:
    """The hours of one person, or of all whose jobs were read, inside a window."""

    window: Window
    total: Sums
    templates: Sequence[Sums]
    causes: Sequence[Cause]

    @property
    def wasted(self) -> tuple[float | None, float | None]:
        """The GPU-seconds and CPU-seconds that were wasted at most; None: unknown of every cause."""
        return known_sum(each.gpu_seconds for each in self.causes), known_sum(each.cpu_seconds for each in self.causes)


_SUMS = f"""
select grouping(label), label, {SUMS["jobs"]}, {SUMS["gpu_seconds"]}, {SUMS["cpu_seconds"]}, median(waited),
    {SUMS["used_gpu"]} / nullif({SUMS["known_gpu"]}, 0), {SUMS["used_cpu"]} / nullif({SUMS["known_cpu"]}, 0),
    sum(case when gpu_busy < {waste.IDLE_GPU} then gpus * seconds else 0 end)
        filter (gpu_busy is not null and gpus > 0),
    case when count(why) = 0 then 0 else sum(wasted_gpu) filter (why is not null) end,
    case when count(why) = 0 then 0 else sum(wasted_cpu) filter (why is not null) end
from (select *, {{key}} as label from parts where seconds > 0) group by grouping sets ((), (label))
"""
# What a job is called in a report: its template, else its own name.
LABEL = "coalesce(template, name, '')"


def sums(database: "DuckDBPyConnection", key: str) -> tuple[Sums, list[Sums]]:
    """Return the sums of the view `parts`: in all, and for each value of the expression `key`, the largest first."""
    total, found = NOTHING, []
    for is_total, label, jobs, *numbers in database.execute(_SUMS.format(key=key)).fetchall():
        if is_total:
            total = Sums("", jobs, *numbers) if jobs else NOTHING
        else:
            found.append(Sums(label, jobs, *numbers))
    return total, sorted(found, key=lambda each: (-(each.gpu_seconds or 0), -(each.cpu_seconds or 0), each.label))


def report(database: "DuckDBPyConnection", window: Window) -> PersonReport:
    """Return the report of the view `parts`, which a usage.Aggregate of the window has made."""
    return PersonReport(window, *sums(database, LABEL), waste.causes(database))
