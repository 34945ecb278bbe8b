"""The nodes that a run leaves out, found by its preflights and attempts: bad_nodes.json in its folder."""

import contextlib
import os
import time
from dataclasses import dataclass, field, replace
from typing import Dict, Iterator, List, Mapping

from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder

# One hang may be the program's own fault.
_HANGS = 2


@dataclass(frozen=True)
class BadNode:
    """Why a node is left out, in words, and since when (`at`: seconds since the epoch)."""

    reason: str
    at: float


@dataclass(frozen=True)
class _BadNodes:
    """bad_nodes.json. `nodes`: those that are left out, by name. `hung`: how often a task was found hung on a node.

    `slow`: of each task that was slow, on which nodes, with what was said of it there the first time.
    """

    nodes: Mapping[str, BadNode] = field(default_factory=dict)
    hung: Mapping[str, int] = field(default_factory=dict)
    slow: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read(folder: RunFolder) -> Dict[str, BadNode]:
    """Return the bad nodes that one folder has, by name. Raises RunError or OSError."""
    return dict(_read(folder).nodes)


def of_run(run: RunFolder) -> Dict[str, BadNode]:
    """Return the bad nodes that a run and its sweep points know, by name. Raises RunError or OSError."""
    return {node: found for folder in _folders(run) for node, found in read(folder).items()}


def known(run: RunFolder) -> Dict[str, str]:
    """Return the reason of each bad node that a run and its sweep points know. Raises RunError or OSError."""
    return {node: found.reason for node, found in of_run(run).items()}


def remember(folder: RunFolder, reasons: Mapping[str, str]) -> None:
    """Add nodes to those that are left out, with the reason of each. Raises RunError or OSError."""
    now, file = time.time(), _read(folder)
    added = {node: BadNode(reason, now) for node, reason in reasons.items()}
    json_file.write(folder.bad_nodes, replace(file, nodes={**file.nodes, **added}))


def hung(folder: RunFolder, node: str) -> bool:
    """Record that a task hung on `node`; return whether that makes it a bad node. Raises RunError or OSError."""
    file = _read(folder)
    count = file.hung.get(node, 0) + 1
    json_file.write(folder.bad_nodes, replace(file, hung={**file.hung, node: count}))
    return count >= _HANGS


def slow(folder: RunFolder, task: str, node: str, reason: str) -> List[str]:
    """Record that `task` is slow on `node`; return all nodes on which it was slow.

    If they are several, the task is slow by itself: nodes that are left out for it are used again. Raises RunError or
    OSError.
    """
    file = _read(folder)
    found = dict(file.slow.get(task, {}))
    found.setdefault(node, reason)
    nodes = dict(file.nodes)
    if len(found) > 1:
        nodes = {name: bad for name, bad in nodes.items() if bad.reason != found.get(name)}
    json_file.write(folder.bad_nodes, replace(file, nodes=nodes, slow={**file.slow, task: found}))
    return list(found)


def forget(run: RunFolder) -> None:
    """Remove the bad nodes of a run and its sweep points: its next submission may use every node again."""
    for folder in _folders(run):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.bad_nodes)


def _folders(run: RunFolder) -> Iterator[RunFolder]:
    yield run
    try:
        names = os.listdir(run.path)
    except FileNotFoundError:
        return
    for name in sorted(name for name in names if name.isdigit()):
        yield run.point(int(name))


def _read(folder: RunFolder) -> _BadNodes:
    try:
        return json_file.read(folder.bad_nodes, _BadNodes, "--forget-bad-nodes removes it")
    except FileNotFoundError:
        return _BadNodes()
