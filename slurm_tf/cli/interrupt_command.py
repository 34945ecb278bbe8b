"""The verb interrupt."""

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

import click

from slurm_tf import files
from slurm_tf.cli import watch_commands
from slurm_tf.errors import UsageError
from slurm_tf.run import lease
from slurm_tf.run.fault_request import KILL, KINDS, NODE_FAILURE
from slurm_tf.run.version import VERSION

if TYPE_CHECKING:
    from slurm_tf.watch.find_run import Target

_TAKEN_SECONDS = 30.0


@click.command()
@watch_commands.RUN
@click.option("--as", "kind", type=click.Choice(KINDS), default="preemption", show_default=True)
@click.option("--role", help="kill, node-failure: of which task; default: the first one.")
@click.option("--index", type=click.IntRange(min=0), default=0, show_default=True)
def interrupt(run: str, kind: str, role: str | None, index: int) -> None:
    """Rehearse on RUN, which runs, what a cluster may do to it.

    preemption, timeout: save and go on in another attempt, as if Slurm had warned the job. kill: SIGKILL to one task's
    program. node-failure: one task's node is gone, with all agents and programs on it.
    """
    targets = watch_commands.target(run).each()
    if len(targets) > 1:
        raise UsageError(f"run {run} has {len(targets)} points", f"one: {targets[0].name}")
    found = targets[0]
    attempt, tasks = _running(found)
    task = tasks[0] if role is None else f"{role}:{index}"
    if task not in tasks:
        raise UsageError(f"run {found.name} has no task {task}", f"one of {', '.join(tasks[:20])}")
    words = {"contract": VERSION, "attempt": attempt, "as": kind, "task": task}
    path = found.folder.fault_request
    files.write_whole(path, json.dumps(words).encode())
    until = time.monotonic() + _TAKEN_SECONDS
    while os.path.exists(path):
        if time.monotonic() > until:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            raise UsageError(f"attempt {attempt} of run {found.name} did not look", "one that lives", "slurm-tf status")
        time.sleep(0.1)
    of = f" of {task}" if kind in (KILL, NODE_FAILURE) else ""
    click.echo(f"{kind}{of} in attempt {attempt}: slurm-tf logs {found.name} --follow shows what it does")


def _running(found: "Target") -> tuple[str, list[str]]:
    """Return the attempt that runs, and its tasks. Raises UsageError."""
    from slurm_tf.watch import run_state

    values = run_state.read_attempt(found.folder)
    held = lease.read(found.folder)
    word = values.get("state", "unknown") if values else "unknown"
    if values is None or held is None or word in ("ended", "registering", "requeued"):
        raise UsageError(f"run {found.name} is {word}", "one whose tasks run", f"slurm-tf status {found.name}")
    return held.attempt, list(values.get("tasks", {}))
