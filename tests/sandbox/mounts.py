"""Mounts of a sandbox host: its own /run, /tmp and /sys, and the few folders of this machine that it sees.

All mounts are made in the host's mount namespace: this machine's own mounts do not change.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.sandbox import linux

ROOT = Path(__file__).resolve().parents[2]
# Folders over which each host mounts a tmpfs, with its mode. Daemons keep sockets and data there, and what a job writes
# there is gone with the sandbox.
PRIVATE_FOLDERS = {Path("/run"): 0o755, Path("/tmp"): 0o1777, Path("/var/tmp"): 0o1777, Path("/dev/shm"): 0o1777}


def python_paths() -> set[Path]:
    """Return the folders of this repository and of this Python: its virtual environment, its base, all link targets."""
    paths = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    program = Path(sys.executable)
    while program.is_symlink():
        program = program.parent / program.readlink()
        paths.add(Path(os.path.normpath(program.parent.parent)))
    paths |= {path.resolve() for path in paths}
    return {path for path in paths if path != Path("/usr") and path != Path("/")}


def hide_host_folders(visible: Mapping[Path, bool], private: Mapping[Path, int] = PRIVATE_FOLDERS) -> None:
    """Mount an empty tmpfs over each folder of `private`, then bind-mount each path of `visible` at its own path.

    A path of `visible` is read-only unless its value is True. All users can reach it: if they may not enter a folder
    above it, that folder gets a tmpfs as well.
    """
    bound = dict(visible)
    tmpfs_modes = dict(private)
    for path in visible:
        closed = _first_closed(path)
        if closed:
            tmpfs_modes.setdefault(closed, 0o755)
        if closed == path:  # a bind mount would keep its mode: bind its entries instead
            bound.update(dict.fromkeys(path.iterdir(), bound.pop(path)))
    outermost = {top: mode for top, mode in tmpfs_modes.items() if not set(top.parents) & set(tmpfs_modes)}
    hidden = [path for path in sorted(bound, key=lambda path: len(path.parts)) if set(outermost) & set(path.parents)]
    opened = [(path, os.open(path, os.O_PATH)) for path in hidden]
    for top, mode in outermost.items():
        linux.tmpfs(top, mode)
    for path, descriptor in opened:
        _make_mount_point(path, stat.S_ISDIR(os.fstat(descriptor).st_mode))
        linux.bind(f"/proc/self/fd/{descriptor}", path, bound[path])
        os.close(descriptor)


def own_etc(copy: Path) -> None:
    """Copy this machine's /etc to `copy`, and mount that over /etc.

    A file that is mounted over this machine's own /etc/passwd goes as soon as somebody there runs useradd, or installs
    a package that does: the kernel unmounts what is mounted over a file that is replaced.
    """
    command = ["cp", "-a", "/etc/.", str(copy)]
    copy.mkdir()
    # a file that goes meanwhile is an error of cp
    if subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode:
        subprocess.run(command, timeout=60, check=True)
    linux.bind(copy, "/etc")


def mount_sys(aside: Path) -> None:
    """Mount a new /sys, as sysfs shows the interfaces of the network namespace that it was mounted in.

    The control groups are kept: they are mounted on the empty folder `aside` meanwhile. The old /sys is unmounted
    first, because `ip -n` fails if there is another /sys below the new one.
    """
    linux.bind("/sys/fs/cgroup", aside)
    linux.call("umount2", "/sys", linux.MNT_DETACH)
    linux.mount("sysfs", "/sys", "sysfs")
    linux.mount(str(aside), "/sys/fs/cgroup", flags=linux.MS_MOVE)


def _first_closed(path: Path) -> Path | None:
    """Return the topmost of `path` and the folders above it that other users may not enter, or None."""
    return next((step for step in _path_and_parents(path) if not step.stat().st_mode & stat.S_IXOTH), None)


def _path_and_parents(path: Path) -> Iterator[Path]:
    yield from reversed(path.parents)
    yield path


def _make_mount_point(path: Path, folder: bool) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if folder else path.touch()
