"""What users of the sandbox may see of the host: folders of its own over /run and /tmp, and the way to our Python.

Everything here happens in the sandbox's own mount namespace; nothing changes for the host.
"""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.sandbox import linux

ROOT = Path(__file__).resolve().parents[2]
# for daemons' sockets and data, and so that nothing that a job writes stays on the host
PRIVATE = {Path("/run"): 0o755, Path("/tmp"): 0o1777, Path("/var/tmp"): 0o1777, Path("/dev/shm"): 0o1777}


def python_paths() -> set[Path]:
    """Return the folders that this Python and this repository need: the environment, its base, every link's end."""
    paths = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    program = Path(sys.executable)
    while program.is_symlink():
        program = program.parent / program.readlink()
        paths.add(Path(os.path.normpath(program.parent.parent)))
    paths |= {path.resolve() for path in paths}
    return {path for path in paths if path != Path("/usr") and path != Path("/")}


def cover(needed: Mapping[Path, bool], private: Mapping[Path, int] = PRIVATE) -> None:
    """Put an empty tmpfs over each of `private` and over each way to `needed` that others may not go.

    What is needed appears in it again, at its path; read-only unless its value is True.
    """
    wanted = dict(needed)
    covers = dict(private)
    for path in needed:
        closed = _closed(path)
        if closed:
            covers.setdefault(closed, 0o755)
        if closed == path:  # what is in it may be open, it itself is not
            wanted.update(dict.fromkeys(path.iterdir(), wanted.pop(path)))
    outermost = {top: mode for top, mode in covers.items() if not set(top.parents) & set(covers)}
    hidden = [path for path in sorted(wanted, key=lambda path: len(path.parts)) if set(outermost) & set(path.parents)]
    held = [(path, os.open(path, os.O_PATH)) for path in hidden]
    for top, mode in outermost.items():
        linux.tmpfs(top, mode)
    for path, descriptor in held:
        _place(path, stat.S_ISDIR(os.fstat(descriptor).st_mode))
        linux.bind(f"/proc/self/fd/{descriptor}", path, wanted[path])
        os.close(descriptor)


def own_sys(aside: Path) -> None:
    """Show this network namespace's interfaces in /sys, which shows those of whoever mounted it.

    Control groups stay; `aside` is an empty folder. The old one goes, because `ip -n` refuses to find one below.
    """
    linux.bind("/sys/fs/cgroup", aside)
    linux.call("umount2", "/sys", linux.MNT_DETACH)
    linux.mount("sysfs", "/sys", "sysfs")
    linux.mount(str(aside), "/sys/fs/cgroup", flags=linux.MS_MOVE)


def _closed(path: Path) -> Path | None:
    """Return the topmost folder on the way to `path`, itself included, that others may not traverse."""
    return next((step for step in _steps(path) if not step.stat().st_mode & stat.S_IXOTH), None)


def _steps(path: Path) -> Iterator[Path]:
    yield from reversed(path.parents)
    yield path


def _place(path: Path, folder: bool) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if folder else path.touch()
