"""Names files on shared storage, writes them whole or not at all, and checks who else can. For Python 3.9."""

import contextlib
import errno
import os
import pwd
import re
import stat
import tempfile
import unicodedata
from typing import BinaryIO, Callable, Iterator, Optional, Tuple

from slurm_tf.errors import RunError, StorageError, UsageError

# The modes of what a group may read; files made in such a folder get its group (setgid).
SHARED_FOLDER, SHARED_FILE = 0o2750, 0o640
# The end of the names of files that are being written.
TEMPORARY = "_temp"
# What is read at once, in bytes.
_BLOCK = 1 << 20
# What was needed, by the number of an error, and what to do.
_NEEDED = {
    errno.EACCES: ("permission for it", "use a folder of your own"),
    errno.EPERM: ("permission for it", "use a folder of your own"),
    errno.ENOSPC: ("free space", "`df -h {0}` and `df -i {0}` show how much there is"),
    errno.EDQUOT: ("space in your quota", "`quota` shows it; old runs and checkpoints can be removed"),
    errno.EROFS: ("a file system that can be written", "use another folder"),
    errno.EIO: ("a disk or file server that works", "try it again, and ask your administrators"),
    errno.ESTALE: ("a file server that answers", "try it again, and ask your administrators"),
    errno.ENAMETOOLONG: ("a shorter name", "use another name or folder"),
    errno.EMFILE: ("fewer open files", "`ulimit -n` shows how many are allowed"),
}
# A variable as a shell names it: $NAME or ${NAME}.
SHELL_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)


def write_whole(
    path: str, data: bytes, mode: int = 0o600, check: Callable[[], None] = lambda: None, prefix: str = "."
) -> None:
    """Put `data` at `path` as `whole_file` does. Raises OSError, which names `path`: that of a full disk names none."""
    try:
        with whole_file(path, mode, check, prefix) as file:
            file.write(data)
    except OSError as error:
        if error.errno is None or not str(error.filename or TEMPORARY).endswith(TEMPORARY):
            raise
        raise OSError(error.errno, error.strerror, path) from error


@contextlib.contextmanager
def whole_file(
    path: str, mode: int = 0o600, check: Callable[[], None] = lambda: None, prefix: str = "."
) -> Iterator[BinaryIO]:
    """Give a file to write, so that a reader of `path` sees the old bytes or all new ones, also after a power cut.

    A temporary file with `mode` is written, fsynced and renamed; then the folder is fsynced. Its name begins with
    `prefix` and ends with TEMPORARY; a writer that is killed leaves it. `check` is called before the rename; if it or
    the block raises, the old bytes stay. Raises OSError.
    """
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=prefix, suffix=TEMPORARY, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            yield file
            file.flush()
            os.fsync(handle)
        check()
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync(folder)


def sync(path: str) -> None:
    """Flush one file's data, or one folder's entries, from this node to storage.

    On NFS this flushes only what this node wrote: every writer syncs its own files.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary(folder: str, prefix: str) -> None:
    """Remove what writers of files with this prefix left in `folder` when they were killed. Raises OSError."""
    for name in os.listdir(folder):
        if name.startswith(prefix) and name.endswith(TEMPORARY):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))


def sha256(path: str) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits. Raises OSError."""
    import hashlib  # OpenSSL takes milliseconds, which few commands need

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def newest(folder: str) -> int:
    """Return the newest change time (st_mtime_ns) of anything in `folder` at any depth; 0 for an empty folder.

    What vanishes meanwhile, or cannot be read, is skipped.
    """
    times = [0]
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names):
            with contextlib.suppress(OSError):
                times.append(os.lstat(os.path.join(path, name)).st_mtime_ns)
    return max(times)


def identity(path: str) -> Optional[Tuple[int, int]]:
    """Return the device and inode of what `path` leads to: one folder has one, however it is spelled, linked or bound.

    None if there is nothing at `path`. Raises OSError.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def storage_error(error: OSError, action: str, path: str = "", do: str = "") -> StorageError:
    """Return the error for a user: what could not be done, with which file, why, and what to do.

    `path`: for an error that names no file, as that of a full disk; `do`: instead of what is usual for the error.
    """
    names = [name for name in (error.filename2, error.filename, path) if isinstance(name, (str, bytes)) and name]
    name = os.fsdecode(names[0]) if names else ""
    needed, usual = _NEEDED.get(error.errno or 0, ("", ""))
    owner = _owner(name) if error.errno in (errno.EACCES, errno.EPERM) else ""
    found = f"cannot {action}: " + (f"{name}: " if name else "") + (error.strerror or str(error)) + owner
    return StorageError(found, needed, do or usual.format(os.path.dirname(name) or "."))


@contextlib.contextmanager
def explained(action: str, path: str = "", do: str = "") -> Iterator[None]:
    """Raise an OSError of the block as the StorageError that `storage_error` returns."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, action, path, do) from error


def check_writable(folder: str, size: int) -> None:
    """Raise OSError if `folder`, or the nearest folder around it that exists, cannot hold new files of `size` bytes."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "."
    status = os.statvfs(folder)
    number = 0
    if not os.path.isdir(folder):
        number = errno.ENOTDIR
    elif status.f_flag & os.ST_RDONLY:
        number = errno.EROFS
    elif not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES
    elif status.f_bavail * status.f_frsize < size or (status.f_files and not status.f_favail):
        number = errno.ENOSPC
    if number:
        raise OSError(number, os.strerror(number), folder)


def _owner(path: str) -> str:
    """Return whose `path` is, or the folder around it that cannot be entered or written; "" if it is ours."""
    for each in (path, os.path.dirname(path) or "."):
        with contextlib.suppress(OSError):
            status = os.stat(each)
            if status.st_uid != os.geteuid():
                return f" ({each} belongs to {_user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user id {number}"


def expand(path: str) -> str:
    """Return `path` with ~, ~user, $NAME and ${NAME} replaced as a shell replaces them. Raises UsageError.

    A variable that is empty counts as one that is not set: "$SCRATCH/runs" must not become "/runs".
    """

    def value(match: "re.Match[str]") -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise UsageError(f"found {path!r}", f"the variable {name}, which is not set here", f"export {name}=...")
        return os.environ[name]

    if any(unicodedata.category(character) == "Cc" for character in path):
        raise UsageError(f"found the path {path!r}", "one without control characters")
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        raise UsageError(f"found {path!r}", "a user of this machine after ~", "./~ is a folder of that name")
    return SHELL_VARIABLE.sub(value, expanded)


def absolute(path: str) -> str:
    """Return `path` from the root, through the symbolic links that it names: nodes may not have what they lead to here.

    ".." is left out where that leads to the same place: behind a link it may not. Raises OSError.
    """
    full = os.path.join(_working_directory(), path)
    plain = os.path.normpath(full)
    return plain if identity(plain) == identity(full) else full


def _working_directory() -> str:
    """Return the working directory as the shell names it, $PWD, where it is that: getcwd(3) resolves all links."""
    named = os.environ.get("PWD", "")
    return named if os.path.isabs(named) and identity(named) == identity(".") else os.getcwd()


def path_below(path: str, folder: str) -> Optional[str]:
    """Return the relative path from `folder` to `path`, "." if they are the same, None if `path` is not in it.

    Folders are compared by `identity`. Raises OSError.
    """
    wanted, at = identity(folder), os.path.realpath(path)
    names: Tuple[str, ...] = ()
    while wanted is not None:
        if identity(at) == wanted:
            return os.path.join(*names) if names else "."
        at, name = os.path.split(at)
        if not name:
            break
        names = (name, *names)
    return None


def own_folder(path: str) -> str:
    """Make the folder `path` with mode 0700, its parents as usual, or accept one that only we can change; return it.

    Raises RunError for a folder, or a link to one, that another user owns or can write: what it holds runs with our
    rights.
    """
    if os.path.islink(path) and os.lstat(path).st_uid not in (os.geteuid(), 0):
        found = f"{path} is a link of user id {os.lstat(path).st_uid}"
        raise RunError(found, "a folder of yours, or a link of yours to one")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        check_own(path)
    return path


def check_own(path: str, sticky: bool = True) -> None:
    """Raise RunError if a user other than us and root can change what `path` holds.

    `sticky`: accept a folder such as /tmp, in which others can change only their own files.
    """
    status = os.stat(path)
    if status.st_uid not in (os.getuid(), 0):
        raise RunError(f"{path} belongs to user id {status.st_uid}", f"a folder or file of user id {os.getuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (sticky and status.st_mode & stat.S_ISVTX):
        raise RunError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):o}: others can change it",
            "one that only its owner writes",
            f"chmod go-w {path}",
        )


def share(path: str, group: int = -1) -> None:
    """Let the members of a group read a folder of ours, and what is made in it. Raises RunError.

    `group`: its id; -1 for the group that the folder has.
    """
    try:
        os.chown(path, -1, group)
        os.chmod(path, SHARED_FOLDER)
    except PermissionError:
        shared = False
    else:
        shared = is_shared(path)  # chmod by a user outside the group omits the setgid bit without an error
    if not shared:
        raise RunError(f"{path} cannot be given to group {group}", "a group that you are in, and a folder of yours")


def is_shared(path: str) -> bool:
    """Whether `share` was called for a folder."""
    mode = os.stat(path).st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IRGRP)


def all_can_read(path: str) -> bool:
    """Whether every user of the machine can read a folder and enter all folders above it."""
    full = os.path.realpath(path)
    ways = []
    while os.path.dirname(full) != full:
        full = os.path.dirname(full)
        ways.append(full)
    return bool(os.stat(path).st_mode & stat.S_IROTH) and all(os.stat(way).st_mode & stat.S_IXOTH for way in ways)
