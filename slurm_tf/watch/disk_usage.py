"""Measures what the files of runs take on storage, for `slurm-tf du` and `slurm-tf rm`."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slurm_tf.run.folder import RunFolder
from slurm_tf.watch.find_run import SelectedRun

_BLOCK = 512  # bytes of st_blocks, whatever the file system's own are


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What files take: bytes on storage, how many files, and the newest change, in seconds since the epoch.

    `unreadable`: folders that we may not look into.
    """

    size: int
    files: int
    changed: float
    unreadable: tuple[str, ...] = ()


def measure(paths: Iterable[str]) -> DiskUsage:
    """Return what is at `paths` and below takes, as du does: no link is followed, a file of two names counts once."""
    unreadable: list[str] = []
    found = {(each.st_dev, each.st_ino): each for path in paths for each in _statuses(path, unreadable)}
    return DiskUsage(
        size=sum(each.st_blocks * _BLOCK for each in found.values()),
        files=len(found),
        changed=max((each.st_mtime for each in found.values()), default=0.0),
        unreadable=tuple(unreadable),
    )


def _statuses(path: str, unreadable: list[str]) -> Iterator[os.stat_result]:
    """Yield the status of each file and folder; what vanishes meanwhile is left out."""
    waiting = [path]
    while waiting:
        here = waiting.pop()
        try:
            yield os.lstat(here)
            if os.path.isdir(here) and not os.path.islink(here):
                waiting += [entry.path for entry in os.scandir(here)]
        except FileNotFoundError:
            continue
        except PermissionError:
            unreadable.append(here)


def points(run: RunFolder) -> list[RunFolder]:
    """Return the folders of a run's sweep points, as far as there are any."""
    return [run.point(number) for number in sorted(int(name) for name in os.listdir(run.path) if name.isdecimal())]


def checkpoints(selected: SelectedRun) -> list[str]:
    """Return the folders of checkpoints of a run with all its sweep points, or of one of these."""
    folders = [selected.folder] if selected.point is not None else [selected.run, *points(selected.run)]
    return [each.checkpoints for each in folders if os.path.isdir(each.checkpoints)]


def copies_of_code(run: RunFolder) -> list[str]:
    """Return the copies of the code that a run's submissions made."""
    return [each.code for each in run.submissions if os.path.isdir(each.code)]
