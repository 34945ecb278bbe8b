"""Reads rows of Parquet files by pyarrow, which is needed for nothing else here. For Python 3.9."""

from typing import Any, Iterator, List, Sequence, Tuple

from slurm_tf.errors import DatasetError


def count(path: str) -> int:
    """Return the number of rows of a file, which its footer says. Raises DatasetError."""
    return int(_opened(path).metadata.num_rows)


def rows(path: str, columns: Sequence[str], start: int, number: int) -> Iterator[Tuple[Any, ...]]:
    """Yield the values of `columns` of `number` rows from row `start` on. Raises DatasetError."""
    file = _opened(path)
    missing = set(columns) - set(file.schema_arrow.names)
    if missing:
        raise DatasetError(f"it has no column {', '.join(sorted(missing))}", "the inputs of the model", where=path)
    groups, skipped = _groups(file, start)
    for batch in file.iter_batches(row_groups=groups, columns=list(columns)):
        table = batch.slice(skipped)
        skipped = max(skipped - batch.num_rows, 0)
        values = [table.column(name).to_pylist() for name in columns]
        for row in zip(*values):
            if number == 0:
                return
            number -= 1
            yield row


def _groups(file: Any, start: int) -> "Tuple[List[int], int]":
    """Return the row groups from that of row `start` on, and how many rows come before it there."""
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if start < size:
            return list(range(group, file.num_row_groups)), start
        start -= size
    return [], 0


def _opened(path: str) -> Any:
    try:
        from pyarrow import lib, parquet
    except ImportError as error:
        do = "pip install pyarrow in the Python of the job, and of slurm-tf"
        raise DatasetError("there is no pyarrow", "it, to read Parquet", do, path) from error
    try:
        return parquet.ParquetFile(path)
    except (lib.ArrowException, OSError) as error:
        raise DatasetError(f"it cannot be read ({error})", "a Parquet file", where=path) from error
