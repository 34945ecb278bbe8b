"""Nodes that a run leaves out: its preflights and its attempts write them down, in bad_nodes.json of its folder.

    {"contract": 1, "nodes": {"node3": {"reason": "draining: fan", "at": 1760000000.0}}, "hung": {"node4": 1},
     "slow": {"worker:3": {"node5": "worker:3 works 0.3 s by itself in each step, ..."}}}

`at`: seconds since the epoch. `hung`: how often a task was found hung there. `slow`: on which nodes a task was slow,
and what was said of it the first time.
"""

import contextlib
import json
import os
import time
from typing import Any, Dict, Iterator, List, Mapping

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import VERSION, check_version

# Once may be the program's own fault.
_HANGS = 2


def read(folder: RunFolder) -> Dict[str, Dict[str, Any]]:
    """Return the bad nodes that one folder has: `reason` and `at` of each. Raises RunError or OSError."""
    return dict(_read(folder)["nodes"])


def of_run(run: RunFolder) -> Dict[str, Dict[str, Any]]:
    """Return the bad nodes that a run and its points know, as `read` does. Raises RunError or OSError."""
    return {node: found for folder in _folders(run) for node, found in read(folder).items()}


def known(run: RunFolder) -> Dict[str, str]:
    """Return the reason of each bad node that a run and its points know. Raises RunError or OSError."""
    return {node: str(found["reason"]) for node, found in of_run(run).items()}


def remember(folder: RunFolder, reasons: Mapping[str, str]) -> None:
    """Write down nodes, with the reason of each. Raises RunError or OSError."""
    text = _read(folder)
    now = time.time()
    text["nodes"].update({node: {"reason": reason, "at": now} for node, reason in reasons.items()})
    _write(folder, text)


def hung(folder: RunFolder, node: str) -> bool:
    """Take in that a task hung on `node`; return whether that makes it a bad one. Raises RunError or OSError."""
    text = _read(folder)
    count = int(text["hung"].get(node, 0)) + 1
    text["hung"][node] = count
    _write(folder, text)
    return count >= _HANGS


def slow(folder: RunFolder, task: str, node: str, reason: str) -> List[str]:
    """Take in that `task` is slow on `node`; return all nodes on which it was slow: more than one, and it is the task.

    None of them is a bad one for that then. Raises RunError or OSError.
    """
    text = _read(folder)
    found: Dict[str, str] = text["slow"].setdefault(task, {})
    found.setdefault(node, reason)
    if len(found) > 1:
        text["nodes"] = {name: bad for name, bad in text["nodes"].items() if bad["reason"] != found.get(name)}
    _write(folder, text)
    return list(found)


def forget(run: RunFolder) -> None:
    """Let the next submission use every node again."""
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


def _read(folder: RunFolder) -> Dict[str, Any]:
    try:
        with open(folder.bad_nodes, encoding="utf-8") as file:
            text = json.load(file)
        check_version(text["contract"], folder.bad_nodes)
        return {"nodes": dict(text["nodes"]), **{key: dict(text.get(key, {})) for key in ("hung", "slow")}}
    except FileNotFoundError:
        return {"nodes": {}, "hung": {}, "slow": {}}
    except (ValueError, TypeError, KeyError) as error:
        needed, do = "the file that an attempt wrote", "--forget-bad-nodes removes it"
        raise RunError(f"{folder.bad_nodes} cannot be read ({error})", needed, do) from error


def _write(folder: RunFolder, text: Mapping[str, Any]) -> None:
    files.write_whole(folder.bad_nodes, json.dumps({"contract": VERSION, **text}, indent=1).encode())
