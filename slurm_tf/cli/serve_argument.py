"""The argument SERVICE of the verbs of serve, and the service that it means."""

from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, watch_commands

if TYPE_CHECKING:
    from slurm_tf.watch.services import Service

SERVICE = click.argument("service", metavar="SERVICE", shell_complete=completion.runs)


def find(service: str) -> "Service":
    """Return the service that was typed. Raises UsageError."""
    from slurm_tf.watch import run_discovery, services

    root = watch_commands.runs_folder()
    run_discovery.make_index(root)
    return services.find(service, root, watch_commands.connect())
