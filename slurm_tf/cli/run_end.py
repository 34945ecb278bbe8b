"""Prints how a run ended: its state, why, where its files are, and the commands to type next."""

import contextlib
import shlex
import sys
from collections.abc import Sequence

import click

from slurm_tf.cli import terminal, text_table
from slurm_tf.cli.terminal import print_next_commands, printable, short_path
from slurm_tf.errors import RunError
from slurm_tf.run import manifest
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.status import NEVER_JOINED
from slurm_tf.slurm import out_of_memory
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import reasons, run_params, status_rows
from slurm_tf.watch.run_overview import RunOverview

# Of a sweep, so many points are named that did not end well.
_POINTS = 10
_LINES = 50


def print_end(points: Sequence[RunOverview]) -> None:
    """Print to stderr how a run, or the points of a sweep, ended."""
    if len(points) == 1:
        _print_run(points[0])
    else:
        _print_sweep(points)


def print_next(points: Sequence[RunOverview]) -> None:
    """Print to stderr what to type next about a run that is over, or about points of a sweep."""
    rows = _after_run(points[0]) if len(points) == 1 else _after_sweep(points)
    if rows:
        print_next_commands(*rows)


def _print_run(state: RunOverview) -> None:
    time = status_rows.elapsed_text(state)
    how = ", ".join(filter(None, [f"exit code {state.exit_code}", f"after {time}" if time else ""]))
    name = printable(run_params.named(state.selected))
    click.echo(f"Run {name} ended: {_state(state)}, {how} (job {state.job})", err=True)
    rows = [("why", printable(reasons.reason_words(state)))]
    rows += [(name, short_path(path)) for name, path in status_rows.places(state).items() if path]
    if state.checkpoint:
        rows = [
            (name, f"{text} (step {state.checkpoint.step})" if name == "checkpoints" else text) for name, text in rows
        ]
    for name, text in rows:
        if text:
            click.echo(text_table.hanging(f"  {name:12} ", text, sys.stderr), err=True)
    print_next([state])


def _state(state: RunOverview) -> str:
    """Return the state's name, in its colour where stderr has colours."""
    name = state.state.name
    return terminal.coloured(name, terminal.state_colour(name)) if terminal.has_colour(sys.stderr) else name


def _print_sweep(points: Sequence[RunOverview]) -> None:
    failed = [point for point in points if point.exit_code]
    name = points[0].selected.run.name
    click.echo(f"Run {name} ended: {len(points) - len(failed)} of {len(points)} points completed", err=True)
    for point in failed[:_POINTS]:
        why = printable(reasons.reason_words(point)) or f"exit code {point.exit_code}"
        head = f"  {printable(run_params.named(point.selected))}  {_state(point)}: "
        click.echo(text_table.hanging(head, why, sys.stderr), err=True)
    if len(failed) > _POINTS:
        click.echo(f"  and {len(failed) - _POINTS} more", err=True)
    print_next(points)


def _after_run(state: RunOverview) -> list[tuple[str, str]]:
    """Return the commands for a run that is over; none for another."""
    if not state.is_over:
        return []
    name = shlex.quote(state.selected.name)
    if not state.exit_code:
        return [(f"efficiency {state.job}", "what it asked for and what it used")]
    return [*_logs(state, name), *_again(state, name)]


def _logs(state: RunOverview, name: str) -> list[tuple[str, str]]:
    """Return the command that shows what was printed last, by the task that failed first where that is known."""
    places = status_rows.places(state)
    role, _, index = state.attempt.failed.partition(":") if state.attempt else ("", "", "")
    if places["task log"]:
        command = f"logs {name} --role {role} --index {index} --lines {_LINES}"
        return [(command, "the last lines of the task that failed first")]
    return [(f"logs {name} --lines {_LINES}", "its last lines")] if places["log"] else []


def _again(state: RunOverview, name: str) -> list[tuple[str, str]]:
    """Return the commands with which a run goes on; of one that lacked something, with more of that."""
    reason = reasons.reason_words(state)
    if NEVER_JOINED in reason:
        return [("docs train", "the lines with which its tasks train one model")]
    goes_on = f"goes on from step {state.checkpoint.step}" if state.checkpoint else "starts it again"
    lacked = "--mem=MORE" if out_of_memory.START in reason else ""
    last = state.attempts[-1].cause if state.attempts else EndCause.NONE
    is_limit = state.state is JobState.TIMEOUT or (state.state is JobState.FAILED and last is EndCause.TIMEOUT)
    lacked = lacked or ("--time=LONGER" if is_limit else "")
    rows = []
    if lacked:
        file = "JOB.toml"
        with contextlib.suppress(RunError):
            file = short_path(manifest.read(state.selected.run.manifest).job_file)
        run = shlex.quote(state.selected.run.name)
        rows.append((f"submit {shlex.quote(file)} --name {run} {lacked}", f"{goes_on}, with what it needs"))
    if not lacked or state.checkpoint:
        rows.append((f"resubmit {name}", f"{goes_on}, with the same code"))
    return rows


def _after_sweep(points: Sequence[RunOverview]) -> list[tuple[str, str]]:
    """Return the commands for a sweep; for one that is over also those for the points that failed."""
    name = shlex.quote(points[0].selected.run.name)
    rows = [(f"status {name} --points", "each point"), (f"results {name}", "what the points have reported")]
    failed = [point for point in points if point.exit_code]
    if failed and all(point.is_over for point in points):
        first = shlex.quote(failed[0].selected.name)
        rows.insert(0, (f"status {first}", "one that failed"))
        rows.append((f"resubmit {name} --failed", "submits those that failed again, with the same code"))
    return rows
