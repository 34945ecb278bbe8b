"""DuckDB, in which the rows of a preparation are made: bounded memory, no extensions, and the stated sources alone."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from slurm_tf import files
from slurm_tf.errors import ConfigError, DatasetError, MemoryLimitError, SlurmTfError, StorageError
from slurm_tf.prepare import refused_values, sql_types

_CSV_LINE = re.compile(r"CSV Error on Line: (?P<line>\d+)\n(?P<rest>.*)", re.DOTALL | re.ASCII)
_CSV_FILE = re.compile(r"^  file = (?P<file>.*)$", re.MULTILINE)
_COLUMNS = re.compile(r"^Expected Number of Columns: (?P<needed>\d+) Found: (?P<found>\d+)", re.MULTILINE)
_STRICT = ("found a quote in the middle of a value, or one that is not closed", "values as RFC 4180 quotes them")


@contextlib.contextmanager
def opened(
    path: str, spill: str, mem: int, threads: int, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection to the database file `path`. `mem`: MiB; what does not fit goes to the folder `spill`."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{mem}MiB",
        "threads": str(threads),
        "temp_directory": spill,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
        "preserve_insertion_order": "true" if read_only else "false",
    }
    with explained(path):
        connection = duckdb.connect(path, read_only=read_only, config=config)
        # it would be drawn over what the command prints, where Python takes itself to be interactive
        connection.execute("SET enable_progress_bar = false")
    try:
        yield connection
    finally:
        connection.close()


def confine(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> None:
    """Let SQL read these files and no others, write none, and change no setting from now on."""
    connection.execute(f"SET allowed_paths = {sql_types.texts(list(paths))}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise an error of DuckDB as one for the user. `where`: what is not an error of a file of a source."""
    try:
        yield
    except duckdb.Error as error:
        raise _error(error, where) from error


def _error(error: duckdb.Error, where: str) -> SlurmTfError:
    text = str(error)
    if (found := refused_values.error_of(text) or _file_error(text)) is not None:
        return found
    kind, _, message = text.partition(": ")
    line = message.partition("\n")[0]
    if isinstance(error, duckdb.OutOfMemoryException):
        return MemoryLimitError(f"{where}: {line}", "more memory, or space for what does not fit", "state a larger mem")
    if isinstance(error, duckdb.IOException):
        do = "`df -h` shows how much there is" if "No space" in text else ""
        return StorageError(f"{where}: {line}", "storage that can be read and written", do)
    if isinstance(error, duckdb.PermissionException):
        return ConfigError(line, "SQL over the sources of the recipe alone", where=where)
    if isinstance(error, duckdb.DataError):
        return DatasetError(line, "values that fit", "cast or filter them in the SQL", where)
    return ConfigError(f"{kind}: {line}{_place(text)}", "SQL that DuckDB can run", where=where)


def _place(text: str) -> str:
    """Return the line and the column of the SQL that a message points to."""
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1]):
        if (match := re.match(r"LINE (\d+): ", line)) and "^" in lines[number + 1]:
            return f" (line {match[1]}, at {line[lines[number + 1].index('^') :][:30]!r})"
    return ""


def _file_error(text: str) -> DatasetError | None:
    """Return the error of a line of a file; None if the text is of another error."""
    csv = _CSV_LINE.search(text)
    if csv:
        named = _CSV_FILE.findall(csv["rest"])
        where = f"{named[-1] if named else 'CSV'}: line {csv['line']}"
        return _csv_error(csv["rest"], where)
    return None


def _csv_error(rest: str, where: str) -> DatasetError:
    columns = _COLUMNS.search(rest)
    if columns:
        return DatasetError(f"found {columns['found']} values", f"{columns['needed']}, one a column", where=where)
    if "unicode" in rest:
        return DatasetError("found bytes that are no UTF-8", "text in UTF-8", "`iconv -t UTF-8` converts a file", where)
    if "quote" in rest.partition("Possible")[0]:
        return DatasetError(*_STRICT, where=where)
    lines = [line for line in rest.splitlines() if line and not line.startswith("Original Line:")]
    return DatasetError(lines[0] if lines else "the line cannot be read", "CSV of the stated schema", where=where)


def first_row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    """Return the first row of a query that has few, () if there is none."""
    rows = connection.execute(sql).fetchall()  # fetchone() would keep the connection busy
    return rows[0] if rows else ()


def make_spill_folder(path: str) -> None:
    """Make the folder for what does not fit into memory, which we alone can read. Raises StorageError and RunError."""
    with files.explained("make the folder for what does not fit into memory", path):
        files.own_folder(path)
