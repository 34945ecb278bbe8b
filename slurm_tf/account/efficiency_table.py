"""The efficiency of many jobs as a table: its columns by the names of sacct and reportseff, their order and values."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from slurm_tf import units
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.job_use import MIB, JobUse
from slurm_tf.account.report import local, named
from slurm_tf.errors import UsageError


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _clock(seconds: float) -> str:
    return units.format_time(timedelta(seconds=int(seconds)))


def _memory(mib: float) -> str:
    return f"{mib / 1024:.1f}G" if mib >= 1024 else f"{mib:.0f}M"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, the value of a job (None: unknown), how that is written, and whether it is a number."""

    name: str
    value: Callable[[JobUse], Any]
    text: Callable[[Any], str] = str
    is_number: bool = True

    def cell(self, job: JobUse) -> str:
        """Return the value of a job as a cell; "-" if it is unknown."""
        value = self.value(job)
        return "-" if value is None or value == "" else self.text(value)


COLUMNS = (
    Column("JobID", lambda job: job.id, is_number=False),
    Column("State", lambda job: job.state, is_number=False),
    Column("Elapsed", lambda job: job.elapsed, _clock),
    Column("TimeEff", lambda job: job.time_share, _percent),
    Column("CPUEff", lambda job: job.cpu_share, _percent),
    Column("MemEff", lambda job: job.memory_share, _percent),
    Column("GPUEff", lambda job: None if job.gpu_use is None else job.gpu_use / 100, _percent),
    Column("GPUMem", lambda job: job.gpu_memory_share, _percent),
    Column("JobName", lambda job: job.name, is_number=False),
    Column("User", lambda job: job.user, is_number=False),
    Column("Account", lambda job: job.account, is_number=False),
    Column("Partition", lambda job: job.partition, is_number=False),
    Column("QOS", lambda job: job.qos, is_number=False),
    Column("Submit", lambda job: job.submitted, local, is_number=False),
    Column("Start", lambda job: job.started, local, is_number=False),
    Column("End", lambda job: job.ended, local, is_number=False),
    Column("Planned", lambda job: job.waited, _clock),
    Column("Timelimit", lambda job: None if job.time_limit is None else 60 * job.time_limit, _clock),
    Column("NNodes", lambda job: job.node_count),
    Column("NodeList", lambda job: job.nodes, is_number=False),
    Column("AllocCPUS", lambda job: job.cpus),
    Column("TotalCPU", lambda job: job.used_cpu, _clock),
    Column("ReqMem", lambda job: job.memory, _memory),
    Column("UsedMem", lambda job: None if job.used_memory is None else job.used_memory / MIB, _memory),
    Column("GPUs", lambda job: job.gpus),
    Column("GPUType", lambda job: job.gpu_type, is_number=False),
)
_BY_NAME = {column.name.lower(): column for column in COLUMNS}
_USUAL = ("JobID", "State", "Elapsed", "TimeEff", "CPUEff", "MemEff", "GPUEff", "GPUMem")
_OF_GPUS = ("GPUEff", "GPUMem")


def columns(form: str, jobs: Iterable[JobUse]) -> list[Column]:
    """Return the columns that `form` names, after a "+" with the usual ones before them. Raises UsageError.

    Without a form they are the usual ones; those of GPUs only if a job has any.
    """
    has_gpus = any(job.gpus or job.gpu_memory_share is not None for job in jobs)
    usual = [_BY_NAME[name.lower()] for name in _USUAL if has_gpus or name not in _OF_GPUS]
    named = [_named(word) for word in form.removeprefix("+").split(",") if word.strip()]
    if not named:
        return usual
    return [*(column for column in usual if column not in named), *named] if form.startswith("+") else named


def with_id_first(wanted: Sequence[Column]) -> list[Column]:
    """Return the columns with that of the job's id first, which names what is in a line."""
    first = _BY_NAME["jobid"]
    return [first, *(column for column in wanted if column is not first)]


def check(form: str, order: str) -> None:
    """Raise UsageError for names that are none of a column."""
    columns(form, ())
    ordered((), order)


def _named(word: str) -> Column:
    found = _BY_NAME.get(word.strip().lower())
    if found is None:
        raise UsageError(f"found {word.strip()!r}", f"one of {', '.join(column.name for column in COLUMNS)}")
    return found


def ordered(jobs: Iterable[JobUse], words: str) -> list[JobUse]:
    """Return the jobs in the order of columns, as squeue --sort takes them: "-CPUEff,User"; "-" is descending.

    Jobs whose value is unknown are last. Without words they stay as they are. Raises UsageError.
    """
    found = list(jobs)
    for word in reversed([word.strip() for word in words.split(",") if word.strip()]):
        value = _named(word.lstrip("+-")).value
        known = [job for job in found if value(job) not in (None, "")]
        found = [
            *sorted(known, key=value, reverse=word.startswith("-")),
            *(job for job in found if value(job) in (None, "")),
        ]
    return found


def as_dict(job: JobUse, wanted: Sequence[Column]) -> dict[str, Any]:
    """Return the values of columns, for JSON and CSV; None: unknown. Seconds, shares from 0 to 1, memory in MiB."""
    values = {column.name: column.value(job) for column in wanted}
    return {name: None if value == "" else value for name, value in values.items()}


def remarks(diagnostics: Diagnostics) -> list[str]:
    """Return a line for each kind of rows and values that could not be read."""
    found = (
        named(diagnostics.orphans, "steps have no row of their job"),
        named(diagnostics.unreadable, "rows could not be read"),
        named(diagnostics.values, "jobs have values that could not be read and are unknown"),
        named(diagnostics.values_of_steps, "steps have values that could not be read and are unknown"),
    )
    return [line for line in found if line]
