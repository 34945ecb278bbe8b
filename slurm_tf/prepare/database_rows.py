"""Reads the rows of databases into files of Parquet.

A database is read by connectorx in a process of its own, as that prints what goes wrong, and ends a thread with it.
"""

import os
import stat
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from slurm_tf import files
from slurm_tf.errors import ConfigError, DatasetError, StorageError
from slurm_tf.prepare import recipe_file
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.worker_process import WorkerProcess

_BATCH = 1 << 14


def write(recipe: LoadedRecipe, name: str, path: str) -> None:
    """Write the rows of a source that is a database as Parquet. Raises DatasetError and ConfigError."""
    source = recipe.keys.sources[name]
    where = f"{recipe.path}: sources.{name}"
    password = _password(recipe, source, where)
    url = _url(recipe, source, password)
    with WorkerProcess(is_silent=True) as worker:
        try:
            columns, error = worker.call(_read, url, source.query or "", tuple(source.columns), path)
        except StorageError as ended:
            raise DatasetError(ended.found, "one that reads the database to its end", where=where) from ended
    if error:
        text = error.replace(quote(password, safe=""), "***").replace(password, "***") if password else error
        raise DatasetError(f"the database cannot be read ({text})", "one that answers to the end", where=where)
    if sorted(columns) != sorted(source.columns):
        found, needed = ", ".join(columns), ", ".join(source.columns)
        raise DatasetError(f"the query returns {found}", needed, "correct the columns or the query", where)


def _url(recipe: LoadedRecipe, source: Source, password: str) -> str:
    if source.format == "sqlite":
        return f"sqlite://{quote(recipe.data_path(recipe_file.paths_of(source)[0]))}"
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


def _read(url: str, query: str, names: tuple[str, ...], path: str) -> tuple[tuple[str, ...], str]:
    """Write the rows of a query as Parquet, if they have these columns; return the columns, and what went wrong."""
    import connectorx

    columns: tuple[str, ...] = ()
    with _Errors() as errors:
        reader: pa.RecordBatchReader = connectorx.read_sql(url, query, return_type="arrow_stream", batch_size=_BATCH)
        columns = tuple(reader.schema.names)
        if sorted(columns) == sorted(names):
            with files.whole_file(path) as file, pq.ParquetWriter(file, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
    return columns, errors.text
