"""What the GPUs of a run do and did, as each task's sampler recorded it: run/gpu_record.py."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from slurm_tf.run import gpu_record
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.gpu_record import AttemptUse, GpuRecord, GpuSample
from slurm_tf.watch.run_overview import RunOverview

# A living run shows the mean of its last samples, of so many seconds.
_RECENT_SECONDS = 300.0
_NONE = "-"


def of_tasks(state: RunOverview) -> dict[str, GpuRecord]:
    """Return the records of the tasks of a run's newest attempt; none of one whose attempts are not known."""
    newest = state.attempts[-1].id if state.attempts else ""
    records = gpu_record.read(state.selected.folder)
    return {task: each for task, each in records.items() if each.attempts and each.attempts[-1].attempt == newest}


def of_role(role: str, records: Mapping[str, GpuRecord]) -> dict[str, float | int | None]:
    """Return how busy the GPUs of a role are, in percent, and the most memory that one uses, and has, in MiB.

    A role that was sampled in the last minutes shows these, any other the whole attempt.
    """
    own = [each for task, each in records.items() if task.partition(":")[0] == role]
    since = time.time() - _RECENT_SECONDS
    states = [state for each in own for sample in each.samples if sample.at >= since for state in sample.devices]
    if not states:
        uses = [each.attempts[-1] for each in own]
        return _row(gpu_record.mean_busy(uses), [(use.memory_used, use.memory_total) for use in uses])
    busy = [state.busy for state in states if state.busy is not None]
    mean = sum(busy) / len(busy) if busy else None
    return _row(mean, [(state.memory_used, state.memory_total) for state in states])


def _row(busy: float | None, memory: list[tuple[int | None, int | None]]) -> dict[str, float | int | None]:
    used, total = max(((used, total) for used, total in memory if used is not None), default=(None, None))
    return {"gpu_busy": busy, "gpu_memory_used": used, "gpu_memory_total": total}


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of a role: how busy its GPUs are, and the most memory that one of them uses, as "30.3/40G"."""
    used, total = row["gpu_memory_used"], row["gpu_memory_total"]
    if used is None:
        return [busy_text(row["gpu_busy"]), _NONE]
    of_all = f"/{total / 1024:.0f}" if total else ""
    return [busy_text(row["gpu_busy"]), f"{used / 1024:.1f}{of_all}G"]


def busy_text(busy: float | None) -> str:
    """Return a percentage as a cell."""
    return _NONE if busy is None else f"{busy:.0f}%"


def problem_lines(state: RunOverview) -> list[str]:
    """Return why the GPUs of a task are not sampled any more, a line for each different reason."""
    problems: dict[str, list[str]] = {}
    for task, record in of_tasks(state).items():
        if record.problem:
            problems.setdefault(record.problem, []).append(task)
    return [f"{', '.join(tasks)}: not known any more: {problem}" for problem, tasks in problems.items()]


def as_dict(state: RunOverview) -> dict[str, Any]:
    """Return the last sample of each task's devices, for --json, and what the attempt used in all."""
    return {
        task: {
            "last": _sample(record.samples[-1]),
            "attempt": _use(record.attempts[-1]),
            "problem": record.problem or None,
        }
        for task, record in of_tasks(state).items()
        if record.samples
    }


def _sample(sample: GpuSample) -> dict[str, Any]:
    return {"at": sample.at, "devices": [asdict(each) for each in sample.devices]}


def _use(use: AttemptUse) -> dict[str, Any]:
    """Return what an attempt used: the mean percentage, not the sum."""
    return {**asdict(use), "busy": gpu_record.mean_busy([use])}


def mean_busy(folder: RunFolder) -> float | None:
    """Return the mean of all samples of a run's GPUs, of all attempts, in percent; None where none was taken."""
    return gpu_record.mean_busy(use for each in gpu_record.read(folder).values() for use in each.attempts)
