"""The verb attach, which runs a shell or a command beside a task of a run."""

import json
import os
import sys

import click

from slurm_tf.cli import completion, options, watch_commands
from slurm_tf.errors import UsageError


@click.command(cls=options.JobCommand, options_metavar="[OPTIONS]")
@watch_commands.RUN
@click.argument("task", default="", metavar="[TASK]", shell_complete=completion.tasks)
@options.JSON
def attach(run: str, task: str, arguments: tuple[str, ...], as_json: bool) -> None:
    """Run a shell, or the command ARGUMENTS, beside a task of RUN.

    TASK is a name such as worker:1; default: the chief or worker 0. It runs on the task's node, within the memory and
    the CPUs of the job, in the working directory and with the environment of the task's program. The exit code is that
    of the command. With --json, what the command prints goes to stderr, and how and where it ended to stdout.
    """
    from slurm_tf.run import manifest
    from slurm_tf.slurm import attached_step, in_job
    from slurm_tf.watch import attach as tasks
    from slurm_tf.watch import run_overview

    if as_json and not arguments:
        raise UsageError("found --json without a command", "one behind --", "slurm-tf attach RUN --json -- nvidia-smi")
    found = watch_commands.select_run(run)
    points = run_overview.read_overviews(watch_commands.connect(), [found])
    if len(points) > 1:
        raise UsageError(f"run {found.name} has {len(points)} points", f"one of them: {points[0].selected.name}")
    living = tasks.find(points[0], task)
    site = watch_commands.site_settings(manifest.read(living.submission.manifest).site).site
    python = [site.node_python, "-IS", living.submission.launcher]
    argv = [*python, "attach", points[0].selected.folder.path, living.task, "--", *arguments]
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    if has_terminal and not arguments:
        click.echo(f"slurm-tf: beside {living.task} on {living.node}", err=True)
    words = attached_step.srun_command(living.job, living.node, argv, has_terminal)
    environ = in_job.environ_for_sbatch(os.environ)
    if not as_json:
        attached_step.become(words, environ)
    code = attached_step.run(words, environ, options.STDERR)
    where = {"run": points[0].selected.name, "task": living.task, "node": living.node, "job": living.job}
    click.echo(json.dumps({**where, "command": arguments, "exit_code": code}, indent=2))
    sys.exit(code)
