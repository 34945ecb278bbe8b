"""Reads the rows of SQLite into files of Parquet, as texts and bytes.

A column of SQLite may have values of any type, whatever it is declared as. As texts they are not changed before they
are compared with their stated types.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from slurm_tf import files
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import database_rows, recipe_file, refused_values, sql_types
from slurm_tf.prepare.recipe_file import LoadedRecipe

_BATCH = 1 << 14
_BYTES = "BLOB"


def write(recipe: LoadedRecipe, name: str, path: str) -> None:
    """Write the rows of a source as Parquet. Raises DatasetError."""
    source, where = recipe.keys.sources[name], f"{recipe.path}: sources.{name}"
    file = quote(recipe.data_path(recipe_file.paths_of(source)[0]))
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(source.query or "")
            names = [str(column[0]) for column in cursor.description or ()]
            database_rows.check_columns(names, source, where)
            kinds = {each: source.columns[each] for each in names}
            schema = pa.schema([(each, pa.binary() if kind == _BYTES else pa.string()) for each, kind in kinds.items()])
            with files.whole_file(path) as output, pq.ParquetWriter(output, schema) as writer:
                while rows := cursor.fetchmany(_BATCH):
                    columns = [_values(each, column, where) for each, column in zip(kinds.items(), zip(*rows))]
                    writer.write_batch(pa.record_batch(columns, schema=schema))
    except sqlite3.Error as error:
        raise database_rows.unread(str(error), where) from error


def _values(column: tuple[str, str], values: Sequence[object], where: str) -> pa.Array:
    name, kind = column
    if kind == _BYTES:
        wrong = [value for value in values if not isinstance(value, bytes | None)]
        if wrong:
            raise _error(f"found {wrong[0]!r}", "bytes", name, where)
        return pa.array(values, pa.binary())
    return pa.array([_text(value, name, kind, where) for value in values], pa.string())


def _text(value: object, name: str, kind: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        raise _error(f"found {len(value)} bytes", refused_values.needed(kind), name, where)
    if isinstance(value, float) and value.is_integer() and kind in sql_types.INTEGERS:
        return str(int(value))
    if isinstance(value, float) and kind.startswith("DECIMAL"):
        return f"{Decimal(repr(value)):f}"
    return repr(value)


def _error(found: str, needed: str, column: str, where: str) -> DatasetError:
    return DatasetError(found, needed, "correct the value, or cast it in the query", f"{where}: column {column}")
