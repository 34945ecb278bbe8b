"""Reads the rows of MariaDB, MySQL and PostgreSQL into files of Parquet.

A database is read by connectorx in a process of its own, as that prints what goes wrong, and ends a thread with it. It
has no decimals of more than 28 digits or 10 after the point, writes JSON anew, takes 24:00 for 0:00 and infinity for a
day of the year 262142 (0.4.6): the database makes texts of such columns.
"""

import os
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from slurm_tf import files
from slurm_tf.errors import ConfigError, DatasetError, StorageError
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.worker_process import WorkerProcess

_BATCH = 1 << 14
_ROWS = "slurm_tf_rows"
# Of each database its type of texts, the types of a schema that are read as such, and what is around a name.
_TEXTS = {
    "mysql": ("CHAR", ("DECIMAL",), "`"),
    "postgresql": ("TEXT", ("DECIMAL", "VARCHAR", "DATE", "TIME", "TIMESTAMP"), '"'),
}


def write(recipe: LoadedRecipe, name: str, path: str) -> None:
    """Write the rows of a source that is a database as Parquet. Raises DatasetError and ConfigError."""
    source = recipe.keys.sources[name]
    where = f"{recipe.path}: sources.{name}"
    password = _password(recipe, source, where)
    url = _url(source, password)
    with WorkerProcess(is_silent=True) as worker:
        try:
            columns, error = worker.call(_read, url, source, path)
        except StorageError as ended:
            raise DatasetError(ended.found, "one that reads the database to its end", where=where) from ended
    if error:
        text = error.replace(quote(password, safe=""), "***").replace(password, "***") if password else error
        raise unread(text, where)
    check_columns(columns, source, where)


def unread(why: str, where: str) -> DatasetError:
    """Return the error of a database that cannot be read."""
    needed, do = "one that answers to the end", "CAST a column of a type that cannot be read in the query"
    return DatasetError(f"the database cannot be read ({why})", needed, do, where)


def check_columns(found: Sequence[str], source: Source, where: str) -> None:
    """Raise DatasetError if a query returns other columns than the schema has."""
    if sorted(found) != sorted(source.columns):
        words = f"the query returns {', '.join(found)}"
        raise DatasetError(words, ", ".join(source.columns), "correct the columns or the query", where)


def _url(source: Source, password: str) -> str:
    before, _, after = (source.url or "").partition("@")
    return f"{before}:{quote(password, safe='')}@{after}" if password else f"{before}@{after}"


def _password(recipe: LoadedRecipe, source: Source, where: str) -> str:
    """Return the password of a database, "" if none is stated. Raises ConfigError."""
    if source.password_variable:
        if not (value := os.environ.get(source.password_variable)):
            raise ConfigError(f"{source.password_variable} is not set", "the password in it", where=where)
        return value
    if not source.password_file:
        return ""
    path = recipe.data_path(source.password_file)
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read", "a file with the password", where=f"{where}.password-file"
        ) from error
    if mode & 0o077:
        found = f"{path} has mode {mode:o}: others can read it"
        raise ConfigError(found, "one that you alone can read", f"chmod 600 {path}", f"{where}.password-file")
    return text


class _Errors:
    """Takes the errors of connectorx: a RuntimeError, or a panic of a thread of Rust, which is no Exception."""

    text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if kind is None or not (issubclass(kind, RuntimeError) or kind.__name__ == "PanicException"):
            return False
        self.text = str(error).partition("\n")[0] or kind.__name__
        return True


def _read(url: str, source: Source, path: str) -> tuple[tuple[str, ...], str]:
    """Write the rows of a query as Parquet, if they have these columns; return the columns, and what went wrong."""
    import connectorx

    def read(query: str) -> pa.RecordBatchReader:
        reader: pa.RecordBatchReader = connectorx.read_sql(url, query, return_type="arrow_stream", batch_size=_BATCH)
        return reader

    columns: tuple[str, ...] = ()
    query = (source.query or "").strip().rstrip(";")
    with _Errors() as errors:
        columns = tuple(read(f"SELECT * FROM (\n{query}\n) AS {_ROWS} LIMIT 0").schema.names)
        if sorted(columns) == sorted(source.columns):
            values = ", ".join(_value(source, name) for name in columns)
            reader = read(f"SELECT {values} FROM (\n{query}\n) AS {_ROWS}")
            with files.whole_file(path) as file, pq.ParquetWriter(file, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
    return columns, errors.text


def _value(source: Source, column: str) -> str:
    """Return a column in the SQL of the database, as text where it would be changed."""
    text, kinds, mark = _TEXTS[source.format]
    name = mark + column.replace(mark, 2 * mark) + mark
    is_text = source.columns[column].partition("(")[0] in kinds and not source.columns[column].endswith("]")
    return f"CAST({name} AS {text}) AS {name}" if is_text else name
