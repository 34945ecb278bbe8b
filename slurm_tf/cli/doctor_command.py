"""The verb doctor, which finds what makes jobs fail on a cluster."""

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, submit_commands, terminal, watch_commands
from slurm_tf.cli.terminal import printable
from slurm_tf.errors import SlurmTfError, UsageError

if TYPE_CHECKING:
    from slurm_tf.doctor.examination_job import Examination
    from slurm_tf.doctor.findings import Finding

_COLOURS = {"ok": "green", "unknown": "yellow", "warning": "yellow", "error": "red"}
# How many nodes are examined if nobody says.
_NODES = 2
_INDENT = " " * 9
_NARROWEST = 24


class _DoctorCommand(options.SbatchCommand):
    """Takes --nodes with or without a number, which may stand before a job file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words; --nodes alone stands for --nodes=2."""
        words = list(args)
        for place, word in enumerate(args):
            following = args[place + 1] if place + 1 < len(args) else ""
            if word in ("--nodes", "-N") and not following.isdigit():
                words[place] = f"--nodes={_NODES}"
        return super().parse_args(ctx, words)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the words of the usage line: there is no program that arguments could be for."""
        return click.Command.collect_usage_pieces(self, ctx)


@click.command(cls=_DoctorCommand, context_settings=submit_commands.SETTINGS, options_metavar="[OPTIONS]")
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="[JOB] [SBATCH OPTIONS]", shell_complete=completion.job_words
)
@click.option(
    "--nodes", "-N", type=click.IntRange(1, 1000), metavar="[COUNT]", help="Examine nodes as well; default: 2 of them."
)
@click.option(
    "--timeout",
    metavar="TIME",
    default="15",
    show_default=True,
    help="Wait so long for the start of the job of --nodes, as sbatch --time: 15 (minutes), 01:00:00.",
)
@options.SITE
@options.JSON
def doctor(
    words: tuple[str, ...], arguments: tuple[str, ...], nodes: int | None, timeout: str, site: str, as_json: bool
) -> None:  # fmt: skip
    """Find what makes jobs fail here: Slurm, accounting, storage, limits, nodes.

    Each check is OK, a warning, an error, or unknown where it could not be made. The exit code is 1 if there is an
    error. With JOB, the partition, account and environment are those of this job file. With --nodes, a short job
    examines compute nodes; Ctrl-C cancels it.
    """
    from slurm_tf import units
    from slurm_tf.doctor import examination_job, findings, login_node

    path, given = _parse(words, arguments)
    limit = units.parse_time(timeout)
    examination = examination_job.load(path, os.environ, site, nodes or 1, given)
    found = login_node.examine(examination.job, os.environ)
    if not as_json:
        _print(found)
    if nodes:
        of_nodes = _examine_nodes(examination, math.inf if limit is None else limit.total_seconds())
        found += of_nodes
        if not as_json:
            _print(of_nodes)
    if as_json:
        click.echo(json.dumps([findings.as_dict(each) for each in found], indent=2))
    sys.exit(1 if findings.has_errors(found) else 0)


def _print(found: "Sequence[Finding]") -> None:
    click.echo("".join(lines(found)), nl=False)
    sys.stdout.flush()


def _examine_nodes(examination: "Examination", timeout: float) -> "list[Finding]":
    """Return what a job on nodes finds, or why there is none."""
    from slurm_tf.doctor import findings, node_checks, node_job

    if examination.job.site.scheduler == "local":
        return [findings.unknown("job", f"site {examination.job.site_name} has no Slurm")]
    try:
        examined = node_job.run(examination, watch_commands.connect(), timeout, lambda text: click.echo(text, err=True))
    except SlurmTfError as problem:
        return [findings.failed("job", problem, "--partition, --account and --qos choose others")]
    return node_checks.check(examined)


def _parse(words: Sequence[str], arguments: Sequence[str]) -> "tuple[Path | None, dict[str, str | bool]]":
    """Return the job file, and options of sbatch by their long names. Raises UsageError."""
    from slurm_tf.jobspec import sbatch_options

    plain, asked = sbatch_options.parse(words)
    if len(plain) > 1 or arguments:
        raise UsageError(f"found {' '.join([*plain[1:], *arguments])!r}", "at most a job file, and options of sbatch")
    if plain and not Path(plain[0]).is_file():
        raise UsageError(f"there is no job file {plain[0]}", "a .toml file, or none")
    refused = sorted((sbatch_options.OF_VERB | {"clusters"}) & set(asked))
    if refused:
        needed = "options that choose nodes of this cluster, such as --partition"
        raise UsageError(f"found the option --{refused[0]}", needed)
    return (Path(plain[0]) if plain else None), asked


def lines(found: "Sequence[Finding]") -> list[str]:
    """Return findings as lines of text, with what was needed and what to do below what is not OK."""
    text, screen = list[str](), terminal.screen()
    width = max((len(each.check) for each in found), default=0)
    for each in found:
        state = each.state.value
        word = f"{state if state != 'ok' else 'OK':7}"
        word = terminal.coloured(word, _COLOURS[state]) if screen.colour else word
        where = f"{each.where}: " if each.where else ""
        sentences = [where + " | ".join(each.found.splitlines())]  # Slurm's messages have several
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
