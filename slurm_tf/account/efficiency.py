"""The efficiency of one job: what it requested, what it used, and what to request next time."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from slurm_tf import units
from slurm_tf.account import exit_classes
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.usage_record import UsageRecord

MIB = 1024**2
# The suggested request is this factor times the peak use, as runs differ.
_SPARE = 1.2
# The suggested request is this factor times the old one, if a job reached its limit.
_MORE = 1.5


@dataclass
class JobEfficiency:
    """The highest values of all incarnations and array tasks of one job, and how they ended.

    Times are in seconds, memory in MiB; None: unknown. `used_cpus`: the average number of busy CPUs.
    """

    incarnations: int = 0
    seconds: int = 0
    ends: Counter[ExitClass] = field(default_factory=Counter)
    limit: int | None = None  # minutes
    cpus: int = 0
    nodes: int = 0
    gpus: int = 0
    gpu_types: set[str] = field(default_factory=set)
    memory: int = 0
    longest: int = 0
    completed: int | None = None
    used_cpus: float | None = None
    cpu_share: float | None = None
    used_memory: int | None = None
    gpu_use: float | None = None
    gpu_seconds: float = 0.0
    waited: int = 0


def gather(records: Iterable[UsageRecord], now: int) -> dict[str, JobEfficiency]:
    """Return the efficiency of each component of a job, by "" if the job is not heterogeneous, else "+0", "+1", ..."""
    found: dict[str, JobEfficiency] = {}
    for record in records:
        if record.started is not None:
            component = f"+{record.id.partition('+')[2]}" if "+" in record.id else ""
            _add(found.setdefault(component, JobEfficiency()), record, now)
    return found


def _add(asked: JobEfficiency, record: UsageRecord, now: int) -> None:
    seconds = record.elapsed(0, now, now)
    end = exit_classes.classify(record)
    asked.incarnations += 1
    asked.ends[end] += 1
    asked.seconds += seconds
    asked.longest = max(asked.longest, seconds)
    asked.limit = max(asked.limit or 0, record.limit or 0) or None
    asked.cpus, asked.nodes = max(asked.cpus, record.cpus), max(asked.nodes, record.node_count)
    asked.gpus, asked.memory = max(asked.gpus, record.gpus), max(asked.memory, record.memory)
    asked.gpu_types |= {record.gpu_type} - {""}
    if record.eligible is not None and record.started is not None:
        asked.waited += max(0, record.started - record.eligible)
    if end is ExitClass.COMPLETED:
        asked.completed = max(asked.completed or 0, seconds)
    if record.used_cpu is not None and record.cpus and seconds and record.ended is not None:
        asked.used_cpus = max(asked.used_cpus or 0.0, record.used_cpu / seconds)
        asked.cpu_share = max(asked.cpu_share or 0.0, record.used_cpu / seconds / record.cpus)
    if record.used_memory is not None:
        asked.used_memory = max(asked.used_memory or 0, -(-record.used_memory // MIB))
    if record.gpu_use is not None and record.gpus:
        busy = (asked.gpu_use or 0.0) * asked.gpu_seconds + record.gpu_use * record.gpus * seconds
        asked.gpu_seconds += record.gpus * seconds
        asked.gpu_use = busy / asked.gpu_seconds if asked.gpu_seconds else record.gpu_use


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
    """Return one row for each resource."""
    rows = [_time(asked), _cpus(asked), _memory(asked)]
    return [*rows, _gpus(asked)] if asked.gpus else rows


def _time(asked: JobEfficiency) -> Advice:
    limit = None if asked.limit is None else asked.limit * 60
    share = asked.longest / limit if limit else None
    words = _clock(limit) if limit else "no limit, or unknown"
    if asked.ends[ExitClass.TIMEOUT]:
        why = f"{asked.ends[ExitClass.TIMEOUT]} of {asked.incarnations} ran into the limit"
        return Advice("time", words, _clock(asked.longest), share, _clock(int((limit or 0) * _MORE)), why)
    if asked.completed is None or not limit:
        return Advice("time", words, _clock(asked.longest), share)
    step = 300 if asked.completed < 7200 else 1800
    wanted = math.ceil(asked.completed * _SPARE / step) * step
    if wanted >= limit:
        return Advice("time", words, _clock(asked.longest), share)
    return Advice("time", words, _clock(asked.longest), share, _clock(wanted), "shorter jobs start sooner")


def _cpus(asked: JobEfficiency) -> Advice:
    if asked.used_cpus is None:
        return Advice("cpus", str(asked.cpus), "unknown", None)
    used = f"{asked.used_cpus:.1f}"
    wanted = max(1, asked.nodes, asked.gpus, math.ceil(asked.used_cpus * _SPARE))
    if wanted >= asked.cpus:
        return Advice("cpus", str(asked.cpus), used, asked.cpu_share)
    return Advice("cpus", str(asked.cpus), used, asked.cpu_share, str(wanted), "in all: cpus-per-task is of each task")


def _memory(asked: JobEfficiency) -> Advice:
    words = units.format_memory(asked.memory) if asked.memory else "unknown"
    used = "unknown" if asked.used_memory is None else _size(asked.used_memory)
    share = asked.used_memory / asked.memory if asked.used_memory is not None and asked.memory else None
    nodes = max(1, asked.nodes)
    each = f"mem = {{}} on each of {nodes} nodes" if nodes > 1 else "mem = {}"
    if asked.ends[ExitClass.OUT_OF_MEMORY]:
        why = f"{asked.ends[ExitClass.OUT_OF_MEMORY]} of {asked.incarnations} ran out of it"
        return Advice("memory", words, used, share, each.format(_round(asked.memory * _MORE / nodes)), why)
    if asked.used_memory is None or not asked.memory:
        return Advice("memory", words, used, share)
    wanted = asked.used_memory * _SPARE / nodes
    if _round_mib(wanted) * nodes >= asked.memory:
        return Advice("memory", words, used, share)
    return Advice("memory", words, used, share, each.format(_round(wanted)), "sampled: a short peak may be higher")


def _gpus(asked: JobEfficiency) -> Advice:
    types = "+".join(sorted(asked.gpu_types))
    words = f"{asked.gpus} {types}".rstrip()
    if asked.gpu_use is None:
        return Advice("gpus", words, "unknown", None, why="neither Slurm nor the run recorded it")
    share = asked.gpu_use / 100
    used = f"{asked.gpus * share:.1f}"
    if share < 0.01:
        return Advice("gpus", words, used, share, "0", "they were idle")
    busy = math.ceil(asked.gpus * share * _SPARE)
    if busy < asked.gpus:
        return Advice("gpus", words, used, share, str(busy), "or more work for each")
    return Advice("gpus", words, used, share)


def as_dict(component: str, asked: JobEfficiency) -> dict[str, Any]:
    """Return all values, for JSON; None: unknown."""
    return {
        "component": component or None,
        "incarnations": asked.incarnations,
        "ends": {end.word: count for end, count in sorted(asked.ends.items())},
        "seconds": asked.seconds,
        "waited_seconds": asked.waited,
        "nodes": asked.nodes,
        "time": {"asked": None if asked.limit is None else asked.limit * 60, "used": asked.longest},
        "cpus": {"asked": asked.cpus, "used": asked.used_cpus},
        "memory_mib": {"asked": asked.memory or None, "used": asked.used_memory},
        "gpus": {"asked": asked.gpus, "use": None if asked.gpu_use is None else asked.gpu_use / 100},
        "next": {row.key: row.next for row in advice(asked) if row.next},
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
