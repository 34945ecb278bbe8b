"""Reads a folder of NumPy's arrays as rows: the first axis counts the rows, the others are in the order of C.

Either each .npz file has an array for each column, or each .npy file is the column of its name.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from slurm_tf import files
from slurm_tf.errors import DatasetError
from slurm_tf.prepare.recipe import Source

Array: TypeAlias = npt.NDArray[Any]
# What each row has beside the stated columns: the name of its file, "" of .npy files, and its place there.
COLUMNS = {"file": "VARCHAR", "row": "BIGINT"}
_ROWS = 1 << 10


def write(folder: str, source: Source, path: str) -> None:
    """Write the rows of the arrays in a folder as Parquet. Raises DatasetError."""
    writer: pq.ParquetWriter | None = None
    with files.whole_file(path) as file:
        for name, arrays in _parts(folder, source):
            _check_lengths(arrays, os.path.join(folder, name))
            for batch in _batches(name, arrays, source):
                writer = writer or pq.ParquetWriter(file, batch.schema)
                if batch.schema != writer.schema:
                    raise DatasetError(
                        "the arrays have other types than those before",
                        "one type a column",
                        where=os.path.join(folder, name),
                    )
                writer.write_batch(batch)
        if writer is None:
            raise DatasetError("the arrays have no rows", "rows", where=folder)
        writer.close()


def _parts(folder: str, source: Source) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """Yield files with the arrays of all columns."""
    names = sorted(name for name in os.listdir(folder) if name.endswith((".npy", ".npz")))
    single = [name for name in names if name.endswith(".npy")]
    if single and len(single) < len(names):
        raise DatasetError("found .npy and .npz files", "one kind", where=folder)
    if single:
        yield "", _columns({name.removesuffix(".npy"): _load(folder, name) for name in single}, source, folder)
    for name in names if not single else ():
        archive = _load(folder, name)
        try:
            arrays = {each: archive[each] for each in archive.files}
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"the file cannot be read ({error})", "arrays of numbers", where=os.path.join(folder, name)
            ) from error
        yield name, _columns(arrays, source, os.path.join(folder, name))


def _load(folder: str, name: str) -> Any:  # noqa: ANN401 - an array or an archive of them
    path = os.path.join(folder, name)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"the file cannot be read ({error})", "arrays of numbers", where=path) from error


def _columns(arrays: Mapping[str, Array], source: Source, where: str) -> dict[str, Array]:
    if sorted(arrays) != sorted(source.columns):
        raise DatasetError(f"the arrays are {', '.join(sorted(arrays))}", ", ".join(source.columns), where=where)
    return {name: arrays[name] for name in source.columns}


def _check_lengths(arrays: Mapping[str, Array], where: str) -> None:
    lengths = {name: array.shape[0] if array.ndim else None for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DatasetError(f"{found} rows", "the same number in all arrays", where=where)


def _batches(name: str, arrays: Mapping[str, Array], source: Source) -> Iterator[pa.RecordBatch]:
    rows = next(iter(arrays.values())).shape[0]
    for start in range(0, rows, _ROWS):
        columns = [_arrow(array[start : start + _ROWS]) for array in arrays.values()]
        count = len(columns[0])
        columns += [pa.array([name] * count), pa.array(range(start, start + count), pa.int64())]
        yield pa.RecordBatch.from_arrays(columns, names=[*source.columns, *COLUMNS])


def _arrow(array: Array) -> pa.Array:
    """Return an array as a column: of numbers, or of a list of them a row."""
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    if array.ndim == 1:
        return values
    size = math.prod(array.shape[1:])
    return pa.ListArray.from_arrays(pa.array(np.arange(len(array) + 1) * size, pa.int32()), values)
