"""Applies the Python function of a recipe to batches of rows, which it must change row by row."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from slurm_tf.errors import DatasetError
from slurm_tf.prepare.recipe_file import LoadedRecipe

Function: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]
_BATCH = 1 << 14
# One batch of so many is checked: its first _SMALL_ROWS rows in batches of _SMALL, the others in two parts.
_EVERY, _SMALL_ROWS, _SMALL = 16, 500, 7
_GIVEN = "slurm_tf_batches"


def make(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, rows: str, table: str) -> None:
    """Make `table` of what the function returns for the rows of `rows`. Raises DatasetError."""
    where = f"{recipe.path}: transform.python"
    function = _function(recipe, where)
    reading = connection.cursor()
    batches = _applied(function, iter(reading.sql(f"SELECT * FROM {rows}").to_arrow_reader(_BATCH)), where)
    first = next(batches, None)
    if first is None:
        raise DatasetError("there are no rows", "rows for the function", where=where)
    failed: list[DatasetError] = []
    given = _kept(_all(first, batches, where), failed)
    connection.register(_GIVEN, pa.RecordBatchReader.from_batches(first.schema, given))
    try:
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {_GIVEN}")
    except duckdb.Error as error:  # DuckDB keeps the text alone of an error of the function
        raise (failed[0] if failed else error) from error
    connection.unregister(_GIVEN)
    reading.close()


def _kept(batches: Iterator[pa.RecordBatch], failed: list[DatasetError]) -> Iterator[pa.RecordBatch]:
    """Yield batches; what they raise is added to `failed`."""
    try:
        yield from batches
    except DatasetError as error:
        failed.append(error)
        raise


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
    """Yield what the function returns; now and then it is asked again, for the parts of a batch."""
    for number, batch in enumerate(batches):
        found = _called(function, batch, where)
        if number % _EVERY == 0:
            _check_row_by_row(function, batch, found, where)
        yield found


def _called(function: Function, batch: pa.RecordBatch, where: str) -> pa.RecordBatch:
    try:
        found: Any = function(batch)
    except Exception as error:  # the function of the user may raise anything
        raise DatasetError(f"the function raised {type(error).__name__}: {error}", "rows", where=where) from error
    if not isinstance(found, pa.RecordBatch):
        needed = "pyarrow.RecordBatch"
        raise DatasetError(f"the function returned {type(found).__name__}", needed, where=where)
    return found


def _all(first: pa.RecordBatch, others: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.RecordBatch]:
    yield first
    for batch in others:
        if batch.schema != first.schema:
            found = f"the function returned the columns {batch.schema.to_string()}"
            raise DatasetError(found, f"those of the first batch, {first.schema.to_string()}", where=where)
        yield batch


def _check_row_by_row(function: Function, batch: pa.RecordBatch, found: pa.RecordBatch, where: str) -> None:
    """Raise DatasetError unless the parts of a batch become what the batch became.

    Of the parts the first ones have few rows, the others many: each row of the batch is in another batch once more.
    """
    small = min(_SMALL_ROWS, batch.num_rows // 2)
    parts = [batch.slice(start, min(_SMALL, small - start)) for start in range(0, small, _SMALL)]
    middle = (small + batch.num_rows) // 2
    parts += [batch.slice(small, middle - small), batch.slice(middle)]
    again = [_called(function, part, where) for part in parts if part.num_rows]
    if any(part.schema != found.schema for part in again) or not _equal(again, found):
        do = "compute what depends on other rows in the SQL"
        raise DatasetError(
            "the function returns other rows for smaller batches", "one that works row by row", do, where
        )


def _equal(parts: list[pa.RecordBatch], whole: pa.RecordBatch) -> bool:
    table = pa.Table.from_batches(parts, whole.schema)
    return all(
        column.equals(pa.chunked_array([again])) or repr(column.to_pylist()) == repr(again.to_pylist())  # NaN is NaN
        for column, again in zip(table.columns, whole.columns, strict=True)
    )
