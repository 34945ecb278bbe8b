"""Which job a command line means: JOB or -t TEMPLATE, then NAME=VALUE for its params; --ask asks for them."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.configuration import Job
    from slurm_tf.jobspec.job_templates import TemplateFile

WORDS = click.argument("words", nargs=-1, metavar="JOB [NAME=VALUE]...", shell_complete=completion.job_words)
_TEMPLATE = "A job template in place of JOB: `slurm-tf templates list` shows them."
TEMPLATE = click.option(
    "--template", "-t", default="", metavar="NAME", help=_TEMPLATE, shell_complete=completion.templates
)
# of verbs that take options of sbatch: -t is --time there as well, see jobspec/sbatch_options.py
LONG_TEMPLATE = click.option(
    "--template", default="", metavar="NAME", help=f"{_TEMPLATE} So does -t NAME.", shell_complete=completion.templates
)
ASK = click.option("--ask", is_flag=True, help="Ask for each param, with its help, default and limits.")


def load(
    words: Sequence[str],
    template: str,
    arguments: Sequence[str],
    ask: bool,
    site: str,
    overrides: Sequence[str],
    sbatch: Mapping[str, str | bool] = {},
) -> "Job":
    """Return the job of `words` (WORDS); `sbatch`: options of sbatch by their long names. Raises SlurmTfError."""
    from slurm_tf.jobspec import configuration

    source, values = _source(words, template)
    job = configuration.load(source, os.environ, site, overrides, sbatch, values, arguments)
    if ask:
        from slurm_tf.cli import ask_params

        job = replace(job, given=ask_params.ask(job))
        click.echo(f"slurm-tf: next time: {_again(job, site, overrides, sbatch, arguments)}", err=True)
    return job


def as_typed(job: "Job", more: str, arguments: Sequence[str]) -> str:
    """Return the words of a command for `job`, with the values of its params, `more` and the program's arguments."""
    values = [shlex.quote(f"{name}={value}") for name, value in job.given.items()]
    program = ["--", shlex.join(arguments)] if arguments else []
    return " ".join(filter(None, [job.typed, *values, more, *program]))


def _source(words: Sequence[str], template: str) -> "tuple[Path | TemplateFile, Sequence[str]]":
    """Return the job file or the template, and the values of its params. Raises UsageError."""
    from slurm_tf.jobspec import job_templates, layers, user_settings

    if template:
        if words and "=" not in words[0]:
            needed = "a job file or a job template; a time as sbatch writes it is --time, or -t"
            raise UsageError(f"found the job file {words[0]} and the job template {template!r}", needed)
        return job_templates.find(template, user_settings.trusted_users()), words
    if not words:
        verb = click.get_current_context().info_name
        usage = f"slurm-tf {verb} JOB.toml [NAME=VALUE]..., or slurm-tf {verb} -t TEMPLATE [NAME=VALUE]..."
        raise UsageError("found no job file", "one, or a job template", usage)
    path, *values = words
    if path != layers.STANDARD_INPUT and not Path(path).is_file():
        raise UsageError(f"there is no job file {path}", "a .toml file, or - for standard input", _template_hint(path))
    return Path(path), values


def _template_hint(word: str) -> str:
    """Return how the template `word` is named, "" if there is none."""
    from slurm_tf.jobspec import job_templates, user_settings

    known = {each.name for each in job_templates.template_files(user_settings.trusted_users(), [])}
    verb = click.get_current_context().info_name
    return f"the job template {word}: slurm-tf {verb} -t {word}" if word in known else ""


def _again(
    job: "Job", site: str, overrides: Sequence[str], sbatch: Mapping[str, str | bool], arguments: Sequence[str]
) -> str:
    """Return the command that means the same without questions."""
    context = click.get_current_context()
    name = context.params.get("name")
    more = [f"--site={site}"] if "site" in context.params and site else []
    more += [f"--name={name}"] if name else []
    more += [f"--set={each}" for each in overrides]
    more += [f"--{option}" if value is True else f"--{option}={value}" for option, value in sbatch.items()]
    return f"slurm-tf {context.info_name} {as_typed(job, shlex.join(more), arguments)}"
