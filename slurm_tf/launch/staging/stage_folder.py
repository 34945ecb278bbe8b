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
from typing import Callable, List, Optional

from slurm_tf import files
from slurm_tf.errors import RunError, StageError
from slurm_tf.run import env, status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.status import AttemptState

# The end of the name of a folder that is being removed; the file that names the run's folder.
_REMOVED, _RUN = ".removed", "run"
# How often a lock that another process has is tried again.
_LOCK_SECONDS = 0.2


class StageFolder:
    """The folder of one run on one node: `copies` has the files, `parts` those that are being written."""

    def __init__(self, scratch: str, run: str) -> None:
        """`scratch`: the node's own fast folder; `run`: the path of the run's folder, on shared storage."""
        self._scratch, self._run = scratch, os.path.realpath(run)
        self._handle: Optional[int] = None
        self._user = os.path.join(scratch, f"slurm-tf-{os.getuid()}")
        # two runs of one name may be in different folders of runs
        number = hashlib.sha256(os.fsencode(self._run)).hexdigest()[:16]
        self._path = os.path.join(self._user, f"{os.path.basename(run)}-{number}")

    @property
    def copies(self) -> str:
        """The folder that programs read."""
        return os.path.join(self._path, "files")

    @property
    def parts(self) -> str:
        """The folder of files that are not whole yet."""
        return os.path.join(self._path, "parts")

    def lock(self, wait: Callable[[float], bool]) -> bool:
        """Make the folder, and take it for this process until that ends; return whether it was had.

        Another process may have it: of an attempt that was cut off, and still trains on what is there. `wait`: waits so
        many seconds, and returns whether to give up. Removes what runs that are over have left on the node. Raises
        StageError or OSError.
        """
        self._check_scratch()
        self._own(self._user)
        while not self._try_lock():
            if wait(_LOCK_SECONDS):
                return False
        files.write_whole(os.path.join(self._path, _RUN), os.fsencode(self._run))
        self._remove_others()
        return True

    def release(self) -> None:
        """Let other processes have the folder, before this one ends."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None

    def remove(self) -> None:
        """Remove the folder with all that it holds; nothing if there is none. Raises StageError or OSError."""
        if not os.path.lexists(self._path):
            return
        self._check_scratch()
        self._own(self._user)
        _set_aside(self._path)
        _remove_leftovers(self._user)

    def _try_lock(self) -> bool:
        """Return whether this process has the lock of the folder now, which is made if it is not there."""
        self._own(self._path)
        self._handle = _locked(self._path)
        return self._handle is not None

    def _remove_others(self) -> None:
        """Remove the folders of other runs that are over, and what a process was removing when it was killed."""
        for name in os.listdir(self._user):
            path = os.path.join(self._user, name)
            if _REMOVED not in name and path != self._path and _is_over(path):
                handle = _locked(path)
                if handle is not None:
                    _set_aside(path)
                    os.close(handle)
        _remove_leftovers(self._user)

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
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            raise StageError(f"{path} is no folder", "a folder of your own, no symbolic link", f"remove {path}")
        if found.st_uid != os.getuid():
            raise StageError(f"{path} belongs to user id {found.st_uid}", f"a folder of user id {os.getuid()}")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise StageError(f"{path} has mode {mode:o}", "one that only its owner enters", f"chmod 700 {path}")


def _locked(path: str) -> Optional[int]:
    """Return a file descriptor that holds the lock of a folder, None while another process has it."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(handle)
        # it may have been removed, and made again, before it was locked
        is_there = files.identity(path) == (found.st_dev, found.st_ino)
    except BlockingIOError:
        is_there = False
    if not is_there:
        os.close(handle)
    return handle if is_there else None


def _set_aside(path: str) -> None:
    """Rename a folder that is to be removed: whatever is left of it then is no run's any more."""
    os.rename(path, f"{path}{_REMOVED}{os.getpid()}")


def _is_over(path: str) -> bool:
    """Whether the run is over, or was removed, whose folder on scratch is at `path`; False where that is not known."""
    try:
        with open(os.path.join(path, _RUN), "rb") as file:
            run = os.fsdecode(file.read())
        known = status.read(RunFolder(run))
    except (OSError, RunError):
        return False
    if known is None:
        return not os.path.exists(run) and os.path.isdir(os.path.dirname(run))
    return known.state is AttemptState.ENDED


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
