"""The folder of a run on a node's scratch: whose it is, who copies into it, how it is removed.

Of scratch, which all users of the node may write to, nothing is trusted but what only this user can change.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from typing import Callable, Iterator, List, Optional

from slurm_tf import files
from slurm_tf.errors import RunError, StageError
from slurm_tf.run import env

_REMOVED = ".removed"
# How often a lock that another process has is tried again.
_LOCK_SECONDS = 0.2


class StageFolder:
    """The folder of one run on one node: `copies` has the files, `parts` those that are being written."""

    def __init__(self, scratch: str, run: str) -> None:
        """`scratch`: the node's own fast folder; `run`: the path of the run's folder, on shared storage."""
        self._scratch = scratch
        self._user = os.path.join(scratch, f"slurm-tf-{os.getuid()}")
        # two runs of one name may be in different folders of runs
        number = hashlib.sha256(os.fsencode(os.path.realpath(run))).hexdigest()[:16]
        self._path = os.path.join(self._user, f"{os.path.basename(run)}-{number}")

    @property
    def copies(self) -> str:
        """The folder that programs read."""
        return os.path.join(self._path, "files")

    @property
    def parts(self) -> str:
        """The folder of files that are not whole yet."""
        return os.path.join(self._path, "parts")

    @contextlib.contextmanager
    def locked(self, wait: Callable[[float], bool]) -> Iterator[bool]:
        """Make the folder, and hold its lock: another process may copy into it, of an attempt that has been cut off.

        `wait`: waits so many seconds, and returns whether to give up; then the block gets False. The kernel releases
        the lock of a process that has ended. Raises StageError or OSError.
        """
        self._check_scratch()
        self._own(self._user)
        _remove_leftovers(self._user)
        handle = self._try_lock()
        while handle is None and not wait(_LOCK_SECONDS):
            handle = self._try_lock()
        try:
            yield handle is not None
        finally:
            if handle is not None:
                os.close(handle)

    def remove(self) -> None:
        """Remove the folder with all that it holds; nothing if there is none. Raises StageError or OSError."""
        if not os.path.lexists(self._path):
            return
        self._check_scratch()
        self._own(self._user)
        os.rename(self._path, f"{self._path}{_REMOVED}{os.getpid()}")  # what is left of it is no run's folder any more
        _remove_leftovers(self._user)

    def _try_lock(self) -> Optional[int]:
        """Return a file descriptor that holds the lock, None while another process has it."""
        self._own(self._path)
        handle = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # it may have been removed, and made again, before it was locked
            is_there = files.identity(self._path) == (os.fstat(handle).st_dev, os.fstat(handle).st_ino)
        except BlockingIOError:
            is_there = False
        if not is_there:
            os.close(handle)
        return handle if is_there else None

    def _check_scratch(self) -> None:
        """Raise StageError if there is no scratch, or one in which others can replace our folder."""
        if not os.path.isdir(self._scratch):
            found = f"there is no folder {self._scratch or f'that {env.SCRATCH} names'}"
            raise StageError(found, "the node's scratch", "`scratch` in the site's profile; in a container, a mount")
        try:
            files.check_own(self._scratch)
        except RunError as error:
            raise StageError(error.found, error.needed, error.do) from error

    def _own(self, path: str) -> None:
        """Make a folder that only this user can enter, or accept one. Raises StageError or OSError."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise StageError(f"{path} is no folder", "a folder of your own, no symbolic link", f"remove {path}")
        if status.st_uid != os.getuid():
            raise StageError(f"{path} belongs to user id {status.st_uid}", f"a folder of user id {os.getuid()}")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise StageError(f"{path} has mode {mode:o}", "one that only its owner enters", f"chmod 700 {path}")


def _remove_leftovers(user: str) -> None:
    """Remove what a process was removing when it was killed."""
    names: List[str] = []
    with contextlib.suppress(FileNotFoundError):
        names = [name for name in os.listdir(user) if _REMOVED in name]
    for name in names:
        shutil.rmtree(os.path.join(user, name), ignore_errors=True)


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room: of the file system, or of the user's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
