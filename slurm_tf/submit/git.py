"""Reads the git work tree of a folder."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError

_SECONDS = 60.0
# a hook or a caller may have set these for another repository
_NOT_FOR_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A git work tree: its files without ignored ones, tracked or not; `commit` is "" before the first one.

    `folder` is the folder that was asked for; `folder` and `files` are relative to `root`.
    """

    root: str
    folder: str
    files: tuple[str, ...]
    commit: str
    dirty: bool


def work_tree(folder: Path) -> WorkTree | None:
    """Return the work tree that `folder` is in, None if there is none or no git. Raises RunError."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    if root is None:
        return None
    top = Path(root.rstrip("\n"))
    below = files.path_below(str(folder), str(top))
    if below is None:  # the repository's core.worktree is somewhere else
        return None
    listed = _git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    status = _git(top, "status", "--porcelain", "-z")
    if listed is None or status is None:
        raise RunError(
            f"git cannot list the files of {top}", "a work tree that git reads", f"git -C {top} status shows why"
        )
    commit = _git(top, "rev-parse", "--verify", "--quiet", "HEAD") or ""
    return WorkTree(str(top), below, tuple(filter(None, listed.split("\0"))), commit.strip(), bool(status))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return git's output, None if it fails or is not installed. Raises RunError if it takes too long."""
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_GIT}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            env={**environ, "GIT_OPTIONAL_LOCKS": "0"}, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise RunError(f"git {arguments[0]} did not end in {_SECONDS:.0f} s in {folder}") from error
    return os.fsdecode(done.stdout) if done.returncode == 0 else None
