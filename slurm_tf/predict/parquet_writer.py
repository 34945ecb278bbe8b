"""Writes answers to a Parquet file by pyarrow: columns for what is kept, outputs, and the error. For Python 3.9."""

from typing import Any, List, Mapping, Sequence

import numpy as np

from slurm_tf.errors import DatasetError, ModelError
from slurm_tf.predict.answers import ERROR, Answers, Output
from slurm_tf.predict.parquet_rows import pyarrow
from slurm_tf.predict.row_writers import text_of

# Rows and bytes of a row group: one is written when it has either.
_ROWS, _BYTES = 1 << 16, 64 << 20


def schema(version: str, outputs: Sequence[Output], keep: Sequence[str], types: Mapping[str, Any]) -> Any:
    """Return the schema of a file. `types`: those of columns of Parquet; others that are kept are text.

    Raises ModelError for an output that has no type of Parquet, DatasetError without pyarrow.
    """
    pa = pyarrow()
    fields = [pa.field(name, types.get(name, pa.string())) for name in keep]
    for output in outputs:
        if output.rank is None:
            found = f"the number of dimensions of its output {output.name!r} is not known"
            raise ModelError(found, "one that is, for Parquet", "write another format", version)
        kind = pa.binary() if output.dtype == object else pa.from_numpy_dtype(output.dtype)
        for _ in range(output.rank - 1):
            kind = pa.list_(kind)
        fields.append(pa.field(output.name, kind))
    return pa.schema([*fields, pa.field(ERROR, pa.string())])


class ParquetWriter:
    """Writes a row for each row; what a row has not is null, and text of the model is binary."""

    def __init__(self, path: str, schema: Any) -> None:
        """Open a file, which is empty. Raises OSError."""
        self._schema = schema
        self._file = pyarrow().parquet.ParquetWriter(path, schema)
        self._waiting: List[Any] = []

    def write(self, answers: Answers) -> None:
        """Write some rows. Raises DatasetError for a column that is kept and has other types in another file."""
        columns = [self._column(field, answers) for field in self._schema]
        self.write_table(pyarrow().Table.from_arrays(columns, schema=self._schema))

    def write_table(self, table: Any) -> None:
        """Write some rows of the schema."""
        self._waiting.append(table)
        rows = sum(each.num_rows for each in self._waiting)
        if rows >= _ROWS or sum(each.nbytes for each in self._waiting) >= _BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file. Raises OSError."""
        if self._waiting:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_table(pyarrow().concat_tables(self._waiting).combine_chunks())
        self._waiting = []

    def _column(self, field: Any, answers: Answers) -> Any:
        pa = pyarrow()
        if field.name == ERROR:
            return pa.array([answers.error or None] * answers.rows, field.type)
        if field.name not in answers.kept:
            array = answers.outputs.get(field.name)
            return pa.nulls(answers.rows, field.type) if array is None else _arrow(array)
        column = answers.kept[field.name]
        if isinstance(column, list):
            return pa.array(list(map(text_of, column)), field.type)
        try:
            return column.cast(field.type).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            found = f"the column {field.name!r} is {column.type} in one file and {field.type} in the first"
            raise DatasetError(found, "the same columns in all files") from error


def join(paths: Sequence[str], target: str, schema: Any) -> None:
    """Write the rows of files to another one, which is empty. Raises OSError."""
    writer = ParquetWriter(target, schema)
    for path in paths:
        with pyarrow().parquet.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group))
    writer.close()


def _arrow(array: "np.ndarray[Any, Any]") -> Any:
    """Return an array as a column, of lists where it has more than one dimension."""
    pa = pyarrow()
    flat = np.ascontiguousarray(array).reshape(-1)
    column = pa.array(flat.tolist(), pa.binary()) if array.dtype == object else pa.array(flat)
    for axis in range(array.ndim - 1, 0, -1):
        starts = np.arange(np.prod(array.shape[:axis]) + 1) * array.shape[axis]
        column = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), column)
    return column
