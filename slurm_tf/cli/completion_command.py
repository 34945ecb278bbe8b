"""The verb completion, which prints what makes a shell complete."""

import click

from slurm_tf.cli import completion_shells


@click.command()
@click.argument("shell", type=click.Choice(list(completion_shells.SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes verbs, options, runs, tasks, sites, job files and params.

    For bash, eval "$(slurm-tf completion bash)" in ~/.bashrc; `slurm-tf docs install` has the other shells.
    """
    root = context.find_root().command
    kind = completion_shells.SHELLS[shell]
    click.echo(kind(root, {}, completion_shells.PROGRAM, completion_shells.VARIABLE).source(), nl=False)
