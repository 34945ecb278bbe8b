"""Linux functions that Python 3.11 lacks: namespaces, mounts, and processes identified by id and start time."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.libc import NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWUTS, call, die_with_parent

__all__ = [
    "MNT_DETACH", "MS_MOVE", "NEWCGROUP", "NEWIPC", "NEWNET", "NEWNS", "NEWPID", "NEWUTS", "Process", "bind", "call",
    "die_with_parent", "mount", "reap", "tmpfs", "unshare", "wait_until",
]  # fmt: skip

# from mount.h; the same on every architecture
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18
MNT_DETACH = 2


def unshare(flags: int) -> None:
    """Move this process into new namespaces; into a new process namespace (NEWPID) only its children."""
    call("unshare", flags)
    if flags & NEWNS:
        mount("none", "/", flags=MS_REC | MS_PRIVATE)


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    call("mount", source, str(target), kind, ctypes.c_ulong(flags), data)


def bind(source: str | Path, target: str | Path, writable: bool = True) -> None:
    """Bind-mount `source` at `target`, with the mounts below it."""
    mount(str(source), target, flags=MS_BIND | MS_REC)
    if not writable:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def tmpfs(target: str | Path, mode: int = 0o755) -> None:
    mount("tmpfs", target, "tmpfs", data=f"mode={mode:o}")


def wait_until(what: str, is_true: Callable[[], bool], timeout: float = 60.0) -> None:
    """Wait until `is_true()`. Raises TimeoutError, which names `what`, after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.02)


def reap() -> None:
    """Reap child processes for ever, as pid 1 must."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


@dataclass(frozen=True)
class Process:
    """A process, by its id and its start time in clock ticks since boot: the kernel reuses ids."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int, proc: str = "/proc") -> "Process":
        """Return the process that has this id now. Raises FileNotFoundError if there is none."""
        return cls(pid, _start(pid, proc))

    @classmethod
    def read(cls, path: Path) -> "Process | None":
        """Return the process that `write` recorded at `path`, alive or not; None if there is no record."""
        try:
            pid, start = path.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return cls(int(pid), int(start))

    def write(self, path: Path) -> None:
        aside = path.with_suffix(".new")
        aside.write_text(f"{self.pid} {self.start}\n")
        aside.rename(path)

    def open(self) -> int | None:
        """Return a descriptor of the process (pidfd_open), or None if it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        try:
            if _start(self.pid) == self.start and not select.select([descriptor], [], [], 0)[0]:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
        return None

    @property
    def alive(self) -> bool:
        descriptor = self.open()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None

    def kill(self, timeout: float = 30.0) -> None:
        """Kill the process and wait for its end; pid 1 takes all of its namespace along. Raises TimeoutError."""
        descriptor = self.open()
        if descriptor is None:
            return
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            if not select.select([descriptor], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} did not end within {timeout:.0f} s of SIGKILL")
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)


def _start(pid: int, proc: str = "/proc") -> int:
    """Return when a process started. Raises FileNotFoundError if it has ended."""
    try:
        text = Path(f"{proc}/{pid}/stat").read_text()
    except ProcessLookupError as error:  # it ended between opening the file and reading it
        raise FileNotFoundError(error.errno, error.strerror, f"{proc}/{pid}") from error
    # the 2nd field, a name in parentheses, may contain spaces; the start time is the 22nd field (proc(5))
    return int(text.rpartition(")")[2].split()[19])
