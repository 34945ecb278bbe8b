"""Asks on the terminal for the params of a job: each with its help, default and limits, and checks each answer."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from slurm_tf.cli.terminal import printable
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.configuration import Job
    from slurm_tf.jobspec.params import ParamForm


def ask(job: "Job") -> Mapping[str, str]:
    """Return the values that were typed, on the command line or now; what is the default is left out.

    Raises UsageError without a terminal, or ConfigError.
    """
    from slurm_tf.jobspec import params

    if not sys.stdin.isatty():
        raise UsageError("found --ask, and nobody can be asked here", "NAME=VALUE for each param", "leave out --ask")
    given = dict(job.given)
    for form in params.forms(job):
        if form.name not in given:
            typed = _ask(form)
            if typed is not None:
                given[form.name] = typed
    return given


def _ask(form: "ParamForm") -> str | None:
    """Return what was typed for a param, None where that is its default, or nothing for one that is swept."""
    from slurm_tf.run.placeholders import value_text

    needed = f"{form.needed}; Enter alone for all values of the sweep" if form.swept else form.needed
    about = f"{form.help} ({needed})" if form.help else needed
    click.echo(printable(about), err=True)
    default = "" if form.default is None else value_text(form.default)
    if form.swept:
        default = ", ".join(map(value_text, form.swept))

    def checked(typed: str) -> str:
        wrong = "" if typed == default and not form.required else form.wrong(typed)
        if wrong:
            raise click.BadParameter(printable(wrong))
        return typed

    shown = None if form.required else default
    typed = click.prompt(form.name, default=shown, value_proc=checked, err=True, show_default=bool(default))
    return None if typed == default else str(typed)
