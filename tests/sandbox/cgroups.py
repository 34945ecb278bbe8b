"""Control groups of a sandbox: a tree for each node, below one for the sandbox. Version 1 only: see `missing`."""

import errno
import os
import time
import zlib
from pathlib import Path
from typing import Literal

from tests.sandbox import linux

TOP = Path("/sys/fs/cgroup")
# the controllers that proctrack/cgroup and task/cgroup use with cgroup.conf of files.py
CONTROLLERS = ("freezer", "cpuset", "memory", "devices")


def missing() -> list[str]:
    """Return the controllers of cgroup version 1 that are not mounted.

    Version 2 does not work: slurmd would need systemd and D-Bus on every node, and a tree that only it manages.
    """
    return [name for name in CONTROLLERS if not (TOP / name / "cgroup.procs").exists()]


def default_proctrack() -> Literal["cgroup", "linuxproc"]:
    """Return the best ProctrackType that works on this machine."""
    return "linuxproc" if missing() else "cgroup"


def tree_name(folder: Path) -> str:
    """Return the name of the tree of the sandbox in `folder`; it depends only on the folder's path."""
    return f"slurm-tf-{zlib.crc32(os.fsencode(folder.resolve())):08x}"


def enter(name: str, node: str) -> None:
    """Move this process into the node's tree, and mount that tree as its /sys/fs/cgroup."""
    remove(f"{name}/{node}")
    for controller in CONTROLLERS:
        for path in (TOP / controller / name, TOP / controller / name / node):
            path.mkdir(exist_ok=True)
            if controller == "cpuset":  # a new group has no CPUs, and no process may enter it
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (path / file).write_text((path.parent / file).read_text())
        (path / "cgroup.procs").write_text("0")
    linux.unshare(linux.NEWCGROUP)
    linux.tmpfs(TOP)
    for controller in CONTROLLERS:
        (TOP / controller).mkdir()
        linux.mount("cgroup", TOP / controller, "cgroup", data=controller)


def remove(name: str, timeout: float = 10.0) -> None:
    """Remove a tree whose processes have ended. Raises OSError if a process is left after `timeout` seconds."""
    end = time.monotonic() + timeout
    for controller in CONTROLLERS:
        for path, _, _ in os.walk(TOP / controller / name, topdown=False):
            while not _removed(path):
                if time.monotonic() > end:
                    raise OSError(errno.EBUSY, "processes are still in this control group", path)
                time.sleep(0.02)


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError as error:  # the kernel removes ended processes from their group with a delay
        return error.errno != errno.EBUSY
    return True
