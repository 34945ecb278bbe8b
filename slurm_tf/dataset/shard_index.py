"""The index of a shard: where each record starts in its file. For Python 3.9."""

import array
import os
import sys
from typing import Iterable

from slurm_tf import files
from slurm_tf.errors import DatasetError

_ITEM = 8  # bytes: a little-endian uint64


def shard_name(start: str, number: int, count: int) -> str:
    """Return how the name of shard `number` of `count`, from 0, begins, as TensorFlow Datasets names them."""
    return f"{start}-{number:05}-of-{count:05}"


def path(shard: str) -> str:
    """Return the path of the index of a shard's file."""
    return f"{shard}.index"


def size(rows: int) -> int:
    """Return how many bytes the index of a shard with so many rows has."""
    return _ITEM * (rows + 1)


def temporary_prefix(shard: str) -> str:
    """Return how the names of all temporary files of a shard begin: the next attempt removes those of a killed one."""
    return f".{os.path.basename(shard)}."


def write(shard: str, starts: Iterable[int]) -> None:
    """Write the index of a shard's file: the offset of each record, then the size of the file. Raises OSError."""
    data = _swapped(array.array("Q", starts)).tobytes()
    files.write_whole(path(shard), data, prefix=temporary_prefix(shard))


def read(shard: str) -> "array.array[int]":
    """Return what `write` wrote. Raises DatasetError for an index that is damaged or not of the shard's file."""
    where = path(shard)
    do = "copy or prepare the data set again"
    try:
        with open(where, "rb") as file:
            data = file.read()
        size = os.path.getsize(shard)
    except OSError as error:
        raise DatasetError(f"it cannot be read ({error.strerror})", "a shard and its index", do, where) from error
    if len(data) % _ITEM or not data:
        raise DatasetError(f"the index has {len(data)} bytes", f"{_ITEM} for each record and {_ITEM} more", do, where)
    starts = _swapped(array.array("Q", data))
    if starts[0] != 0 or starts[-1] != size:
        found = f"the index is of a file of {starts[-1]} bytes"
        raise DatasetError(found, f"that of {shard}, which has {size}", do, where)
    return starts


def _swapped(starts: "array.array[int]") -> "array.array[int]":
    if sys.byteorder == "big":
        starts.byteswap()
    return starts
