"""Findings as the verb prints them."""

from collections.abc import Sequence

import click

from slurm_tf.cli import doctor_command
from slurm_tf.doctor.findings import Finding


def shown(found: Sequence[Finding]) -> str:
    """Return the lines, without colours."""
    return click.unstyle("".join(doctor_command.lines(found)))
