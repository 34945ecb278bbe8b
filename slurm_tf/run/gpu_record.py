"""What the GPUs of each task did: a file of JSON a task in the folder gpus/ of a run, written by the task's sampler.

A file stays small: it has the last samples, and of each attempt only sums. Standard library, Python 3.9.
"""

import contextlib
import os
from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Optional, Tuple

from slurm_tf.errors import RunError
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder

# How many samples and attempts are kept.
_MOST_SAMPLES, _MOST_ATTEMPTS = 20, 100
_SUFFIX = ".json"


@dataclass(frozen=True)
class GpuState:
    """One device: `busy` is the percentage of the last second or less in which it computed; memory in MiB.

    None stands for what the driver does not say: of a part of a GPU (MIG), how busy it is.
    """

    name: str
    busy: Optional[int]
    memory_used: Optional[int]
    memory_total: Optional[int]


@dataclass(frozen=True)
class GpuSample:
    """The devices of a task at one time, seconds since the epoch."""

    at: float
    devices: Tuple[GpuState, ...]


@dataclass(frozen=True)
class AttemptUse:
    """What was sampled in one attempt: `busy`, the sum of `samples` percentages, and the most memory of a device."""

    attempt: str
    devices: int
    samples: int
    busy: int
    memory_used: Optional[int]
    memory_total: Optional[int]


@dataclass(frozen=True)
class GpuRecord:
    """What is known of the devices of one task. `attempts`, oldest first; `samples` of the last one.

    `problem`: why nothing more is sampled, "" if it goes on.
    """

    attempts: Tuple[AttemptUse, ...] = ()
    samples: Tuple[GpuSample, ...] = ()
    problem: str = ""

    def with_sample(self, attempt: str, sample: GpuSample) -> "GpuRecord":
        """Return the record with one more sample of an attempt."""
        mine = next((each for each in self.attempts if each.attempt == attempt), None)
        former = [each for each in self.attempts if each is not mine]
        is_newest = bool(self.attempts) and mine is self.attempts[-1]
        added = _added(mine or AttemptUse(attempt, 0, 0, 0, None, None), sample)
        samples = (*(self.samples if is_newest else ()), sample)
        return GpuRecord((*former, added)[-_MOST_ATTEMPTS:], samples[-_MOST_SAMPLES:])


def _added(use: AttemptUse, sample: GpuSample) -> AttemptUse:
    busy = [each.busy for each in sample.devices if each.busy is not None]
    return replace(
        use,
        devices=max(use.devices, len(sample.devices)),
        samples=use.samples + len(busy),
        busy=use.busy + sum(busy),
        memory_used=_most([use.memory_used, *(each.memory_used for each in sample.devices)]),
        memory_total=_most([use.memory_total, *(each.memory_total for each in sample.devices)]),
    )


def _most(values: Iterable[Optional[int]]) -> Optional[int]:
    return max((each for each in values if each is not None), default=None)


def mean_busy(uses: Iterable[AttemptUse]) -> Optional[float]:
    """Return the mean percentage of all samples; None if there is none."""
    each = list(uses)
    samples = sum(use.samples for use in each)
    return sum(use.busy for use in each) / samples if samples else None


def path(folder: RunFolder, task: str) -> str:
    """Return the file of the task "worker:0"."""
    return os.path.join(folder.gpus, task.replace(":", "-") + _SUFFIX)


def read(folder: RunFolder) -> Dict[str, GpuRecord]:
    """Return the record of each task that has one, by its name. Files that cannot be used are left out."""
    names: List[str] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(folder.gpus))
    found = {}
    for name in names:
        role, _, index = name[: -len(_SUFFIX)].rpartition("-")
        if name.endswith(_SUFFIX) and role and index.isdigit():
            with contextlib.suppress(OSError, RunError):
                found[f"{role}:{index}"] = json_file.read(os.path.join(folder.gpus, name), GpuRecord)
    return found


def add(folder: RunFolder, task: str, attempt: str, sample: GpuSample) -> None:
    """Add a sample to a task's file. Raises OSError.

    The file is read anew: an attempt on a node that was cut off may still write to it.
    """
    _write(folder, task, _current(folder, task).with_sample(attempt, sample))


def stop(folder: RunFolder, task: str, problem: str) -> None:
    """Record why nothing more is sampled of a task. Raises OSError."""
    _write(folder, task, replace(_current(folder, task), problem=problem))


def _current(folder: RunFolder, task: str) -> GpuRecord:
    """Return the record in a task's file; an empty one where there is none, or one that cannot be used."""
    try:
        return json_file.read(path(folder, task), GpuRecord)
    except (FileNotFoundError, RunError):
        return GpuRecord()


def _write(folder: RunFolder, task: str, record: GpuRecord) -> None:
    os.makedirs(folder.gpus, mode=0o700, exist_ok=True)
    json_file.write(path(folder, task), record, indent=None)
