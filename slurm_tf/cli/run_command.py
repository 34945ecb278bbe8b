"""The verb run, which runs a job file on this machine."""

import os
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import job_words, submit_commands, watch_commands
from slurm_tf.cli.options import JSON, NAME, SET, STDERR, JobCommand
from slurm_tf.cli.terminal import print_next_commands, short_path
from slurm_tf.run.folder import RunFolder

if TYPE_CHECKING:
    from slurm_tf.jobspec.configuration import Job


@click.command(cls=JobCommand)
@job_words.WORDS
@job_words.TEMPLATE
@job_words.ASK
@NAME
@SET
@JSON
def run(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    template: str,
    ask: bool,
    name: str,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run JOB on this machine, without Slurm.

    -t TEMPLATE, in place of JOB, names a job template. NAME=VALUE gives a param of the job file a value. ARGUMENTS are
    for the program, after those of the job file.

    It runs the same script, coordinator and agents as a job in Slurm. The exit code is that of the job: of its chief,
    or of its worker 0. With --json, what the program prints goes to stderr, and how the run ended to stdout.
    """
    job = job_words.load(words, template, arguments, ask, "local", overrides)
    started = datetime.now().astimezone()
    folder, code = run_here(job, name, STDERR if as_json else None)
    if as_json:
        _print_end_as_json(folder, code, started)
    _report(folder, job, job_words.as_typed(job, f"--name {shlex.quote(folder.name)}", arguments), code)
    sys.exit(code)


def run_here(job: "Job", name: str, stdout: int | None) -> tuple[RunFolder, int]:
    """Run a job of site local; return its run and its exit code. `stdout`: a descriptor, None for that of slurm-tf."""
    from slurm_tf.launch.direct import local_tasks
    from slurm_tf.submit import new_run

    submission = new_run.prepare(job, name).submission
    folder = submission.run
    watch_commands.remember(folder)
    click.echo(f"Run {folder.name} in {short_path(folder.path)}", err=True)
    if submission.number > 1:
        from slurm_tf.watch import resubmit

        click.echo(f"  {resubmit.from_where([folder])}", err=True)
    return folder, local_tasks.run_script(submission.script, environ_here(os.environ), stdout)


def _print_end_as_json(folder: RunFolder, code: int, started: datetime) -> None:
    """Print how the run ended as `submit --wait --json` does of one that was submitted."""
    from slurm_tf.watch import run_overview, status_rows

    state = run_overview.ended_here(folder, code, started, datetime.now().astimezone())
    submit_commands.print_json(state.selected, {"jobs": [], "points": [status_rows.as_dict(state)]})


def environ_here(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the Python of slurm-tf first in PATH, unless the user has activated an environment."""
    active = any(environ.get(name) for name in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    path = environ.get("PATH", os.defpath)
    return {**environ, "PATH": path if active else f"{Path(sys.executable).parent}:{path}"}


def _report(folder: RunFolder, job: "Job", again: str, code: int) -> None:
    """Print where the run's output is, and commands to type next; `again`: what to type to go on."""
    folders = {"logs": folder.logs, "checkpoints": folder.checkpoints, "tensorboard": folder.tensorboard}
    rows = {what: path for what, path in folders.items() if any(os.scandir(path))}
    rows["model"] = folder.model_path()
    click.echo(f"\nRun {folder.name} ended with exit code {code}", err=True)
    for what, path in rows.items():
        if path:
            click.echo(f"  {what:12} {short_path(path)}", err=True)
    print_next_commands(
        (f"run {again}", "go on from its last checkpoint" if _has_checkpoint(folder) else "start it again"),
        (f"explain {job.typed}", "each value and where it came from"),
        (f"render {job.typed} --site generic", "the batch script for a cluster"),
        *_serving(folder, job),
    )


def _serving(folder: RunFolder, job: "Job") -> list[tuple[str, str]]:
    """Return the command that serves the model of a run here, as the last one; none for a run without a model."""
    from slurm_tf.jobspec import serve_table
    from slurm_tf.models import model_versions

    name = job.spec.name
    if not model_versions.numbered(folder.exports) or not serve_table.MODEL_NAME.fullmatch(name):
        return []
    return [(f"serve {name}={shlex.quote(short_path(folder.exports))} --local", "its model answers requests here")]


def _has_checkpoint(folder: RunFolder) -> bool:
    from slurm_tf.watch import run_overview

    return run_overview.newest_checkpoint(folder) is not None
