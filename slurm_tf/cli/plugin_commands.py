"""The verbs for steps that no job file describes: launch, and plugin for files that Slurm or TensorFlow load."""

import json
import sys
from pathlib import Path

import click

from slurm_tf import files
from slurm_tf.cli.options import JSON, ExpandedPath


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    options_metavar="--roles ROLES [OPTIONS] -- COMMAND...",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def launch(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Start a program as one task of a TensorFlow cluster, in any srun step.

    Run it as the first word after `slurm-tf`; `slurm-tf launch --help` lists its options.
    """
    # cli.main runs the verb without click; this function only puts it into the list of verbs
    context.fail(f"found {arguments} after other options; needed `slurm-tf launch` first")


@click.group()
def plugin() -> None:
    """Write or build a file that Slurm or TensorFlow loads: a TaskProlog, Horovod."""


@plugin.command("task-prolog")
@click.option("--output", "-o", type=ExpandedPath(), help="Write it to this file, which all users may run.")
@click.option("--python", default="python3", show_default=True, help="The Python of the nodes, 3.9 or later.")
@JSON
def task_prolog(output: Path | None, python: str, as_json: bool) -> None:
    r"""Write a TaskProlog that starts TensorFlow clusters in srun steps, and print its path.

    By default it is written below ~/.cache/slurm-tf, or $XDG_CACHE_HOME, which the nodes must see. To use it:

    \b
      export SLURM_TF_ROLES=ps=1,worker=3
      srun --task-prolog="$(slurm-tf plugin task-prolog)" ...
    """
    from slurm_tf.submit import task_prolog as made

    data = made.task_prolog(python)
    with files.explained("write the TaskProlog"):
        if output is None:
            output = made.keep(data, "task-prolog")
        else:
            files.write_whole(str(output), data, 0o755)
    path = files.absolute(str(output))
    click.echo(json.dumps({"file": path, "python": python}, indent=2) if as_json else path)


@plugin.command()
@click.option("--python", default=sys.executable, help="A Python with TensorFlow; default: the Python of slurm-tf.")
@click.option("--mpi", is_flag=True, help="Build it with MPI in addition to Gloo.")
@JSON
def horovod(python: str, mpi: bool, as_json: bool) -> None:
    """Build Horovod for the installed TensorFlow, install it, and print the path of its wheel.

    The wheel is kept in ~/.cache/slurm-tf, or $XDG_CACHE_HOME, and built once for each TensorFlow.
    """
    from slurm_tf.submit import horovod_wheel as made

    with files.explained("build Horovod", do="--python names the Python, XDG_CACHE_HOME a cache that can be written"):
        wheel = made.install(python, mpi, lambda text: click.echo(f"slurm-tf: {text}", err=True))
    installed = {"wheel": str(wheel), "version": made.VERSION, "python": python, "mpi": mpi}
    click.echo(json.dumps(installed, indent=2) if as_json else str(wheel))
