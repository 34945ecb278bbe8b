"""Verbs about Slurm steps that no job file made: launch, and plugin for the files that Slurm itself runs."""

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
    """Files that Slurm itself runs."""


@plugin.command("task-prolog")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write it there, for everyone to run.")
@click.option("--python", default="python3", show_default=True, help="The nodes' Python, 3.9 or later.")
def task_prolog(output: Path | None, python: str) -> None:
    """Write the TaskProlog and print its path.

    By default it goes to ~/.cache/slurm-tf, or $XDG_CACHE_HOME, which the nodes must see:
    SLURM_TF_ROLES=ps=1,worker=3 srun --task-prolog="$(slurm-tf plugin task-prolog)" ...
    """
    from slurm_tf.submit import plugin as made

    data = made.task_prolog(python)
    try:
        if output is None:
            output = made.keep(data, "task-prolog")
        else:
            files.write_whole(str(output), data, 0o755)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}", "a folder that can be written") from error
    click.echo(str(output.absolute()))
