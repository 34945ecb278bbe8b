"""The folders of the user's runs, wherever they are: one small file in the user's state folder.

Runs are found by it from any folder. It is no record: where it is missing, watch/run_discovery.py makes it again.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files, search_path
from slurm_tf.errors import RunError
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder


@dataclass(frozen=True)
class _RunIndex:
    """runs.json. `folders`: of runs, in the order in which they were made."""

    folders: tuple[str, ...] = ()


def path() -> Path:
    """Return the path of the index."""
    return search_path.user_state() / "runs.json"


def read() -> tuple[str, ...] | None:
    """Return the folders of all runs that are there; None if there is no index, or none of this release."""
    try:
        listed = json_file.read(str(path()), _RunIndex).folders
    except (RunError, OSError):
        return None
    return tuple(folder for folder in listed if _is_run(folder))


def add(folders: Sequence[str]) -> None:
    """Add folders of runs, and leave out those that are gone. Several processes may do so at once.

    Raises RunError or OSError.
    """
    files.own_folder(str(path().parent))
    with _locked():
        try:
            listed = json_file.read(str(path()), _RunIndex).folders
        except (RunError, FileNotFoundError):
            listed = ()
        kept = tuple(dict.fromkeys(each for each in (*listed, *folders) if not _is_gone(each)))
        if kept != listed or not path().exists():
            json_file.write(str(path()), _RunIndex(kept))


def _is_run(folder: str) -> bool:
    return os.path.isfile(RunFolder(folder).manifest)


def _is_gone(folder: str) -> bool:
    """Whether a run was removed; storage that is not mounted here may come back."""
    return not _is_run(folder) and os.path.isdir(os.path.dirname(folder))


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock of the index, where the file system has locks."""
    with open(path().with_suffix(".lock"), "ab") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
