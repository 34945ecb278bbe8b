"""Makes the error of a row: which file and row it is, and what the row has."""

from collections.abc import Callable

import pyarrow as pa

from slurm_tf.errors import DatasetError

# How many characters of a value and of a row are shown.
_VALUE, _ROW = 40, 200


class RowErrors:
    """The errors of the rows of a batch. `where`: the file; `first`: the number of the batch's first row in it."""

    def __init__(self, batch: pa.RecordBatch, where: str, first: int = 0) -> None:
        self._batch, self._where, self._first = batch, where, first

    def of_row(self, row: int, found: str, needed: str, do: str = "") -> DatasetError:
        """Return the error of one row, counted from the first of the batch."""
        values = self._batch.slice(row, 1).to_pylist()[0]
        shown = ", ".join(f"{name}={shortened(repr(value))}" for name, value in values.items())
        return self.of_all(f"{found} in row {self._first + row} ({shortened(shown, _ROW)})", needed, do)

    def of_all(self, found: str, needed: str, do: str = "") -> DatasetError:
        """Return an error of all rows."""
        return DatasetError(found, needed, do, self._where)


def shortened(text: str, most: int = _VALUE) -> str:
    """Return `text` with at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_that_fails(column: pa.Array, action: Callable[[pa.Array], object]) -> int:
    """Return the first row for which `action` raises ArrowInvalid; it raises that for all rows together."""
    low, high = 0, len(column) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            action(column.slice(low, middle - low + 1))
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle + 1
    return low
