"""A tree of control groups for each node, below one for the sandbox. Version 1: see `missing`."""

import errno
import os
import time
import zlib
from pathlib import Path
from typing import Literal

from tests.sandbox import linux

TOP = Path("/sys/fs/cgroup")
# those that Slurm's proctrack/cgroup and task/cgroup use here
CONTROLLERS = ("freezer", "cpuset", "memory", "devices")


def missing() -> list[str]:
    """Return the controllers of cgroup version 1 that are not mounted.

    Under version 2 slurmd wants systemd and its bus for every node, and a tree without another owner.
    """
    return [name for name in CONTROLLERS if not (TOP / name / "cgroup.procs").exists()]


def proctrack() -> Literal["cgroup", "linuxproc"]:
    """Return the process tracking that this machine can do."""
    return "linuxproc" if missing() else "cgroup"


def tree(folder: Path) -> str:
    """Return the name of the tree of the sandbox in `folder`, always the same."""
    return f"slurm-tf-{zlib.crc32(os.fsencode(folder.resolve())):08x}"


def enter(name: str, node: str) -> None:
    """Move this process into the node's tree, and show it that as the whole of /sys/fs/cgroup."""
    remove(f"{name}/{node}")
    for controller in CONTROLLERS:
        for path in (TOP / controller / name, TOP / controller / name / node):
            path.mkdir(exist_ok=True)
            if controller == "cpuset":  # empty at first, and nothing may enter then
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (path / file).write_text((path.parent / file).read_text())
        (path / "cgroup.procs").write_text("0")
    linux.unshare(linux.NEWCGROUP)
    linux.tmpfs(TOP)
    for controller in CONTROLLERS:
        (TOP / controller).mkdir()
        linux.mount("cgroup", TOP / controller, "cgroup", data=controller)


def remove(name: str, timeout: float = 10.0) -> None:
    """Remove a tree whose processes have ended; raises OSError if one has not."""
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
    except OSError as error:  # the kernel lets go of ended processes a moment later
        return error.errno != errno.EBUSY
    return True
