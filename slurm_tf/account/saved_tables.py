"""Reads whatever people saved of sacct's: tables with any columns and delimiter, CSV files, JSON; compressed or not."""

from collections.abc import Iterator
from typing import NamedTuple

from slurm_tf.account import saved_json
from slurm_tf.account.diagnostics import Examples
from slurm_tf.account.saved_text import SavedText
from slurm_tf.account.table import Header, Table


class SavedTable(NamedTuple):
    """A table: its columns as sacct names them, those that are not known, and its rows, to be read once.

    The next table of a file begins where all rows of this one are read.
    """

    names: tuple[str, ...]
    unknown: tuple[str, ...]
    rows: Iterator[list[str]]


def read(saved: SavedText, unreadable: Examples, form: str = "", delimiter: str = "") -> Iterator[SavedTable]:
    """Yield the tables in a file; `form` names the columns of one that has no header.

    Rows that cannot be read are added to `unreadable`. Raises AccountingError if there is no table.
    """
    if saved.is_json:
        yield SavedTable(saved_json.COLUMNS, (), saved_json.rows(saved, unreadable))
        return
    table = Table(saved.lines(), saved.where, unreadable)
    header: Header | None = table.begin(form, delimiter)
    while header is not None:
        yield SavedTable(header.names, header.unknown, table.rows(header))
        header = table.next_header
