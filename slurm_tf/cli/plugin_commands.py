"""Verbs about Slurm steps that no job file made: launch, and plugin for what Slurm and TensorFlow load."""

import sys
from pathlib import Path

import click

from slurm_tf import files
from slurm_tf.errors import UsageError


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    options_metavar="--roles ROLES [OPTIONS] -- COMMAND...",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def launch(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Start a program as this task of a TensorFlow cluster, in any srun step.

    cli.main runs it without click; this is its place in the list of verbs.
    """
    context.fail(f"found {arguments} after other options; needed `slurm-tf launch` first")


@click.group()
def plugin() -> None:
    """What Slurm and TensorFlow load: a TaskProlog, Horovod."""


@plugin.command("task-prolog")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write it there, for everyone to run.")
@click.option("--python", default="python3", show_default=True, help="The nodes' Python, 3.9 or later.")
def task_prolog(output: Path | None, python: str) -> None:
    """Write the TaskProlog and print its path.

    By default it goes to ~/.cache/slurm-tf, or $XDG_CACHE_HOME, which the nodes must see:
    SLURM_TF_ROLES=ps=1,worker=3 srun --task-prolog="$(slurm-tf plugin task-prolog)" ...
    """
    from slurm_tf.submit import task_prolog as made

    data = made.task_prolog(python)
    try:
        if output is None:
            output = made.keep(data, "task-prolog")
        else:
            files.write_whole(str(output), data, 0o755)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}", "a folder that can be written") from error
    click.echo(str(output.absolute()))


@plugin.command()
@click.option("--python", default=sys.executable, help="A Python with TensorFlow; default: the one of slurm-tf.")
@click.option("--mpi", is_flag=True, help="With MPI beside Gloo.")
def horovod(python: str, mpi: bool) -> None:
    """Build Horovod for the TensorFlow that is installed, install it, and print the wheel's path.

    The wheel stays in ~/.cache/slurm-tf, or $XDG_CACHE_HOME: for the same TensorFlow it is built once.
    """
    from slurm_tf.submit import horovod_wheel as made

    try:
        wheel = made.install(python, mpi, lambda text: click.echo(f"slurm-tf: {text}", err=True))
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", "a Python, and a cache that can be written") from error
    click.echo(str(wheel))
