"""Finds the processes that a process has started. Source: proc(5)."""

import contextlib
import os
from typing import List


def children(pid: int) -> List[int]:
    """Return the children of a process; none where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    found: List[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    return found


def is_known() -> bool:
    """Return whether the kernel tells of a process's children."""
    return os.path.exists("/proc/thread-self/children")


def is_over(pid: int) -> bool:
    """Return whether a process has ended: it is gone, or waits to be reaped, and then nothing of it can be seen."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def tree(pid: int) -> List[int]:
    """Return a process and all that it and those have started, and that have not lost their parent since."""
    found = [pid]
    for each in found:
        found += [child for child in children(each) if child not in found]
    return found
