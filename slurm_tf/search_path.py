"""Finds the folders of script templates, site profiles and job templates, from the package's to the user's, who wins.

What they hold runs with our rights. So a file is read only if nobody can have written it whom we do not trust, and it
is opened before it is checked: what was checked is what is read.
"""

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from functools import partial
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import ConfigError

_HERE = Path(__file__).resolve().parent
_MOST_LINKS = 40  # as Linux follows

Check = Callable[[str, os.stat_result], None]

SITE_CONFIGS, TEMPLATES, JOBS = "site_configs", "templates", "jobs"


class Scope(Enum):
    """Whose folder it is, weakest first: slurm-tf's, /etc/slurm-tf, one of SLURM_TF_PATH, the project's, the user's."""

    PACKAGE = "package"
    SITE = "site"
    GROUP = "group"
    PROJECT = "project"
    USER = "user"


def packaged(kind: str) -> Path:
    """Return the folder `kind` that came with slurm-tf: inside an installed package, else at the checkout's top."""
    installed = _HERE / kind
    return installed if installed.is_dir() else _HERE.parent / kind


def user_config() -> Path:
    """Return the folder of the user's own settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "slurm-tf"


def user_state() -> Path:
    """Return the folder of what slurm-tf remembers for the user."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "slurm-tf"


def user_cache() -> Path:
    """Return the folder of what slurm-tf makes again for the user where it is missing."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slurm-tf"


def user_file() -> Path:
    """Return the user's own file of settings, which may not be there."""
    return user_config() / "config.toml"


def folders(kind: str, trusted: Collection[str] = ()) -> list[Path]:
    """Return the folders that `scopes` finds, weakest first. Raises UsageError or ConfigError."""
    return [folder for _, folder in scopes(kind, trusted)]


def scopes(
    kind: str, trusted: Collection[str] = (), refused: list[ConfigError] | None = None
) -> list[tuple[Scope, Path]]:
    """Return the folders that hold files of `kind`, weakest first, each with its scope.

    Job templates alone (JOBS) have a folder of the project, which is left out if others can write to it than users of
    `trusted`. `refused`: takes why folders are left out; without it one that we may not enter raises ConfigError.
    Raises UsageError for a folder of SLURM_TF_PATH that cannot be expanded.
    """
    known: dict[tuple[int, int], tuple[Scope, Path]] = {}
    for scope, folder in _candidates(kind):
        try:
            with _unreadable(str(folder)):
                identity = files.identity(str(folder)) if folder.is_dir() else None
        except ConfigError as error:
            if refused is None:
                raise
            refused.append(error)
            continue
        why = why_refused(folder, trusted) if identity and scope is Scope.PROJECT and identity not in known else None
        if why and refused is not None:
            refused.append(why)
        if identity and not why:
            known.setdefault(identity, (scope, folder))
    return list(known.values())


def _candidates(kind: str) -> list[tuple[Scope, Path]]:
    """Return where files of `kind` may be, weakest first. Raises UsageError."""
    listed = [Path(files.expand(path)) / kind for path in os.environ.get("SLURM_TF_PATH", "").split(":") if path]
    found = [(Scope.PACKAGE, packaged(kind)), (Scope.SITE, Path("/etc/slurm-tf") / kind)]
    found += [(Scope.GROUP, path) for path in listed]
    of_project = project(kind) if kind == JOBS else None
    found += [(Scope.PROJECT, of_project)] if of_project else []
    return [*found, (Scope.USER, user_config() / kind)]


def project(kind: str) -> Path | None:
    """Return the nearest folder `kind` from the working directory up to the top of its git work tree, None if none is.

    Without git only that of the working directory counts: further up there may be folders of all users.
    """
    here = Path(files.absolute("."))
    way = [here, *here.parents]
    top = next((number for number, folder in enumerate(way) if os.path.lexists(folder / ".git")), 0)
    return next((folder / kind for folder in way[: top + 1] if os.path.isdir(folder / kind)), None)


def why_refused(folder: Path, trusted: Collection[str] = ()) -> ConfigError | None:
    """Return why no file of a folder is read; None if nobody can change it whom we do not trust."""
    try:
        with _unreadable(str(folder)), _opened(files.absolute(str(folder)), _check_of(folder, trusted)):
            return None
    except ConfigError as error:
        return error


def names(folder: Path) -> list[str]:
    """Return the names of what is in a folder, sorted. Raises ConfigError."""
    with _unreadable(str(folder)):
        return sorted(os.listdir(folder))


def read(path: Path, trusted: Collection[str] = ()) -> bytes:
    """Return what a profile or a template holds. Raises ConfigError if anybody whom we do not trust can change it.

    The file, and each folder and symbolic link on the way to it, must belong to us, to root or to a user of `trusted`,
    and be writable by nobody else. What came with slurm-tf is trusted as its modules are.
    """
    with _unreadable(str(path)), _opened(os.path.join(os.getcwd(), path), _check_of(path, trusted)) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ConfigError("found a folder or a device", "a file", where=str(path))
        # opens what the handle has, whatever is at `path` by now
        return Path("/proc/self/fd", str(handle)).read_bytes()


def _check_of(path: Path, trusted: Collection[str]) -> Check:
    """Return the check of `path` and of all on the way to it."""
    with _unreadable(str(path)):
        kinds = (SITE_CONFIGS, TEMPLATES, JOBS)
        ours = any(files.path_below(str(path), str(packaged(kind))) is not None for kind in kinds)
    return partial(_check, path, trusted, ours)


def _check(path: Path, trusted: Collection[str], ours: bool, at: str, status: os.stat_result) -> None:
    if not ours:
        _check_owner(at, status, path, trusted)
        _check_mode(at, status, path)


@contextlib.contextmanager
def _unreadable(path: str) -> Iterator[None]:
    """Raise an OSError of the block as a ConfigError about `path`, or about the file that it names."""
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigError("no such file", "a file that can be read", where=path) from error
    except OSError as error:
        where, found = path or os.fsdecode(error.filename or ""), f"cannot be read ({error.strerror})"
        raise ConfigError(found, "a file or folder that can be read", where=where) from error


@contextlib.contextmanager
def _opened(path: str, check: Check) -> Iterator[int]:
    """Open the absolute `path` one name after the other, and call `check` with each folder, link and the file.

    Yields a handle that only says which file it is (O_PATH). Raises OSError.
    """
    with contextlib.ExitStack() as opened:

        def enter(name: str, folder: int | None) -> int:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            opened.callback(os.close, handle)
            return handle

        left, at, handle, links = path.split("/"), "", enter("/", None), 0
        check("/", os.fstat(handle))
        while left:
            name, left = left[0], left[1:]
            if name in ("", "."):
                continue
            within, handle = handle, enter(name, handle)
            status = os.fstat(handle)
            check(f"{at}/{name}", status)
            if not stat.S_ISLNK(status.st_mode):
                at = f"{at}/{name}"
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink("", dir_fd=handle)
            left = [*target.split("/"), *left]
            handle, at = (enter("/", None), "") if target.startswith("/") else (within, at)
        yield handle


def _check_owner(at: str, status: os.stat_result, path: Path, trusted: Collection[str]) -> None:
    """Raise ConfigError if what is at `at`, on the way to `path`, belongs to a user whom we do not trust."""
    owner = _user(status.st_uid)
    above = at not in (str(path), str(path.parent))
    if status.st_uid in (0, os.getuid()) or (owner and owner in trusted) or (above and _may_be_root(status.st_uid)):
        return
    do = f'trust = ["{owner}"] in {user_file()}: what {owner} writes then runs in your jobs, with your rights'
    needed = f"one of yours, of root or of a user whom you trust, on the way to {path}"
    raise ConfigError(f"it belongs to {owner or f'user id {status.st_uid}'}", needed, do if owner else "", where=at)


def _may_be_root(user: int, proc: Path = Path("/proc")) -> bool:
    """Whether `user` may stand for root: in a container of our own root has no id, and its files are of "nobody".

    So are those of other users. Above a file's own folder that lets others at most choose among files that are trusted.
    """
    if user != int((proc / "sys" / "kernel" / "overflowuid").read_text()):
        return False
    return all(line.split()[1] != "0" for line in (proc / "self" / "uid_map").read_text().splitlines())


def _check_mode(at: str, status: os.stat_result, path: Path) -> None:
    """Raise ConfigError if others than its owner can change what is at `at`, on the way to `path`.

    An ACL that lets others write shows as the group's right. In a sticky folder others can change only what is theirs.
    """
    mode = stat.S_IMODE(status.st_mode)
    sticky = stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX
    if not mode & (stat.S_IWGRP | stat.S_IWOTH) or sticky or stat.S_ISLNK(status.st_mode):
        return
    needed = f"one that only its owner can change, as {path} runs with your rights"
    who = "" if status.st_uid == os.getuid() else f", by {_user(status.st_uid) or 'its owner'}"
    raise ConfigError(f"it has mode {mode:o}: others can change it", needed, f"chmod go-w {at}{who}", where=at)


def _user(number: int) -> str:
    """Return the name of a user, "" if there is none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return ""
