"""Splits the lines of a saved table into rows of fields, even if free text contains the delimiter or newlines."""

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple

from slurm_tf.account.diagnostics import Examples
from slurm_tf.account.fields import missing
from slurm_tf.account.row_fit import FREE, RowFit
from slurm_tf.errors import AccountingError
from slurm_tf.slurm.sacct_fields import KNOWN, named

_HEADER = re.compile(r"(?P<word>[A-Za-z]\w*)(?P<delimiter>[^A-Za-z0-9_]*)", re.ASCII)
_QUOTED = re.compile(r"\"\w*\"(?P<delimiter>[^\w\"])", re.ASCII)
# With these between them, fields are quoted as in CSV files.
_OF_CSV = (",", ";", "\t")
_SPELT = {name.lower(): name for name in KNOWN}
_DIGITS = frozenset("0123456789")
_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
# No row of sacct is longer.
_LONGEST = 1 << 20
# Nor a field of it; also the default of the module csv, which other readers of this process may have changed.
_LONGEST_FIELD = 128 << 10
_EARLY = 3


class Header(NamedTuple):
    """The names of a table's columns, as sacct names them, and the delimiter.

    `closed`: there is a delimiter after the last column as well (--parsable, not --parsable2). `is_csv`: fields may be
    in quotes.
    """

    names: tuple[str, ...]
    delimiter: str
    closed: bool
    unknown: tuple[str, ...]
    is_csv: bool = False

    @property
    def id_at(self) -> int:
        """The index of the job id in a row."""
        return self.names.index("JobID" if "JobID" in self.names else "JobIDRaw")

    @property
    def state_at(self) -> int:
        """The index of the state in a row, that of the id if there is none."""
        return self.names.index("State") if "State" in self.names else self.id_at

    @property
    def leads(self) -> bool:
        """Whether a column of free text is before the id, so that the first line of a row may have no id."""
        return any(name in FREE for name in self.names[: self.id_at])


class Table:
    """The lines of a file. Rows that cannot be parsed are added to `unreadable`; errors name `where` as the file."""

    def __init__(self, lines: Iterator[str], where: str, unreadable: Examples) -> None:
        self._lines, self._where, self._unreadable = lines, where, unreadable
        self._number = 0  # of the line that was read last
        self._first: str | None = None  # a line that was read and not yet used
        self.next_header: Header | None = None

    def begin(self, form: str = "", delimiter: str = "") -> Header:
        """Return the header: the first line, or the columns that `form` names. Raises AccountingError."""
        first = self._next()
        if first is None:
            raise AccountingError("the file is empty", "a header and rows of sacct -P", where=self._where)
        header = read_header(first, delimiter)
        if form:
            if header is None:  # the first line is a row, and not a header that repeats the form
                self._first = first
            return self._from_form(form, header.delimiter if header else delimiter or "|", first)
        if header is None:
            raise AccountingError(
                f"the first line is no header: {first[:100]!r}", "the names of columns, with a delimiter between",
                "save it with sacct -P and without --noheader, or name the columns with --fields", where=self._where,
            )  # fmt: skip
        return header

    def _from_form(self, form: str, delimiter: str, first: str) -> Header:
        words = [word.strip().partition("%")[0] for word in form.split(",") if word.strip()]
        found = {word: named(word) for word in words}
        unknown = [word for word, name in found.items() if name is None]
        if unknown or not words:
            raise AccountingError(f"--fields names {', '.join(unknown) or 'nothing'}", "fields of sacct --helpformat")
        names = tuple(name for word in words if (name := found[word]))
        closed = first.endswith(delimiter) and first.count(delimiter) == len(names)
        return Header(names, delimiter, closed, (), first.startswith('"'))

    def rows(self, header: Header) -> Iterator[list[str]]:
        """Yield the rows until the end or another header, which becomes `next_header`. Raises AccountingError."""
        self.next_header = None
        return self._quoted_rows(header) if header.is_csv else self._plain_rows(header)

    def _quoted_rows(self, header: Header) -> Iterator[list[str]]:
        """Yield the rows of a CSV file, whose fields are in quotes where that is necessary."""
        width, fit = len(header.names) + header.closed, RowFit(header.names, header.delimiter)
        id_at = header.id_at
        csv.field_size_limit(_LONGEST_FIELD)
        whole = (f"{line}\n" for line in iter(self._next, None))
        reader = csv.reader(whole, delimiter=header.delimiter)
        try:
            for fields in reader:
                if len(fields) == width and fields[id_at][:1] in _DIGITS:
                    yield fields
                elif (row := fit.fit(header.delimiter.join(fields))) is not None:
                    yield row
                elif (other := _of_names(fields, header.delimiter, True)) and not missing(
                    other.names, lengths_suffice=True
                ):
                    if other != header:
                        self.next_header = other
                        return
                elif any(fields):
                    self._unreadable.add(f"line {self._number}: {header.delimiter.join(fields)[:200]!r}")
        except csv.Error as error:
            raise AccountingError(
                f"line {self._number} is no row of a CSV file: {error}", "fields in quotes, or a table of sacct -P",
                where=self._where,
            ) from error  # fmt: skip

    def _plain_rows(self, header: Header) -> Iterator[list[str]]:
        delimiter, width = header.delimiter, len(header.names) + header.closed
        fit = RowFit(header.names, delimiter, header.closed)
        id_at, state_at = header.id_at, header.state_at
        first = _CAPITALS if "State" in header.names else _DIGITS
        held: list[str] | None = None  # a complete row, which may still continue in the next line
        part: str | None = None  # lines that are not a complete row yet
        while (line := self._next()) is not None:
            fields = line.split(delimiter)
            if len(fields) == width and fields[id_at][:1] in _DIGITS and fields[state_at][:1] in first and part is None:
                if held is not None:
                    yield held
                held = fields
                continue
            if fields[0] in KNOWN and (other := read_header(line, delimiter)) and _is_table(other):
                self._give_up(header, part)
                part = None
                if other == header:
                    continue
                self.next_header = other
                break
            whole, held, part = self._mended(header, fit, held, part, line)
            if whole is not None:
                yield whole
        if held is not None:
            yield held
        self._give_up(header, part)

    def _mended(
        self, header: Header, fit: RowFit, held: list[str] | None, part: str | None, line: str
    ) -> tuple[list[str] | None, list[str] | None, str | None]:
        """Handle a line that is not a row by itself, or that follows such a line: return a complete row or None, the
        row that is held now, and the lines that are not a complete row yet.
        """
        text = line if part is None else f"{part}\n{line}"
        alone = fit.fit(line)
        if alone is not None and not (part is not None and header.leads and fit.fit(text)):
            self._give_up(header, part)
            return held, alone, None
        self._check(header, held, text)
        row = fit.fit(text)
        if row is not None:
            return held, row, None
        if held is not None and not _begins(header, fit, text):
            row = fit.fit(f"{header.delimiter.join(held)}\n{text}")
            if row is not None:
                return None, row, None
        return None, held, text

    def _check(self, header: Header, held: list[str] | None, text: str) -> None:
        if (held is None and self._number <= _EARLY and header.delimiter not in text) or len(text) > _LONGEST:
            raise AccountingError(
                f"line {self._number} is no row: {text[:100]!r}",
                f"{len(header.names)} fields with {header.delimiter!r} between them", where=self._where,
            )  # fmt: skip

    def _give_up(self, header: Header, part: str | None) -> None:
        """Note each row that `part`, some lines without a complete row, holds the beginning of; at least one."""
        if not part or not part.strip():
            return
        lines = part.split("\n")
        begins = [line for line in lines if header.delimiter in line and line[:1] in _DIGITS] if lines[1:] else []
        for line in begins or [part]:
            self._unreadable.add(f"before line {self._number}: {line[:200]!r}")

    def _next(self) -> str | None:
        line, self._first = self._first, None
        if line is None:
            line = next(self._lines, None)
            self._number += 1
        return line


def _begins(header: Header, fit: RowFit, text: str) -> bool:
    """Whether `text` may be the beginning of a row that a newline cuts in its first field of free text or later."""
    fields = text.split(header.delimiter)
    first = next((at for at, name in enumerate(header.names) if name in FREE), len(header.names))
    return len(fields) > max(first, header.id_at) and fit.matches(fields[:first])


def _is_table(header: Header) -> bool:
    return not missing(header.names, lengths_suffice=True)


def read_header(line: str, delimiter: str = "") -> Header | None:
    """Return the header in a line, None if it is not a header. The default delimiter is the text after the first name.

    Raises AccountingError if columns are padded with blanks: sacct cuts long values in such a table.
    """
    match = _QUOTED.match(line) or _HEADER.match(line.lstrip(" ,;\t"))
    if match is None:
        return None
    delimiter = delimiter or match["delimiter"]
    if delimiter and not delimiter.strip(" "):
        raise AccountingError("columns filled up with blanks, in which sacct cuts names", "a table of sacct -P")
    if len(delimiter) == 1 and (delimiter in _OF_CSV or line.startswith('"')):
        return _of_names(next(csv.reader([line], delimiter=delimiter)), delimiter, True)
    return _of_names(line.split(delimiter) if delimiter else [line], delimiter or "|", False)


def _of_names(words: list[str], delimiter: str, is_csv: bool) -> Header | None:
    """Return the header that these words are, None if they are not names of columns."""
    closed = len(words) > 1 and not words[-1]
    names = tuple(_SPELT.get(name.lower(), name) for name in (words[:-1] if closed else words))
    if KNOWN.isdisjoint(names) or not all(is_csv or re.fullmatch(r"\w+", name, re.ASCII) for name in names):
        return None
    unknown = tuple(name for name in names if name not in KNOWN and name)
    return Header(names, delimiter, closed, unknown, is_csv)
