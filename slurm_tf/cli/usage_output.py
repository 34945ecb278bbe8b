"""Prints and writes the reports of `slurm-tf usage`: groups, those for a person and for the leader of an account."""

import csv
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import terminal, text_table
from slurm_tf.cli.terminal import Screen

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from slurm_tf.account.exports import Answer
    from slurm_tf.account.group import GroupReport
    from slurm_tf.account.html_report import Page
    from slurm_tf.account.report import Report
    from slurm_tf.slurm.usage_limits import Limits


@dataclass(frozen=True, slots=True)
class Forms:
    """In which forms a report is wanted: --json, --csv, a page (--html FILE), rows (--parquet FILE); none: as text."""

    as_json: bool
    as_csv: bool
    html: Path | None
    parquet: Path | None

    @property
    def is_printed(self) -> bool:
        """Whether the report itself is printed; a file may be all that is wanted."""
        return self.as_json or self.as_csv or not (self.html or self.parquet)


def limits(are_wanted: bool) -> "Limits | None":
    """Ask Slurm for the user's limits; None if they are not wanted."""
    if not are_wanted:
        return None
    from slurm_tf.slurm import usage_limits

    found = usage_limits.ask()
    importlib.import_module("slurm_tf.cli.person_text")  # which prints them; nobody waits for it yet
    return found


def print_groups(report: "Report", page: "Callable[[], Page]", forms: Forms) -> None:
    """Print groups of jobs, and write them as a page."""
    from slurm_tf.cli import usage_tables

    if forms.html:
        page().write(forms.html, report)
        click.echo(f"slurm-tf: wrote {forms.html}", err=True)
    if not forms.is_printed:
        return
    if forms.as_json:
        sys.stdout.writelines(report.json())
    elif forms.as_csv:
        _print_csv(usage_tables.comma_separated(report), report)
    else:
        click.echo(usage_tables.text(report, _screen()), nl=False)


def print_person(database: "DuckDBPyConnection", report: "Report", limits: "Limits | None", as_json: bool) -> None:
    """Print the report for a person."""
    from slurm_tf.account import person
    from slurm_tf.cli import person_text

    mine, notes = person.report(database, report.window), report.remarks()
    if as_json:
        click.echo(json.dumps(person_text.person_dict(mine, limits, notes), indent=1))
    else:
        click.echo(person_text.person(mine, limits, notes, _screen()).rstrip("\n"))


def print_leader(
    database: "DuckDBPyConnection", report: "Report", page: "Callable[[], Page]", limits: "Limits | None", forms: Forms
) -> None:
    """Print the report for the leader of accounts, and write it as a page."""
    from slurm_tf.account import group
    from slurm_tf.cli import person_text

    found, notes = group.report(database, report.window), report.remarks()
    limits = limits and _of_accounts(limits, found.accounts)
    if forms.html:
        _write_leader(forms.html, page(), report, found, limits)
    if not forms.is_printed:
        return
    if forms.as_json:
        click.echo(json.dumps(person_text.group_dict(found, limits, notes), indent=1))
    elif forms.as_csv:
        _print_csv(person_text.group_csv(found), report)
    else:
        click.echo(person_text.group(found, limits, notes, _screen()).rstrip("\n"))


def _write_leader(path: Path, page: "Page", report: "Report", found: "GroupReport", limits: "Limits | None") -> None:
    from slurm_tf.account import group_page
    from slurm_tf.cli import limits_table

    table = None
    if limits:
        none = limits_table.none_words(limits)
        rows = [] if none else limits_table.cells(limits)
        lines = [none] if none else limits_table.sentences(limits)
        heads = ("Left", "Of", "What", "Whose", "In Slurm")
        table = group_page.LimitTable(f"What {limits.user} may still use", heads, rows, lines)
    group_page.write(path, page, report, found, table)
    click.echo(f"slurm-tf: wrote {path}", err=True)


def _print_csv(text: str, report: "Report") -> None:
    sys.stdout.write(text)
    for remark in report.remarks():
        click.echo(f"slurm-tf: {remark}", err=True)


def _of_accounts(limits: "Limits", accounts: Sequence[str]) -> "Limits":
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
