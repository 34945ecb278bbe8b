"""The verb completion, which prints what makes a shell complete."""

import json

import click

from slurm_tf.cli import completion_shells, options


@click.command()
@click.argument("shell", type=click.Choice(list(completion_shells.SHELLS)))
@options.JSON
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script with which SHELL completes verbs, options, runs, tasks, sites, job files and params.

    For bash, eval "$(slurm-tf completion bash)" in ~/.bashrc; `slurm-tf docs install` has the other shells.
    """
    root = context.find_root().command
    kind = completion_shells.SHELLS[shell]
    script = kind(root, {}, completion_shells.PROGRAM, completion_shells.VARIABLE).source()
    if as_json:
        click.echo(json.dumps({"shell": shell, "script": script}, indent=2))
    else:
        click.echo(script, nl=False)
