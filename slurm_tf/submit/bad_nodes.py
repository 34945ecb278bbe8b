"""Nodes that a run's preflights found bad are left out of its next submission."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from slurm_tf import contract
from slurm_tf.errors import HostlistError
from slurm_tf.scheduler import hostlist


def known(run: contract.RunFolder) -> dict[str, str]:
    """Return the bad nodes that a run and its points know, with the reason of each. Raises RunError."""
    return {
        node: str(found["reason"]) for folder in _folders(run) for node, found in contract.bad_nodes(folder).items()
    }


def forget(run: contract.RunFolder) -> None:
    """Let the next submission use every node again."""
    for folder in _folders(run):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.bad_nodes)


def exclude(own: str, bad: dict[str, str]) -> str:
    """Return the value of sbatch's --exclude: `own`, the user's, and the bad nodes that are not in it."""
    try:
        named = set(hostlist.expand(own))
    except HostlistError:  # sbatch also takes a file of names
        named = set()
    return ",".join([*([own] if own else []), *(node for node in sorted(bad) if node not in named)])


def _folders(run: contract.RunFolder) -> Iterator[contract.RunFolder]:
    yield run
    for path in sorted(Path(run.path).glob("*/")):
        if path.name.isdigit():
            yield run.point(int(path.name))
