"""Enters the container of a program that runs, as whoever started it can: its user and mount namespaces, and its root.

Charliecloud, enroot, crun and apptainer without the setuid bit run a program in a user namespace that its user owns.
"""

import contextlib
import ctypes
import os
from typing import Union

# of sched.h; Python has them from 3.12 on
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000


def have_other_mounts(pid: int, other: Union[int, str] = "self") -> bool:
    """Whether a process sees other files than another one, than this one by default. Raises OSError."""
    return not _is_shared(pid, other, "mnt")


def enter(pid: int) -> None:
    """Have this process, which has one thread, see the files that a program sees. Raises OSError."""
    with contextlib.ExitStack() as opened:
        # all of them before the first one is entered: another /proc may be seen then
        root = _open(f"/proc/{pid}/root", opened)
        mounts = _open(f"/proc/{pid}/ns/mnt", opened)
        user = None if _is_shared(pid, "self", "user") else _open(f"/proc/{pid}/ns/user", opened)
        if user is not None:
            _setns(user, _CLONE_NEWUSER)
        _setns(mounts, _CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(".")


def _is_shared(pid: int, other: Union[int, str], kind: str) -> bool:
    return os.path.samestat(os.stat(f"/proc/{pid}/ns/{kind}"), os.stat(f"/proc/{other}/ns/{kind}"))


def _open(path: str, opened: contextlib.ExitStack) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, handle)
    return handle


def _setns(handle: int, kind: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
