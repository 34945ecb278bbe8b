"""Gives the tables of a report to those who know SQL or Parquet: answers a query, writes a file of rows.

A query sees the tables and nothing else: it reads no file, writes none, loads no extension and changes no setting.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_tf.account import columns, connection
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NAMED = {"jobs": (*columns.JOBS, *columns.OF_RUNS), "steps": columns.STEPS}
# In this order: the last one forbids to undo the others.
_LOCKS = (
    "set python_enable_replacements = false", "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false", "set enable_external_access = false", "set lock_configuration = true",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query returned: the names of its columns, and its rows; None is NULL."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def answer(database: "DuckDBPyConnection", query: str) -> Answer:
    """Return the rows of one SELECT over the tables `jobs` and `steps`; the database can read nothing else afterwards.

    Raises UsageError with DuckDB's own message.
    """
    import _duckdb  # noqa: PLC0415 - only a report takes the time

    try:
        statements = database.extract_statements(query)
    except _duckdb.Error as error:
        raise _refused(error) from error
    kinds = [each.type.name for each in statements]
    if kinds != ["SELECT"]:
        raise UsageError(f"found {' and '.join(kinds) or 'no statement'} in --sql", "one SELECT")
    _keep(database)
    connection.optimize(database)
    for lock in _LOCKS:
        database.execute(lock)
    try:
        found = database.execute(query)
        names = tuple(str(column[0]) for column in found.description)
        return Answer(names, found.fetchall())
    except _duckdb.Error as error:
        raise _refused(error) from error


def _keep(database: "DuckDBPyConnection") -> None:
    """Make tables of the views, whose files cannot be read once the database is locked."""
    for table in _NAMED:
        chosen = "where incarnation in (select incarnation from jobs)" if table == "steps" else ""
        database.execute(f"create table kept as select {_columns(table)} from {table} {chosen}")
        views = database.execute("select view_name from duckdb_views() where view_name = $1", [table]).fetchall()
        database.execute(f"drop {'view' if views else 'table'} {table}")
        database.execute(f"alter table kept rename to {table}")


def _columns(table: str) -> str:
    return ", ".join(f'"{column.name}"' for column in _NAMED[table])


def _refused(error: Exception) -> UsageError:
    return UsageError(f"--sql: {error}", "a query that DuckDB can answer", "the columns are in docs/usage.md")


def write_parquet(database: "DuckDBPyConnection", path: Path) -> int:
    """Write the rows of `jobs` as Parquet, which only the user can read; return their number.

    The file is written aside and renamed: a reader sees the old one or the new one. Raises UsageError.
    """
    import _duckdb  # noqa: PLC0415 - only a report takes the time

    whole = os.path.abspath(path)
    try:
        number, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=os.path.dirname(whole))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        target = aside.replace("'", "''")
        found = database.execute(
            f"copy (select {_columns('jobs')} from jobs) to '{target}' (format parquet, use_tmp_file false)"
        ).fetchone()
        os.fsync(number)
        os.replace(aside, whole)
    except (OSError, _duckdb.IOException) as error:
        os.unlink(aside)
        raise _unwritable(path, error) from error
    finally:
        os.close(number)
    return int(found[0]) if found else 0


def _unwritable(path: Path, error: Exception) -> UsageError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return UsageError(f"{path}: {why}", "a file that can be written")
