"""The verb doctor, which finds what makes jobs fail on a cluster."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, submit_commands, terminal
from slurm_tf.cli.terminal import printable
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.doctor.findings import Finding

_COLOURS = {"ok": "green", "unknown": "yellow", "warning": "yellow", "error": "red"}
_INDENT = " " * 9
_NARROWEST = 24


@click.command(cls=options.SbatchCommand, context_settings=submit_commands.SETTINGS, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[JOB] [SBATCH OPTIONS]")
@options.SITE
@options.JSON
def doctor(words: tuple[str, ...], arguments: tuple[str, ...], site: str, as_json: bool) -> None:
    """Find what makes jobs fail here: Slurm, accounting, storage, limits.

    Each check is OK, a warning, an error, or unknown where it could not be made. The exit code is 1 if there is an
    error. With JOB, the partition, account and environment are those of this job file.
    """
    from slurm_tf.doctor import examination_job, findings, login_node

    path, given = _parse(words, arguments)
    job = examination_job.load(path, os.environ, site, 1, given)
    found = login_node.examine(job, os.environ)
    if as_json:
        click.echo(json.dumps([findings.as_dict(each) for each in found], indent=2))
    else:
        click.echo("".join(lines(found)), nl=False)
    sys.exit(1 if findings.has_errors(found) else 0)


def _parse(words: Sequence[str], arguments: Sequence[str]) -> "tuple[Path | None, dict[str, str | bool]]":
    """Return the job file, and options of sbatch by their long names. Raises UsageError."""
    from slurm_tf.jobspec import sbatch_options

    plain, asked = sbatch_options.parse(words)
    if len(plain) > 1 or arguments:
        raise UsageError(f"found {' '.join([*plain[1:], *arguments])!r}", "at most a job file, and options of sbatch")
    if plain and not Path(plain[0]).is_file():
        raise UsageError(f"there is no job file {plain[0]}", "a .toml file, or none")
    refused = sorted(sbatch_options.OF_VERB & set(asked))
    if refused:
        raise UsageError(f"found the option --{refused[0]}", "options that choose nodes, such as --partition")
    return (Path(plain[0]) if plain else None), asked


def lines(found: "Sequence[Finding]") -> list[str]:
    """Return findings as lines of text, with what was needed and what to do below what is not OK."""
    text, screen = list[str](), terminal.screen()
    width = max((len(each.check) for each in found), default=0)
    for each in found:
        state = each.state.value
        word = f"{state if state != 'ok' else 'OK':7}"
        word = terminal.coloured(word, _COLOURS[state]) if screen.colour else word
        where = f" [{each.where}]" if each.where else ""
        sentences = [each.found + where]
        sentences += [f"{name}: {more}" for name, more in (("needed", each.needed), ("do", each.do)) if more]
        parts = [part for sentence in sentences for part in _folded(printable(sentence), len(_INDENT) + width + 2)]
        heads = [f"{word}  {each.check:{width}}", *[f"{_INDENT}{'':{width}}"] * (len(parts) - 1)]
        text += [f"{head}  {part}\n" for head, part in zip(heads, parts, strict=True)]
    return text


def _folded(sentence: str, indent: int) -> list[str]:
    """Return a sentence in lines that fit the terminal, `indent` columns from its edge."""
    from slurm_tf.cli import text_table

    width = terminal.screen().width
    return text_table.folded(sentence, max(_NARROWEST, width - indent), breaks=False) if width else [sentence]
