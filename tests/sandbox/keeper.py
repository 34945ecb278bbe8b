"""Starts the sandbox and cleans up when it ends: `python -m tests.sandbox.keeper FOLDER OWNER`.

The keeper is the sandbox's only process outside its namespaces. With an OWNER (a process id, or 0 for none) it ends
the sandbox and removes its folder when that process ends, even if it is killed. If the keeper is killed, the kernel
kills the sandbox.
"""

import os
import select
import shutil
import sys
from pathlib import Path

from tests.sandbox import cgroups, linux, login


def clean(folder: Path, keep: bool = False) -> None:
    """Kill the processes of a sandbox, and remove its control groups and, unless `keep`, its folder."""
    for name in ("keeper", "login"):
        process = linux.Process.read(folder / "pids" / name)
        if process and process.pid != os.getpid():
            process.kill()
    cgroups.remove(cgroups.tree_name(folder))
    if not keep:
        shutil.rmtree(folder)


def main() -> None:
    folder, owner_id = Path(sys.argv[1]), int(sys.argv[2])
    owner = os.pidfd_open(owner_id) if owner_id else None
    keeper = os.fork()  # its parent exits, so the process that started the sandbox need not wait for it
    if keeper:
        linux.Process.of(keeper).write(folder / "pids" / "keeper")
        return
    linux.unshare(linux.NEWPID)
    pid = os.fork()
    if pid == 0:
        linux.die_with_parent()
        login.boot(folder)
    linux.Process.of(pid).write(folder / "pids" / "login")
    ended = os.pidfd_open(pid)
    watched = [ended] if owner is None else [ended, owner]
    ready, _, _ = select.select(watched, [], [])
    clean(folder, keep=owner not in ready)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
