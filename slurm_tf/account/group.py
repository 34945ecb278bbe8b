"""The report for the leader of an account: each member, each template, idle GPUs, jobs that asked for too much."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurm_tf.account import person, waste
from slurm_tf.account.person import Sums
from slurm_tf.account.window import Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Oversized:
    """A job that used less than half of what it asked for, or GPUs that were idle; shares from 0 to 1, None: unknown.

    `hours`: GPU-hours, or CPU-hours of a job without GPUs.
    """

    job: str
    user: str
    label: str
    hours: float
    gpus: int | None
    gpu_use: float | None
    cpu_use: float | None
    memory_use: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return all values, for JSON."""
        return {
            "job": self.job, "user": self.user or None, "template": self.label or None, "gpus": self.gpus,
            ("gpu_hours" if self.gpus else "cpu_hours"): self.hours, "gpu_use": self.gpu_use, "cpu_use": self.cpu_use,
            "memory_use": self.memory_use,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The report of accounts: what each member and each template had and used, inside a window.

    `idle`: the jobs with idle GPUs. `oversized`: those that used less than half of all that is known of what they had.
    """

    window: Window
    accounts: Sequence[str]
    total: Sums
    members: Sequence[Sums]
    templates: Sequence[Sums]
    idle: Sequence[Oversized]
    oversized: Sequence[Oversized]

    @property
    def idle_words(self) -> str:
        """A sentence in place of the table of idle GPUs; "" where there is one, or where nobody had a GPU."""
        if not self.total.gpu_seconds or self.idle:
            return ""
        if self.total.idle_seconds is None:
            return "Unknown: neither Slurm (gres/gpuutil) nor a run recorded how busy any GPU was."
        return "No GPUs were idle, of those whose use is known."

    @property
    def oversized_words(self) -> str:
        """A sentence in place of the table of jobs that asked for too much; "" where there is one."""
        return "" if self.oversized else "No job used less than half of what it asked for, of those whose use is known."

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of each table by its name, for JSON and CSV; None: unknown."""
        return {
            "members": [each.as_dict("user") for each in self.members],
            "templates": [each.as_dict("template") for each in self.templates],
            "idle_gpus": [each.as_dict() for each in self.idle],
            "less_than_half_used": [each.as_dict() for each in self.oversized],
        }


_CPU_USE = "used_cpu / (cpus * nullif(whole, 0))"
_MEMORY_USE = "used_memory / 1048576.0 / nullif(memory, 0)"
_SHOWN = f"""id, coalesce("user", ''), {person.LABEL},
    case when gpus > 0 then gpus * seconds else cpus * running end / 3600, gpus, gpu_busy / 100,
    {_CPU_USE}, {_MEMORY_USE}"""
# Jobs that failed say nothing about what they needed, nor do short ones.
_HALF = 0.5
_LONG = f"seconds >= {waste.SOME_MINUTES}"


def report(database: "DuckDBPyConnection", window: Window) -> GroupReport:
    """Return the report of the view `parts`, which a usage.Aggregate of the window has made of the accounts' jobs."""
    total, members = person.sums(database, """coalesce("user", '')""")
    accounts = database.execute("select distinct account from parts where account is not null order by 1").fetchall()
    return GroupReport(
        window,
        [name for (name,) in accounts],
        total,
        members,
        person.sums(database, person.LABEL)[1],
        _jobs(database, f"gpus > 0 and gpu_busy < {waste.IDLE_GPU}"),
        _jobs(
            database,
            f"{_CPU_USE} is not null and greatest({_CPU_USE}, {_MEMORY_USE}, gpu_busy / 100) < {_HALF} "
            "and exit_class in ('completed', 'timeout')",
        ),
    )


def _jobs(database: "DuckDBPyConnection", where: str) -> list[Oversized]:
    """Return the jobs of some minutes for which `where` is true, the most expensive first."""
    query = f"select {_SHOWN} from parts where {_LONG} and ({where})"
    rows = database.execute(
        f"{query} order by gpus * seconds desc nulls last, cpus * running desc nulls last, id"
    ).fetchall()
    return [Oversized(*row) for row in rows]
