"""The error of a value that is not of its stated type: raised by a query, and told with the file, line and column."""

import json
import re
from dataclasses import asdict, dataclass

import msgspec

from slurm_tf.errors import DatasetError
from slurm_tf.prepare import source_lines, sql_types
from slurm_tf.prepare.sql_types import text

_MARK = "slurm-tf refuses "
# How many characters of a value come back from a query.
_SHOWN = 200
CORRECT = "correct the value, or the type in the recipe"
IN_WORDS = {
    "DATE": "a DATE as 2026-01-31",
    "TIME": "a TIME as 12:30:59.25",
    "TIMESTAMP": "a TIMESTAMP as 2026-01-31 12:30:59.25",
    "BLOB": r"bytes of ASCII, others as \xAA",
    "BOOLEAN": "true or false",
}


@dataclass(frozen=True)
class ColumnPlace:
    """Where a column of a source is. `source`: what the error names without a file.

    `number`, `delimiter` and `quote` are of CSV: with them the line of a value is found.
    """

    source: str
    column: str
    kind: str
    number: int = 0
    delimiter: str = ""
    quote: str = ""


@dataclass(frozen=True)
class RefusedValue:
    """A value that ended a query, as the text of its error has it. `line`, `row`: None if the query does not know."""

    place: ColumnPlace
    value: str
    file: str | None = None
    line: int | None = None
    row: int | None = None

    @property
    def where(self) -> str:
        """The place of the value, as exactly as it is known."""
        line = self.line
        if self.place.delimiter and self.file:
            line = source_lines.line_of_value(
                self.file, self.place.delimiter, self.place.quote, self.place.number, self.value, _SHOWN
            )
        numbers = [f"line {line}"] if line is not None else []
        numbers += [f"row {self.row}"] if self.row is not None else []
        return f"{self.file or self.place.source}: {', '.join([*numbers, f'column {self.place.column}'])}"


def refusal(place: ColumnPlace, file: str = "NULL", line: str = "NULL", row: str = "NULL") -> str:
    """Return the expression of SQL that ends a query for the value of a column. `file`, `line`, `row`: expressions."""
    values = f"'value', left({sql_types.name(place.column)}::VARCHAR, {_SHOWN}), 'file', {file}, 'line', {line}"
    known = f"{text(json.dumps(asdict(place)))}::JSON"
    return f"error({text(_MARK)} || json_object('place', {known}, {values}, 'row', {row})::VARCHAR)"


def error_of(message: str) -> DatasetError | None:
    """Return the error for a value that ended a query with `message`; None if another error did."""
    _, mark, rest = message.partition(_MARK)
    if not mark:
        return None
    refused = msgspec.json.decode(_first_object(rest), type=RefusedValue)
    return DatasetError(f"found {json.dumps(refused.value, ensure_ascii=False)}", needed(refused.place.kind), CORRECT,
                        refused.where)  # fmt: skip


def needed(kind: str) -> str:
    """Return what values of a type are, in words."""
    name, depth = kind.partition("[")[0], kind.count("[")
    words = IN_WORDS.get(name, f"a value of the type {name}")
    if name in sql_types.INTEGERS - {"BOOLEAN"}:
        words = f"an integer that {name} can hold"
    elif match := re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", name):
        words = f"a number that {name} holds: at most {match[2]} digits after the point"
    return f"{kind}, each value {words}" if depth else words


def _first_object(rest: str) -> str:
    """Return the object of JSON with which `rest` begins: DuckDB may say more after it."""
    _, end = json.JSONDecoder().raw_decode(rest)
    return rest[:end]
