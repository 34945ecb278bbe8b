"""The verb export, which makes a new version of a model from a run."""

import json
import os
from pathlib import Path

import click

from slurm_tf.cli import options, run_command, terminal, watch_commands
from slurm_tf.errors import ModelError, UsageError


@click.command()
@watch_commands.RUN
@click.option("--step", default="", metavar="N", help="Of the model after this step; default: the newest.")
@click.option(
    "--to",
    metavar="MODELS/NAME",
    type=options.ExpandedPath(),
    help="The folder of the model; default: where RUN exports: `to` of [export], else export/ in its folder.",
)
@click.option(
    "--check",
    "inputs",
    metavar="INPUTS.npz",
    type=options.ExpandedPath(exists=True, dir_okay=False),
    help="Inputs of a signature by name, to check the version with; default: made-up ones.",
)
@click.option(
    "--python", default="",
    help="A Python with TensorFlow for the check; default: that of the program's container, or slurm-tf's.",
)  # fmt: skip
@options.JSON
def export(run: str, step: str, to: Path | None, inputs: Path | None, python: str, as_json: bool) -> None:
    """Export the model of RUN as the next version of a model.

    It is what the program has exported by run.export. Where it has exported nothing of the step, the program is started
    again, on this machine and in its container: it restores the checkpoint of the step and ends in run.export, without
    training.

    The version is loaded and its signatures are run by a process of its own. One that fails, or is worse than the
    served version by the metric of [export], is kept aside in .rejected; the exit code is then 65.
    """
    from slurm_tf.watch import run_exports

    selected = watch_commands.select_run(run).points()
    if len(selected) > 1:
        raise UsageError(f"run {run} has {len(selected)} sweep points", f"one of them, such as {selected[0].name}")
    if step and not (step.isascii() and step.isdecimal()):
        raise UsageError(f"found --step {step}", "the number of a step")
    exported = run_exports.export(
        run_exports.Request(
            selected[0],
            str(int(step)) if step else "",
            os.path.abspath(to) if to else "",
            os.path.abspath(inputs) if inputs else "",
            python,
            run_command.environ_here(os.environ),
        )
    )
    for line in exported.removal_words():
        click.echo(f"slurm-tf: {line}", err=True)
    if as_json:
        click.echo(json.dumps(vars(exported), indent=2))
    if exported.rejected:
        found = f"version {exported.number} is kept aside in {terminal.short_path(exported.path)}: {exported.rejected}"
        raise ModelError(found, "a version that can be served, and is no worse")
    if not as_json:
        click.echo(f"version {exported.number} is in {terminal.short_path(exported.path)}")
