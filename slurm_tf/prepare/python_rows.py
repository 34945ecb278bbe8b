"""Applies the Python function of a recipe to batches of rows, which it must change row by row."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from slurm_tf.errors import DatasetError
from slurm_tf.prepare.recipe_file import LoadedRecipe

Function: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]
_BATCH, _CHECKED, _SMALL = 1 << 14, 1000, 7
_GIVEN = "slurm_tf_batches"


def make(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, rows: str, table: str) -> None:
    """Make `table` of what the function returns for the rows of `rows`. Raises DatasetError."""
    where = f"{recipe.path}: transform.python"
    function = _function(recipe, where)
    _check_row_by_row(connection, function, rows, where)
    reading = connection.cursor()
    batches = _applied(function, iter(reading.sql(f"SELECT * FROM {rows}").to_arrow_reader(_BATCH)), where)
    first = next(batches, None)
    if first is None:
        raise DatasetError("there are no rows", "rows for the function", where=where)
    connection.register(_GIVEN, pa.RecordBatchReader.from_batches(first.schema, _all(first, batches, where)))
    try:
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {_GIVEN}")
    except duckdb.Error as error:  # an error of the function reaches us as the cause of this one
        raise (_first_of_ours(error) or error) from error
    connection.unregister(_GIVEN)
    reading.close()


def _first_of_ours(error: BaseException) -> DatasetError | None:
    at: BaseException | None = error
    while at is not None and not isinstance(at, DatasetError):
        at = at.__cause__ or at.__context__
    return at


def _function(recipe: LoadedRecipe, where: str) -> Function:
    path, name = recipe.function or ("", "")
    spec = importlib.util.spec_from_file_location("slurm_tf_transform", path)
    if spec is None or spec.loader is None:
        raise DatasetError(f"{path} cannot be imported", "a module", where=where)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (
        Exception
    ) as error:  # of the user's code, which may raise anything: the error names it, `from` keeps its lines
        raise DatasetError(
            f"{path} ended with {type(error).__name__}: {error}", "a module that can be imported", where=where
        ) from error
    function: Function = getattr(module, name)
    return function


def _applied(function: Function, batches: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        try:
            found: Any = function(batch)
        except Exception as error:  # as above
            raise DatasetError(f"the function raised {type(error).__name__}: {error}", "rows", where=where) from error
        if not isinstance(found, pa.RecordBatch):
            needed = "pyarrow.RecordBatch"
            raise DatasetError(f"the function returned {type(found).__name__}", needed, where=where)
        yield found


def _all(first: pa.RecordBatch, others: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.RecordBatch]:
    yield first
    for batch in others:
        if batch.schema != first.schema:
            found = f"the function returned the columns {batch.schema.to_string()}"
            raise DatasetError(found, f"those of the first batch, {first.schema.to_string()}", where=where)
        yield batch


def _check_row_by_row(connection: duckdb.DuckDBPyConnection, function: Function, rows: str, where: str) -> None:
    """Raise DatasetError unless the first rows become the same ones in small batches as in one."""
    table = connection.sql(f"SELECT * FROM {rows} LIMIT {_CHECKED}").to_arrow_table().combine_chunks()
    found = []
    for size in (_CHECKED, _SMALL):
        batches = list(_applied(function, iter(table.to_batches(max_chunksize=size)), where))
        found.append(pa.Table.from_batches(batches).combine_chunks() if batches else None)
    if found[0] is None or found[1] is None or not found[0].equals(found[1]):
        do = "compute what depends on other rows in the SQL"
        raise DatasetError(
            "the function returns other rows for smaller batches", "one that works row by row", do, where
        )
