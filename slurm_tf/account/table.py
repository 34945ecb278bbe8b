"""Splits the lines of a saved table into rows of fields, even if free text contains the delimiter or newlines."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from slurm_tf.account.diagnostics import Examples
from slurm_tf.account.rows import FREE, missing
from slurm_tf.errors import AccountingError
from slurm_tf.slurm.sacct_fields import KNOWN, named

_HEADER = re.compile(r"(?P<word>[A-Za-z]\w*)(?P<delimiter>[^A-Za-z0-9_]*)", re.ASCII)
_DIGITS = frozenset("0123456789")
_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
# No row of sacct is longer.
_LONGEST = 1 << 20
_EARLY = 3
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|\d{1,10}|Unknown|None|)", re.ASCII)
_CLOCK = re.compile(r"((\d+-)?(\d+:)?\d+:\d+(\.\d+)?|)", re.ASCII)
_NUMBER = re.compile(r"\d*", re.ASCII)
_TRES = re.compile(r"([\w/:.-]+=[^,=|]*(,[\w/:.-]+=[^,=|]*)*)?", re.ASCII)
_LINE = re.compile(r"[^\n]*")
# Patterns of fields, by which the columns of a row with too many delimiters are found.
_FORMS = {
    "JobID": re.compile(r"\d+(_(\d+|\[[^\]]*\]?)|\+\d+)?(\..*)?", re.ASCII),
    "JobIDRaw": re.compile(r"\d+(\..*)?", re.ASCII),
    "State": re.compile(r"[A-Z][A-Z_]*( by \d+)?\+?", re.ASCII),
    **dict.fromkeys(("Submit", "Eligible", "Start", "End"), _TIME),
    **dict.fromkeys(("Elapsed", "CPUTime", "TotalCPU", "UserCPU", "SystemCPU"), _CLOCK),
    **dict.fromkeys(("ElapsedRaw", "CPUTimeRAW", "AllocCPUS", "NCPUS", "NNodes", "AllocNodes", "NTasks"), _NUMBER),
    **dict.fromkeys(("ReqTRES", "AllocTRES", "TRESUsageInTot", "TRESUsageInAve", "TRESUsageInMax"), _TRES),
    "ExitCode": re.compile(r"(\d+:\d+)?", re.ASCII),
}


class Header(NamedTuple):
    """The names of a table's columns, as sacct names them, and the delimiter.

    `closed`: there is a delimiter after the last column as well (--parsable, not --parsable2).
    """

    names: tuple[str, ...]
    delimiter: str
    closed: bool
    unknown: tuple[str, ...]

    @property
    def id_at(self) -> int:
        """The index of the job id in a row."""
        return self.names.index("JobID" if "JobID" in self.names else "JobIDRaw")

    @property
    def state_at(self) -> int:
        """The index of the state in a row."""
        return self.names.index("State")

    @property
    def leads(self) -> bool:
        """Whether a column of free text is before the id, so that the first line of a row may have no id."""
        return any(name in FREE for name in self.names[: self.id_at])

    def begins(self, text: str) -> bool:
        """Whether `text` may be the beginning of a row that a newline cuts in its first field of free text or later."""
        fields = text.split(self.delimiter)
        first = next((at for at, name in enumerate(self.names) if name in FREE), len(self.names))
        return len(fields) > max(first, self.id_at) and self._matches(fields[:first])

    def fit(self, text: str) -> list[str] | None:
        """Return the fields of a row, None if it is not a row. Extra delimiters are taken as part of a free text."""
        fields = text.split(self.delimiter)
        width = len(self.names) + self.closed
        if len(fields) == width:
            return fields if self._is_row(fields) else None
        more = len(fields) - width + 1
        for name in FREE if more > 1 else ():
            if name in self.names:
                at = self.names.index(name)
                row = [*fields[:at], self.delimiter.join(fields[at : at + more]), *fields[at + more :]]
                if self._is_row(row):
                    return row
        return None

    def _is_row(self, fields: Sequence[str]) -> bool:
        return (not self.closed or not fields[-1]) and self._matches(fields)

    def _matches(self, fields: Sequence[str]) -> bool:
        named = zip(self.names, fields, strict=False)
        return all(_FORMS.get(name, _LINE).fullmatch(field) for name, field in named if name not in FREE)


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
                "save it with sacct -P and without --noheader, or name the columns with --format", where=self._where,
            )  # fmt: skip
        return header

    def _from_form(self, form: str, delimiter: str, first: str) -> Header:
        words = [word.strip().partition("%")[0] for word in form.split(",") if word.strip()]
        found = {word: named(word) for word in words}
        unknown = [word for word, name in found.items() if name is None]
        if unknown or not words:
            raise AccountingError(f"--format names {', '.join(unknown) or 'nothing'}", "fields of sacct --helpformat")
        names = tuple(name for word in words if (name := found[word]))
        closed = first.endswith(delimiter) and first.count(delimiter) == len(names)
        return Header(names, delimiter, closed, ())

    def rows(self, header: Header) -> Iterator[list[str]]:
        """Yield the rows until the end or another header, which becomes `next_header`. Raises AccountingError."""
        self.next_header = None
        delimiter, width = header.delimiter, len(header.names) + header.closed
        id_at, state_at = header.id_at, header.state_at
        held: list[str] | None = None  # a complete row, which may still continue in the next line
        part: str | None = None  # lines that are not a complete row yet
        while (line := self._next()) is not None:
            fields = line.split(delimiter)
            if (
                len(fields) == width
                and fields[id_at][:1] in _DIGITS
                and fields[state_at][:1] in _CAPITALS
                and part is None
            ):
                if held is not None:
                    yield held
                held = fields
                continue
            if fields[0] in KNOWN and (other := read_header(line, delimiter)) and not missing(other.names):
                self._give_up(part)
                part = None
                if other == header:
                    continue
                self.next_header = other
                break
            whole, held, part = self._mended(header, held, part, line)
            if whole is not None:
                yield whole
        if held is not None:
            yield held
        self._end(header, part)

    def _mended(
        self, header: Header, held: list[str] | None, part: str | None, line: str
    ) -> tuple[list[str] | None, list[str] | None, str | None]:
        """Handle a line that is not a row by itself, or that follows such a line: return a complete row or None, the
        row that is held now, and the lines that are not a complete row yet.
        """
        text = line if part is None else f"{part}\n{line}"
        alone = header.fit(line)
        if alone is not None and not (part is not None and header.leads and header.fit(text)):
            self._give_up(part)
            return held, alone, None
        self._check(header, held, text)
        row = header.fit(text)
        if row is not None:
            return held, row, None
        if held is not None and not header.begins(text):
            row = header.fit(f"{header.delimiter.join(held)}\n{text}")
            if row is not None:
                return None, row, None
        return None, held, text

    def _check(self, header: Header, held: list[str] | None, text: str) -> None:
        if (held is None and self._number <= _EARLY and header.delimiter not in text) or len(text) > _LONGEST:
            raise AccountingError(
                f"line {self._number} is no row: {text[:100]!r}",
                f"{len(header.names)} fields with {header.delimiter!r} between them", where=self._where,
            )  # fmt: skip

    def _give_up(self, part: str | None) -> None:
        if part:
            self._unreadable.add(f"before line {self._number}: {part[:200]!r}")

    def _end(self, header: Header, part: str | None) -> None:
        if part is None:
            return
        if part.count(header.delimiter) + 1 >= len(header.names):
            self._give_up(part)
        elif part.strip():
            raise AccountingError(
                f"it ends inside a row: {part[:100]!r}", f"{len(header.names)} fields", "save it again",
                where=self._where,
            )  # fmt: skip

    def _next(self) -> str | None:
        line, self._first = self._first, None
        if line is None:
            line = next(self._lines, None)
            self._number += 1
        return line


def read_header(line: str, delimiter: str = "") -> Header | None:
    """Return the header in a line, None if it is not a header. The default delimiter is the text after the first name.

    Raises AccountingError if columns are padded with blanks: sacct cuts long values in such a table.
    """
    match = _HEADER.match(line.lstrip(" "))
    delimiter = delimiter or (match["delimiter"] if match else "")
    if match is None:
        return None
    if delimiter and not delimiter.strip(" "):
        raise AccountingError("columns filled up with blanks, in which sacct cuts names", "a table of sacct -P")
    words = line.split(delimiter) if delimiter else [line]
    closed = len(words) > 1 and not words[-1]
    names = tuple(words[:-1] if closed else words)
    if KNOWN.isdisjoint(names) or not all(re.fullmatch(r"\w+", name, re.ASCII) for name in names):
        return None
    return Header(names, delimiter or "|", closed, tuple(name for name in names if name not in KNOWN))
