"""The verbs for submitted runs: status, list, describe, logs, cancel, wait."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options
from slurm_tf.errors import SlurmError, SlurmTfError

if TYPE_CHECKING:
    from slurm_tf.jobspec.user_settings import SiteSettings
    from slurm_tf.run.folder import RunFolder
    from slurm_tf.slurm.client import Client
    from slurm_tf.watch.find_run import SelectedRun
    from slurm_tf.watch.logs import LogChunk, LogFile
    from slurm_tf.watch.run_overview import RunOverview

RUN = click.argument("run", metavar="RUN", shell_complete=completion.runs)
POINTS = click.option("--points", "each_point", is_flag=True, help="Show each point of a sweep, not all in one line.")
# Exit code of timeout(1).
_TIMED_OUT = 124
_WATCH_SECONDS, _WATCH_SECONDS_MOST = 2.0, 15.0


def connect() -> "Client":
    """Return the client of Slurm that is configured."""
    from slurm_tf.jobspec import user_settings
    from slurm_tf.slurm import client

    return client.connect(user_settings.client(os.environ))


def site_settings(site: str = "") -> "SiteSettings":
    """Return the configuration without a job file; say so where the site's profile cannot be used."""
    from slurm_tf.jobspec import user_settings

    settings = user_settings.read(os.environ, site)
    if settings.unusable:
        click.echo(f"slurm-tf: warning: the site's profile is not used: {settings.unusable}", err=True)
    return settings


def runs_folder() -> str:
    """Return the runs folder that is configured."""
    return site_settings().runs


def all_runs() -> "list[SelectedRun]":
    """Return the user's runs in any folder."""
    from slurm_tf.watch import find_run, run_discovery

    root = runs_folder()
    run_discovery.make_index(root)
    return find_run.all_runs(root)


def remember(run: "RunFolder") -> None:
    """Have verbs in other folders find a run; warn where that cannot be written down."""
    from slurm_tf import files
    from slurm_tf.submit import run_index

    try:
        with files.explained("write down where the run is", str(run_index.path())):
            run_index.add([run.path])
    except SlurmTfError as error:
        click.echo(f"slurm-tf: warning: in other folders verbs need the run's path: {error}", err=True)


def select_run(text: str) -> "SelectedRun":
    """Return the run or sweep point that `text` names: by name, NAME/POINT, path or job id."""
    from slurm_tf.watch import find_run

    return find_run.find(text, runs_folder(), connect())


@click.command()
@RUN
@options.JSON
@POINTS
@click.option("--watch", is_flag=True, help="Keep printing until the run is over.")
def status(run: str, as_json: bool, each_point: bool, watch: bool) -> None:
    """Show the state of RUN (a run's name, NAME/POINT or a job id)."""
    from slurm_tf.watch import run_overview

    slurm, found = connect(), select_run(run)
    if watch and not as_json:
        _print_until_over(slurm, found, each_point)
    else:
        _print_states(run_overview.read_overviews(slurm, [found]), as_json, each_point)


@click.command("list")
@options.JSON
@POINTS
@click.option("--all", "everything", is_flag=True, help="Include runs that are over.")
def list_runs(as_json: bool, each_point: bool, everything: bool) -> None:
    """List the runs, one line for each."""
    from slurm_tf.watch import run_overview, sweeps

    points = run_overview.read_overviews(connect(), all_runs())
    living = [point for point in points if everything or not (point.is_over or not point.job)]
    if as_json:
        _print_states(living, as_json)
        return
    from slurm_tf.cli import tables

    runs = {point.selected.run for point in living}
    folded = [point for group in sweeps.by_run(points) if group[0].selected.run in runs for point in group]
    click.echo(tables.run_list(living if each_point else folded, each_point), nl=False)
    for note in points[0].notes if points else ():
        click.echo(f"slurm-tf: {note}", err=True)


@click.command()
@RUN
@options.ALWAYS_JSON
def describe(run: str) -> None:
    """Print all that is known about RUN as JSON: its origin, its submissions, its state."""
    from slurm_tf.run import job_chain, manifest
    from slurm_tf.run.version import VERSION
    from slurm_tf.watch import run_overview, status_rows

    found = select_run(run)
    text = {
        "folder": found.run.path,
        "manifest": {"contract": VERSION, **asdict(manifest.read(found.run.manifest))},
        "submissions": [asdict(each) for each in job_chain.read(found.run)],
        "points": [status_rows.as_dict(point) for point in run_overview.read_overviews(connect(), [found])],
    }
    click.echo(json.dumps(text, indent=2))


@click.command()
@RUN
@click.option("--follow", "-f", is_flag=True, help="Keep printing new output until the run is over.")
@click.option(
    "--role",
    default="",
    help="Print the logs of the tasks of this role instead of the job's output.",
    shell_complete=completion.roles,
)
@click.option(
    "--index",
    type=int,
    help="Print only the log of the task of this index in the role.",
    shell_complete=completion.indexes,
)
@click.option("--lines", "-n", type=click.IntRange(min=0), help="Print only the last lines.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as a line of JSON, with the task it is from.")
def logs(run: str, follow: bool, role: str, index: int | None, lines: int | None, as_json: bool) -> None:
    """Print the output of RUN."""
    from slurm_tf.watch import logs as files
    from slurm_tf.watch import run_overview

    found = select_run(run)
    if index is not None and not role:
        raise click.UsageError("--index needs --role")
    of_run = files.log_files(found, role, index)
    slurm = connect()

    def is_over() -> bool:
        points = run_overview.read_overviews(slurm, [found])
        return all(point.is_over or not (point.records or point.silent) for point in points)

    chunks = files.follow(of_run, lines, is_over) if follow else files.read(of_run, lines)
    printed = _print_json_lines(chunks) if as_json else _print_chunks(chunks, len(of_run) > 1)
    if not printed:
        _print_why_nothing(run_overview.read_overviews(slurm, [found]), of_run)


def _print_chunks(chunks: "Iterator[LogChunk]", with_headings: bool) -> bool:
    """Print output as it is; return whether there was any."""
    last = None
    for chunk in chunks:
        if with_headings and chunk.file != last:
            click.echo(f"{chr(10) if last else ''}==> {chunk.file.heading} <==")
        last = chunk.file
        sys.stdout.buffer.write(chunk.data)
        sys.stdout.buffer.flush()
    return last is not None


def _print_json_lines(chunks: "Iterator[LogChunk]") -> bool:
    """Print output as a line of JSON for each of its lines; return whether there was any."""
    from slurm_tf.watch import logs

    line = None
    for line in logs.lines_of(chunks):
        click.echo(json.dumps(asdict(line)))  # which flushes
    return line is not None


def _print_why_nothing(points: "list[RunOverview]", of_run: "list[LogFile]") -> None:
    """Print why a run has no output: it may still come, or the job could not write its log."""
    from slurm_tf.watch import reasons, status_rows

    for point in (each for each in points if each.is_over):
        why = reasons.reason_words(point) or f"it ended as {status_rows.state_text(point)}"
        click.echo(f"slurm-tf: job {point.job} of run {point.selected.name} printed nothing: {why}", err=True)
    if not all(point.is_over for point in points):
        click.echo(f"slurm-tf: nothing was printed yet: {', '.join(each.path for each in of_run)}", err=True)


@click.command()
@RUN
@options.JSON
def cancel(run: str, as_json: bool) -> None:
    """Cancel RUN for good: its jobs are cancelled, and no further attempt starts."""
    from slurm_tf.watch import cancel as canceller

    found = select_run(run)
    ended = canceller.cancel(connect(), found)
    if as_json:
        click.echo(json.dumps({"run": found.name, "jobs": ended}, indent=2))
        return
    click.echo(f"cancelled {', '.join(ended)}" if ended else f"run {found.name} has no job that is not over")


@click.command()
@RUN
@click.option(
    "--timeout",
    metavar="TIME",
    default="UNLIMITED",
    help="Wait no longer than this, as sbatch --time: 30 (minutes), 12:00:00; exit with 124 then, as timeout does.",
)
@options.JSON
def wait(run: str, timeout: str, as_json: bool) -> None:  # fmt: skip
    """Wait until RUN is over, through all its attempts, and exit with its exit code, as sbatch --wait."""
    from slurm_tf import units

    limit = units.parse_time(timeout)
    found = select_run(run)
    points = wait_until_over(found, limit.total_seconds() if limit is not None else math.inf)
    if as_json:
        _print_states(points, as_json)
    elif all(point.is_over for point in points):
        _print_end(points)
    if not all(point.is_over for point in points):
        click.echo(f"slurm-tf: run {found.name} is not over after {timeout}, and goes on", err=True)
        sys.exit(_TIMED_OUT)
    sys.exit(exit_code(points))


def wait_until_over(found: "SelectedRun", timeout: float = math.inf) -> "list[RunOverview]":
    """Wait until a run is over, or for `timeout` seconds; return what is known of its points."""
    from slurm_tf.watch import run_overview

    return run_overview.wait_until_over(connect(), found, timeout=timeout)


def wait_for_exit_code(found: "SelectedRun", quiet: bool = False) -> int:
    """Wait until a run is over and, unless `quiet`, print how it ended; return the highest exit code of its points."""
    points = wait_until_over(found)
    if not quiet:
        _print_end(points)
    return exit_code(points)


def exit_code(points: "list[RunOverview]") -> int:
    """Return the highest exit code of points that are over."""
    return max(point.exit_code or 0 for point in points)


def _print_end(points: "list[RunOverview]") -> None:
    from slurm_tf.cli import run_end

    run_end.print_end(points)


def _print_until_over(slurm: "Client", found: "SelectedRun", each_point: bool) -> None:
    """Print the state repeatedly until the run is over; the pause grows from 2 to 15 s."""
    from rich.live import Live
    from rich.text import Text

    from slurm_tf.cli import limit_notes, tables
    from slurm_tf.watch import run_overview

    pause = _WATCH_SECONDS
    with Live(auto_refresh=False) as screen:
        while True:
            points = run_overview.read_overviews(slurm, [found])
            shown = tables.status(points, each_point, limit_notes.waits(points))
            screen.update(Text.from_ansi(shown), refresh=True)
            if all(point.is_over for point in points):
                return
            if not any(point.records or point.silent for point in points):
                raise SlurmError(f"Slurm knows nothing of run {found.name}", "a job that Slurm has a record of")
            time.sleep(pause)
            pause = min(pause * 1.1, _WATCH_SECONDS_MOST)


def _print_states(points: "list[RunOverview]", as_json: bool, each_point: bool = False) -> None:
    from slurm_tf.cli import limit_notes, run_end, tables
    from slurm_tf.watch import status_rows

    waits = limit_notes.waits(points)
    if as_json:
        rows = [{**status_rows.as_dict(each), "waits_for_limit": waits.get(each.job)} for each in points]
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(tables.status(points, each_point, waits), nl=False)
        sys.stdout.flush()
        run_end.print_next(points)
