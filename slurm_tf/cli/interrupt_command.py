"""The verb interrupt, which asks the running attempt of a run to inject a fault."""

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, watch_commands
from slurm_tf.errors import UsageError
from slurm_tf.run import fault_request, lease, status
from slurm_tf.run.fault_request import Fault, FaultRequest
from slurm_tf.run.status import AttemptState

if TYPE_CHECKING:
    from slurm_tf.watch.find_run import SelectedRun

_FAULTS = [fault.value for fault in Fault]
_TAKEN_SECONDS = 30.0
# States of an attempt in which no program runs.
_NOT_RUNNING = (AttemptState.ENDED, AttemptState.REGISTERING, AttemptState.STAGING, AttemptState.REQUEUED)


@click.command()
@watch_commands.RUN
@click.option("--as", "kind", type=click.Choice(_FAULTS), default="preemption", show_default=True, help="The fault.")
@click.option(
    "--role",
    help="kill, node-failure: the role of the task; default: that of the first task.",
    shell_complete=completion.roles,
)
@click.option(
    "--index",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The index of the task.",
    shell_complete=completion.indexes,
)
@options.JSON
def interrupt(run: str, kind: str, role: str | None, index: int, as_json: bool) -> None:
    """Inject a fault into RUN while it is running.

    preemption, timeout: the run saves and goes on in another attempt, as if Slurm had warned the job. kill: the program
    of one task gets SIGKILL. node-failure: all agents and programs on the node of one task are killed.
    """
    selected_runs = watch_commands.select_run(run).points()
    if len(selected_runs) > 1:
        raise UsageError(
            f"run {run} has {len(selected_runs)} sweep points", f"one of them, such as {selected_runs[0].name}"
        )
    found = selected_runs[0]
    attempt, tasks = _running(found)
    task = tasks[0] if role is None else f"{role}:{index}"
    if task not in tasks:
        raise UsageError(f"run {found.name} has no task {task}", f"one of {', '.join(tasks[:20])}")
    fault, path = Fault(kind), found.folder.fault_request
    fault_request.write(found.folder, FaultRequest(attempt, fault, task))
    until = time.monotonic() + _TAKEN_SECONDS
    while os.path.exists(path):
        if time.monotonic() > until:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            raise UsageError(
                f"attempt {attempt} of run {found.name} did not answer", "an attempt that is alive", "slurm-tf status"
            )
        time.sleep(0.1)
    if as_json:
        injected = {"run": found.name, "attempt": attempt, "fault": kind, "task": task if fault.is_of_task else None}
        click.echo(json.dumps(injected, indent=2))
        return
    of = f" of {task}" if fault.is_of_task else ""
    click.echo(f"{kind}{of} injected into attempt {attempt}: slurm-tf logs {found.name} --follow shows the effect")


def _running(found: "SelectedRun") -> tuple[str, list[str]]:
    """Return the id of the running attempt, and the names of its tasks. Raises UsageError."""
    known, held = status.read(found.folder), lease.read(found.folder)
    if known is None or held is None or known.state in _NOT_RUNNING:
        state = known.state.value if known else "unknown"
        raise UsageError(
            f"run {found.name} is {state}", "a run whose tasks are running", f"slurm-tf status {found.name}"
        )
    return held.attempt, list(known.tasks)
