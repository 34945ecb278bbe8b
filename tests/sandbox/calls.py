"""Functions of libc that Python 3.11 does not have. Imported for each command in a sandbox: to be kept small."""

import ctypes
import os
import signal

# sched.h, as Linux has them on every architecture
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000,
)  # fmt: skip
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of libc that gives 0; raises OSError with its errno."""
    plain = [value.encode() if isinstance(value, str) else value for value in arguments]
    if getattr(libc, name)(*plain) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Have the kernel send `signum` to this process when the one that started it ends."""
    call("prctl", PR_SET_PDEATHSIG, signum)
