"""Calls functions of libc that Python 3.11 lacks. Keep it small: each command in a sandbox imports it."""

import ctypes
import os
import signal

# from sched.h; the same on every architecture
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000,
)  # fmt: skip
PR_SET_PDEATHSIG = 1

_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of libc. Raises OSError with its errno if it does not return 0."""
    plain = [value.encode() if isinstance(value, str) else value for value in arguments]
    if getattr(_LIBC, name)(*plain) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Have the kernel send `signum` to this process when its parent ends."""
    call("prctl", PR_SET_PDEATHSIG, signum)
