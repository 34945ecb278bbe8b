"""The one process of a sandbox that is outside of it: `python -m tests.sandbox.keeper FOLDER OWNER`.

It starts the sandbox and cleans up behind it. With an OWNER (a process id, or 0 for none) the sandbox and its folder
go when that process ends, however it ends. When the keeper itself is killed, so is the sandbox.
"""

import os
import select
import shutil
import sys
from pathlib import Path

from tests.sandbox import cgroups, linux, login


def clean(folder: Path, keep: bool = False) -> None:
    """End what is left of a sandbox: its processes, its control groups and, unless `keep`, its folder."""
    for name in ("keeper", "login"):
        process = linux.Process.read(folder / "pids" / name)
        if process and process.pid != os.getpid():
            process.kill()
    cgroups.remove(cgroups.tree(folder))
    if not keep:
        shutil.rmtree(folder)


def main() -> None:
    folder, owner_id = Path(sys.argv[1]), int(sys.argv[2])
    owner = os.pidfd_open(owner_id) if owner_id else None
    keeper = os.fork()  # a child of nobody: who started it need not wait for it
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
