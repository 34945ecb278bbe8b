"""Prints the reports of `slurm-tf usage`: groups, the person's and the group leader's report, the answer to a query."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import terminal, text_table
from slurm_tf.cli.terminal import Screen
from slurm_tf.slurm import usage_limits
from slurm_tf.slurm.usage_limits import Limits

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from slurm_tf.account.exports import Answer
    from slurm_tf.account.report import Report


@contextmanager
def limits_meanwhile(are_wanted: bool) -> Iterator[Callable[[], Limits | None]]:
    """Ask Slurm for the user's limits while sacct is read; yield the function that returns them, None if not wanted."""
    if not are_wanted:
        yield lambda: None
        return
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(usage_limits.ask)
        yield asked.result


def print_report(report: "Report", as_json: bool, as_csv: bool) -> None:
    """Print groups of jobs."""
    from slurm_tf.cli import usage_tables

    if as_json:
        sys.stdout.writelines(report.json())
    elif as_csv:
        sys.stdout.write(usage_tables.comma_separated(report))
        for remark in report.remarks():
            click.echo(f"slurm-tf: {remark}", err=True)
    else:
        click.echo(usage_tables.text(report, _screen()), nl=False)


def print_question(
    database: "DuckDBPyConnection", report: "Report", limits: Limits | None, is_of_group: bool, as_json: bool
) -> None:
    """Print the report for a person, or for the leader of accounts."""
    from slurm_tf.account import group, person
    from slurm_tf.cli import person_text

    notes, screen = report.remarks(), _screen()
    if is_of_group:
        of_group = group.report(database, report.window)
        limits = limits and _of_accounts(limits, of_group.accounts)
        found = person_text.group_dict(of_group, limits, notes) if as_json else {}
        text = "" if as_json else person_text.group(of_group, limits, notes, screen)
    else:
        mine = person.report(database, report.window)
        found = person_text.person_dict(mine, limits, notes) if as_json else {}
        text = "" if as_json else person_text.person(mine, limits, notes, screen)
    click.echo(json.dumps(found, indent=1) if as_json else text.rstrip("\n"))


def _of_accounts(limits: Limits, accounts: Sequence[str]) -> Limits:
    """Return the limits of the accounts themselves, and of QOS: not those of one user."""
    owners = {f"account {name}" for name in accounts}
    kept = [each for each in limits.limits if each.owner in owners or each.owner.startswith("QOS ")]
    return replace(limits, user=", ".join(accounts), limits=tuple(kept))


def print_answer(answer: "Answer", as_json: bool, as_csv: bool) -> None:
    """Print what a query returned: NULL is "-" in a table, null in JSON, and empty in CSV."""
    if as_json:
        rows = [dict(zip(answer.names, row, strict=True)) for row in answer.rows]
        click.echo(json.dumps(rows, indent=1, default=str))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.names)
        writer.writerows(answer.rows)
    else:
        cells = [["-" if value is None else str(value) for value in row] for row in answer.rows]
        numbers = [
            name
            for at, name in enumerate(answer.names)
            if all(isinstance(row[at], int | float | None) for row in answer.rows)
        ]
        click.echo(text_table.table(answer.names, cells, right=numbers, screen=_screen()), nl=False)


def _screen() -> Screen:
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Screen(shutil.get_terminal_size().columns if narrow else None, terminal.has_colour(sys.stdout))
