"""The efficiency of one job: what it requested, what it used, and what to request next time."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from slurm_tf import units
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.job_use import MIB, JobUse

# The suggested request is this factor times the peak use, as runs differ.
_SPARE = 1.2
# The suggested request is this factor times the old one, if a job reached its limit.
_MORE = 1.5
# Runs that are shorter, in seconds, or that ended in another way, say nothing of what the next one needs.
_LONG_ENOUGH = 300
_TELLING = (ExitClass.COMPLETED, ExitClass.TIMEOUT, ExitClass.OUT_OF_MEMORY)
# CPU time is sampled: a bit above 100% is none.
_TOO_MUCH = 1.05


@dataclass
class JobEfficiency:
    """The highest values of all incarnations and array tasks of one job, and how they ended.

    Times are in seconds, memory in MiB; None: unknown. `used_cpus`: the average number of busy CPUs.
    """

    incarnations: int = 0
    telling: int = 0  # so many say what the next one needs
    seconds: int | None = None
    ends: Counter[ExitClass] = field(default_factory=Counter)
    limit: int | None = None  # minutes
    cpus: int | None = None
    nodes: int | None = None
    gpus: int | None = None
    gpu_types: set[str] = field(default_factory=set)
    memory: int | None = None
    longest: int | None = None
    completed: int | None = None
    used_cpus: float | None = None
    cpu_share: float | None = None
    used_memory: int | None = None
    node_least: int | None = None  # what one node held for certain
    node_most: int | None = None  # what none held more than
    gpu_use: float | None = None
    gpu_seconds: float = 0.0
    gpu_memory_share: float | None = None
    waited: int | None = None
    lacks_tasks: bool = False


def gather(jobs: Iterable[JobUse]) -> dict[str, JobEfficiency]:
    """Return the efficiency of each component of a job, by "" if the job is not heterogeneous, else "+0", "+1", ...

    In the order of their numbers: +2 before +10.
    """
    found: dict[str, JobEfficiency] = {}
    for job in jobs:
        if job.ran:
            component = f"+{job.id.partition('+')[2]}" if "+" in job.id else ""
            _add(found.setdefault(component, JobEfficiency()), job)
    return dict(sorted(found.items(), key=lambda each: int(each[0] or 0)))


def _add(asked: JobEfficiency, job: JobUse) -> None:
    asked.incarnations += 1
    asked.telling += job.end in _TELLING and (job.elapsed or 0) >= _LONG_ENOUGH
    asked.ends[job.end] += 1
    if job.elapsed is not None:
        asked.seconds = (asked.seconds or 0) + job.elapsed
    if job.waited is not None:
        asked.waited = (asked.waited or 0) + job.waited
    asked.longest = _most(asked.longest, job.elapsed)
    asked.limit = _most(asked.limit, job.time_limit)
    asked.cpus, asked.nodes = _most(asked.cpus, job.cpus), _most(asked.nodes, job.node_count)
    asked.gpus, asked.memory = _most(asked.gpus, job.gpus), _most(asked.memory, job.memory)
    asked.gpu_types |= {job.gpu_type} - {""}
    asked.lacks_tasks |= job.lacks_tasks
    if job.end is ExitClass.COMPLETED:
        asked.completed = _most(asked.completed, job.elapsed)
    if job.used_cpu is not None and job.elapsed and job.end is not ExitClass.RUNNING:
        asked.used_cpus = max(asked.used_cpus or 0.0, job.used_cpu / job.elapsed)
        asked.cpu_share = max(asked.cpu_share or 0.0, job.cpu_share or 0.0) if job.cpus else asked.cpu_share
    asked.used_memory = _most(asked.used_memory, _mib(job.used_memory))
    asked.node_least = _most(asked.node_least, _mib(job.node_least))
    asked.node_most = _most(asked.node_most, _mib(job.node_most))
    _add_gpus(asked, job)


def _add_gpus(asked: JobEfficiency, job: JobUse) -> None:
    if job.gpu_memory_share is not None:
        asked.gpu_memory_share = max(asked.gpu_memory_share or 0.0, job.gpu_memory_share)
    if job.gpu_use is None or not job.gpus:
        return
    weight = job.gpus * (job.elapsed or 0)
    busy = (asked.gpu_use or 0.0) * asked.gpu_seconds + job.gpu_use * weight
    asked.gpu_seconds += weight
    asked.gpu_use = busy / asked.gpu_seconds if asked.gpu_seconds else job.gpu_use


def _most(first: int | None, second: int | None) -> int | None:
    return max((each for each in (first, second) if each is not None), default=None)


def _mib(amount: int | None) -> int | None:
    return None if amount is None else -(-amount // MIB)


@dataclass(frozen=True, slots=True)
class Advice:
    """One resource: what was requested and used, as text, the share used, and what to request next; "": the same.

    `key`: the resource's name in a job file, or of sbatch.
    """

    key: str
    asked: str
    used: str
    share: float | None
    next: str = ""
    why: str = ""


def advice(asked: JobEfficiency) -> list[Advice]:
    """Return one row for each resource. To ask for less is advised only if an incarnation says what it needs."""
    rows = [_time(asked), _cpus(asked), _memory(asked)]
    return [*rows, _gpus(asked)] if asked.gpus else rows


def notes(asked: JobEfficiency, missing: Iterable[str] = ()) -> list[str]:
    """Return a line for all that the rows leave open. `missing`: columns that the accounting of the job lacks."""
    lacking = set(missing)
    lines = []
    if not asked.telling:
        lines.append(
            "no advice to ask for less: no incarnation completed, ran into its time limit or ran out of memory after "
            f"{_LONG_ENOUGH // 60} minutes or more"
        )
    if "TotalCPU" in lacking:
        lines.append("no column TotalCPU: CPU time is UserCPU + SystemCPU, else AveCPU x NTasks, else unknown")
    if "AllocTRES" in lacking:
        lines.append("no column AllocTRES: CPUs, nodes and memory are AllocCPUS, NNodes and ReqMem; GPUs are unknown")
    if "Eligible" in lacking and asked.waited is not None:
        lines.append("no column Eligible: it waited since Submit")
    if "NodeList" in lacking and (asked.nodes or 0) > 1:
        lines.append("no column NodeList: all steps count as if they were on the same nodes")
    return lines


def _time(asked: JobEfficiency) -> Advice:
    limit = None if asked.limit is None else asked.limit * 60
    longest = asked.longest
    share = longest / limit if limit and longest is not None else None
    words = "no limit, or unknown" if limit is None else _clock(limit)
    used = "unknown" if longest is None else _clock(longest)
    if asked.ends[ExitClass.TIMEOUT]:
        why = f"{asked.ends[ExitClass.TIMEOUT]} of {asked.incarnations} ran into the limit"
        reached = max(limit or 0, longest or 0)
        return Advice("time", words, used, share, _clock(int(reached * _MORE)) if reached else "", why)
    if asked.completed is None or not limit or not asked.telling:
        return Advice("time", words, used, share)
    step = 300 if asked.completed < 7200 else 1800
    wanted = math.ceil(asked.completed * _SPARE / step) * step
    if wanted >= limit:
        return Advice("time", words, used, share)
    return Advice("time", words, used, share, _clock(wanted), "shorter jobs start sooner")


def _cpus(asked: JobEfficiency) -> Advice:
    words = str(asked.cpus or "unknown")
    if asked.used_cpus is None:
        return Advice("cpus", words, "unknown", None, why="Slurm did not record their time, or the job runs")
    used, share = f"{asked.used_cpus:.1f}", asked.cpu_share
    if share is not None and share > _TOO_MUCH:
        return Advice("cpus", words, used, share, str(math.ceil(asked.used_cpus)), "it used more than it asked for")
    wanted = max(1, asked.nodes or 1, asked.gpus or 0, math.ceil(asked.used_cpus * _SPARE))
    if not asked.cpus or wanted >= asked.cpus or not asked.telling:
        return Advice("cpus", words, used, share)
    return Advice("cpus", words, used, share, str(wanted), "in all: cpus-per-task is of each task")


def _memory(asked: JobEfficiency) -> Advice:
    words = units.format_memory(asked.memory) if asked.memory else "unknown"
    used = "unknown" if asked.used_memory is None else _size(asked.used_memory)
    share = asked.used_memory / asked.memory if asked.used_memory is not None and asked.memory else None
    nodes = max(1, asked.nodes or 1)
    each = f"mem = {{}} on each of {nodes} nodes" if nodes > 1 else "mem = {}"
    had, mean = (asked.memory or 0) / nodes, (asked.used_memory or 0) / nodes
    least, most = max(asked.node_least or 0, mean), max(asked.node_most or 0, mean)
    if asked.ends[ExitClass.OUT_OF_MEMORY]:
        why = f"{asked.ends[ExitClass.OUT_OF_MEMORY]} of {asked.incarnations} ran out of it"
        enough = max(had * _MORE, most * _SPARE)
        return Advice("memory", words, used, share, each.format(_round(enough)) if enough else "", why)
    if asked.lacks_tasks:
        return Advice("memory", words, used, share, why="a step has MaxRSS, which is of one task, but no NTasks")
    if asked.node_most is None:
        return Advice("memory", words, used, share, why="Slurm did not record it")
    wanted = each.format(_round(most * _SPARE))
    on_one = f"one node held up to {_size(math.ceil(most))}; " if nodes > 1 else ""
    if had and least > had:
        return Advice("memory", words, used, share, wanted, f"{on_one}it used more than it asked for")
    if _round_mib(most * _SPARE) >= had or not asked.telling:
        return Advice("memory", words, used, share)
    return Advice("memory", words, used, share, wanted, f"{on_one}sampled: a short peak may be higher")


def _gpus(asked: JobEfficiency) -> Advice:
    types = "+".join(sorted(asked.gpu_types))
    words, gpus = f"{asked.gpus} {types}".rstrip(), asked.gpus or 0
    if asked.gpu_use is None:
        return Advice("gpus", words, "unknown", None, why="neither Slurm nor the run recorded it")
    share = asked.gpu_use / 100
    used = f"{gpus * share:.1f}"
    if not asked.telling:
        return Advice("gpus", words, used, share)
    if share < 0.01:
        return Advice("gpus", words, used, share, "0", "they were idle")
    busy = math.ceil(gpus * share * _SPARE)
    if busy < gpus:
        return Advice("gpus", words, used, share, str(busy), "or more work for each")
    return Advice("gpus", words, used, share)


def as_dict(component: str, asked: JobEfficiency, missing: Iterable[str] = ()) -> dict[str, Any]:
    """Return all values, for JSON; None: unknown. `missing`: columns that the accounting of the job lacks."""
    rows = advice(asked)
    return {
        "component": component or None,
        "incarnations": asked.incarnations,
        "ends": {end.word: count for end, count in sorted(asked.ends.items())},
        "seconds": asked.seconds,
        "waited_seconds": asked.waited,
        "nodes": asked.nodes,
        "time": {"asked": None if asked.limit is None else asked.limit * 60, "used": asked.longest},
        "cpus": {"asked": asked.cpus, "used": asked.used_cpus},
        "memory_mib": {"asked": asked.memory or None, "used": asked.used_memory, "node_at_most": asked.node_most},
        "gpus": {"asked": asked.gpus, "use": None if asked.gpu_use is None else asked.gpu_use / 100},
        "gpu_memory_use": asked.gpu_memory_share,
        "next": {row.key: row.next for row in rows if row.next},
        "advice": [asdict(row) for row in rows],
        "notes": notes(asked, missing),
    }


def _clock(seconds: int | None) -> str:
    return units.format_time(None if seconds is None else timedelta(seconds=seconds))


def _size(mib: int) -> str:
    return f"{mib / 1024:.1f}G" if mib >= 1024 else f"{mib}M"


def _round_mib(mib: float) -> int:
    step = 1024 if mib > 2048 else 128
    return max(step, math.ceil(mib / step) * step)


def _round(mib: float) -> str:
    return units.format_memory(_round_mib(mib))
