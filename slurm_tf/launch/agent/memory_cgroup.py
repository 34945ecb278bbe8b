"""Finds out from this process's control group whether the kernel killed a process in it for its memory.

Source: cgroups(7) and the kernel's admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst; under Slurm each task has a
group of its own, and the limit is that of its step or job, above it (22.05.8).
"""

import contextlib
import os
import re
from typing import List, NamedTuple, Optional

# A limit from here on is none (v1: the largest multiple of the page size).
_NO_LIMIT = 1 << 62


class Memory(NamedTuple):
    """The most that was used and the limit, in bytes; None for what is not known."""

    used: Optional[int]
    limit: Optional[int]


class _Names(NamedTuple):
    """The files of one version of the interface."""

    kills: str
    limit: str
    peak: str


_NAMES = {
    "cgroup": _Names("memory.oom_control", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    "cgroup2": _Names("memory.events", "memory.max", "memory.peak"),
}


class MemoryCgroup:
    """The group of this process, which is also that of the program. Without control groups it knows nothing."""

    def __init__(self, proc: str = "/proc/self") -> None:
        self._folders: List[str] = []
        self._names = _NAMES["cgroup2"]
        for kind, names in _NAMES.items():  # a hybrid hierarchy has both, and the memory in one of them
            folders = _folders(kind, _read(os.path.join(proc, "cgroup")), _read(os.path.join(proc, "mountinfo")))
            if folders and os.path.exists(os.path.join(folders[0], names.kills)):
                self._folders, self._names = folders, names
                break

    @property
    def kills(self) -> int:
        """How many processes of the group were killed for their memory."""
        text = _read(os.path.join(self._folders[0], self._names.kills)) if self._folders else ""
        match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return int(match[1]) if match else 0

    @property
    def memory(self) -> Memory:
        """The lowest limit of the group and those above it, and the most that was used there."""
        limited = [(limit, folder) for folder in self._folders if (limit := self._number(folder, self._names.limit))]
        if not limited:
            return Memory(None, None)
        limit, folder = min(limited, key=lambda each: each[0])
        return Memory(self._number(folder, self._names.peak), limit)

    def _number(self, folder: str, name: str) -> Optional[int]:
        text = _read(os.path.join(folder, name)).strip()
        return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def node_mib() -> int:
    """Return the MiB of memory that this node has for the job, by the job's control group or the kernel; 0: unknown."""
    total = re.search(r"^MemTotal:\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    limit = MemoryCgroup().memory.limit
    known = [each for each in (limit, int(total[1]) << 10 if total else None) if each]
    return min(known) >> 20 if known else 0


def _folders(kind: str, groups: str, mounts: str) -> List[str]:
    """Return the folder of the group and those above it, as far as they are mounted; none if it is not."""
    controllers = "" if kind == "cgroup2" else "memory"
    rows = [line.split(":", 2) for line in groups.splitlines()]
    own = next((row[2] for row in rows if len(row) == 3 and controllers in row[1].split(",")), None)
    if own is None:
        return []
    for line in reversed(mounts.splitlines()):
        before, _, after = line.partition(" - ")
        fields, options = before.split(), after.split()
        if len(fields) < 5 or len(options) < 3 or options[0] != kind:
            continue
        root, place = fields[3].rstrip("/"), fields[4]
        if f"{own}/".startswith(f"{root}/") and (not controllers or controllers in options[2].split(",")):
            return _with_parents(place, own[len(root) :].strip("/"))
    return []


def _with_parents(place: str, below: str) -> List[str]:
    parts = [part for part in below.split("/") if part]
    return [os.path.join(place, *parts[:count]) for count in range(len(parts), -1, -1)]


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
