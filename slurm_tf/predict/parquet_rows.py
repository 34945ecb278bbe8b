"""Reads rows of Parquet files by pyarrow, which is needed for nothing else here. For Python 3.9."""

from typing import Any, Dict, Iterator, List, Sequence, Tuple

from slurm_tf.errors import DatasetError


def count(path: str) -> int:
    """Return the number of rows of a file, which its footer says. Raises DatasetError."""
    return int(_opened(path).metadata.num_rows)


def columns(path: str) -> Sequence[str]:
    """Return the names of a file's columns. Raises DatasetError."""
    return tuple(_opened(path).schema_arrow.names)


def types(path: str, names: Sequence[str]) -> "Dict[str, Any]":
    """Return the types of columns of a file. Raises DatasetError."""
    schema = _opened(path).schema_arrow
    return {name: schema.field(name).type for name in names}


def tables(path: str, columns: Sequence[str], start: int, rows: int, size: int) -> "Iterator[Any]":
    """Yield tables with `columns` of `rows` rows from row `start` on, of at most `size` rows. Raises DatasetError."""
    file = _opened(path)
    missing = set(columns) - set(file.schema_arrow.names)
    if missing:
        raise DatasetError(
            f"it has no column {', '.join(map(repr, sorted(missing)))}",
            "the inputs of the model, and what is kept",
            where=path,
        )
    groups, skipped = _groups(file, start)
    for batch in file.iter_batches(size, row_groups=groups, columns=list(columns)):
        table = pyarrow().Table.from_batches([batch]).slice(skipped, rows)
        skipped = max(skipped - batch.num_rows, 0)
        rows -= table.num_rows
        if table.num_rows:
            yield table
        if not rows:
            return


def joined(parts: Sequence[Any]) -> Any:
    """Return the rows of tables as one table. Raises DatasetError for tables with other types."""
    try:
        return pyarrow().concat_tables(parts)
    except pyarrow().ArrowInvalid as error:
        found = str(error).splitlines()[0]
        raise DatasetError(f"two files have other types ({found})", "the same columns in all files") from error


def values(table: Any, name: str) -> Any:
    """Return the values of a column: an array of numpy, where it has numbers or lists of one length, else a list."""
    return _values(table.column(name).combine_chunks())


def _values(column: Any) -> Any:
    kinds = pyarrow().types
    kind = column.type
    if column.null_count or not len(column):
        return column.to_pylist()
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind):
        return column.to_numpy(zero_copy_only=False)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        inner = _values(column.flatten())
        length = len(inner) // len(column)
        # of fixed_size_list there is no value_lengths
        if not isinstance(inner, list) and len(inner) and all(each == length for each in _lengths(column)):
            return inner.reshape((len(column), length, *inner.shape[1:]))
    return column.to_pylist()


def _lengths(column: Any) -> Any:
    if pyarrow().types.is_fixed_size_list(column.type):
        return [column.type.list_size]
    return column.value_lengths().unique().to_pylist()


def pyarrow() -> Any:
    """Return the module. Raises DatasetError if it is not there."""
    try:
        import pyarrow as module
        import pyarrow.parquet
    except ImportError as error:
        do = "pip install pyarrow in the Python of the job, and of slurm-tf"
        raise DatasetError("there is no pyarrow", "it, for Parquet", do) from error
    return module


def _groups(file: Any, start: int) -> "Tuple[List[int], int]":
    """Return the row groups from that of row `start` on, and how many rows come before it there."""
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if start < size:
            return list(range(group, file.num_row_groups)), start
        start -= size
    return [], 0


def _opened(path: str) -> Any:
    module = pyarrow()
    try:
        return module.parquet.ParquetFile(path)
    except (module.ArrowException, OSError) as error:
        raise DatasetError(f"it cannot be read ({error})", "a Parquet file", where=path) from error
