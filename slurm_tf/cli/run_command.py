"""The verb run, which runs a job file on this machine."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from slurm_tf.cli import watch_commands
from slurm_tf.cli.options import JOB, NAME, SET, VALUES, JobCommand, as_typed
from slurm_tf.cli.terminal import print_next_commands, short_path
from slurm_tf.run.folder import RunFolder


@click.command(cls=JobCommand)
@JOB
@VALUES
@NAME
@SET
def run(job: Path, values: tuple[str, ...], arguments: tuple[str, ...], name: str, overrides: tuple[str, ...]) -> None:
    """Run JOB on this machine, without Slurm.

    NAME=VALUE gives a param of the job file a value. ARGUMENTS are for the program, after those of the job file.

    It runs the same script, coordinator and agents as a job in Slurm. The exit code is that of the job: of its chief,
    or of its worker 0.
    """
    from slurm_tf.jobspec import configuration
    from slurm_tf.launch.direct import local_tasks
    from slurm_tf.submit import new_run

    loaded = configuration.load(job, os.environ, "local", overrides, values=values, arguments=arguments)
    submission = new_run.prepare(loaded, name).submission
    folder = submission.run
    watch_commands.remember(folder)
    click.echo(f"Run {folder.name} in {short_path(folder.path)}", err=True)
    if submission.number > 1:
        from slurm_tf.watch import resubmit

        click.echo(f"  {resubmit.from_where([folder])}", err=True)
    code = local_tasks.run_script(submission.script, environ_here(os.environ))
    _report(folder, job, as_typed(values, f"--name {shlex.quote(folder.name)}", arguments), code)
    sys.exit(code)


def environ_here(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the Python of slurm-tf first in PATH, unless the user has activated an environment."""
    active = any(environ.get(name) for name in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    path = environ.get("PATH", os.defpath)
    return {**environ, "PATH": path if active else f"{Path(sys.executable).parent}:{path}"}


def _report(folder: RunFolder, job: Path, again: str, code: int) -> None:
    """Print where the run's output is, and commands to type next; `again`: what to type behind JOB to go on."""
    folders = {"logs": folder.logs, "checkpoints": folder.checkpoints, "tensorboard": folder.tensorboard}
    rows = {what: path for what, path in folders.items() if any(os.scandir(path))}
    rows["model"] = folder.model_path()
    click.echo(f"\nRun {folder.name} ended with exit code {code}", err=True)
    for what, path in rows.items():
        if path:
            click.echo(f"  {what:12} {short_path(path)}", err=True)
    file = shlex.quote(str(job))
    print_next_commands(
        (f"run {file} {again}", "go on from its last checkpoint"),
        (f"explain {file}", "each value and where it came from"),
        (f"render {file} --site generic", "the batch script for a cluster"),
    )
