"""Reads records of a split by their numbers, from the TFRecord files of its shards and their indexes.

The files are mapped into memory, so that records come from the page cache, which the tasks of a node share. What a
record's frame says of its length is compared with the index; its checksum is not, for which neither Python's standard
library nor TensorFlow has a function: `slurm-tf data verify` compares it.
"""

import functools
import mmap
import os
from typing import Any, Iterator, List, Tuple

import numpy as np
import numpy.typing as npt

from slurm_tf import files
from slurm_tf.dataset import shard_index
from slurm_tf.dataset.dataset_manifest import Shard, Split
from slurm_tf.dataset.record_frame import FOOT, HEAD, LENGTH
from slurm_tf.errors import DatasetError

_ITEM = 8  # bytes of an offset in an index
# Bytes that are read at once.
PIECE = 4 << 20
# Shards with two files each that are open at once: programs may have 1024 files open.
_OPEN_SHARDS = 256
_Numbers = npt.NDArray[np.int64]
_DO = "copy or prepare the data set again"


class RecordFiles:
    """The records of one split, numbered from 0 over its shards. Raises DatasetError for files of a wrong size."""

    def __init__(self, folder: str, split: Split) -> None:
        shards = [shard for shard in split.shards if shard.rows]
        for shard in shards:
            _check_sizes(os.path.join(folder, shard.name), shard)
        self.rows, self.bytes = split.rows, split.bytes
        self._paths = [os.path.join(folder, shard.name) for shard in shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self._shard = functools.lru_cache(maxsize=_OPEN_SHARDS)(lambda number: _OpenShard(self._paths[number]))

    def read(self, numbers: _Numbers) -> npt.NDArray[np.object_]:
        """Return the records with these numbers, as bytes. Raises DatasetError, which names the file and the record."""
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        rows = numbers - self._starts[shards]
        starts, ends, lengths = np.empty_like(rows), np.empty_like(rows), np.empty_like(rows)
        opened = {shard: self._shard(shard) for shard in np.unique(shards).tolist()}
        places = {shard: np.flatnonzero(shards == shard) for shard in opened}
        for shard, own in places.items():
            starts[own], ends[own] = opened[shard].starts[rows[own]], opened[shard].starts[rows[own] + 1]
        sizes = np.array([opened[shard].size for shard in opened])[np.searchsorted(list(opened), shards)]
        fits = (starts >= 0) & (ends - starts >= HEAD + FOOT) & (ends <= sizes)
        self._check(shards, rows, starts, fits, "the index leads to bytes that are no record")
        for shard, own in places.items():
            lengths[own] = opened[shard].lengths[starts[own]]
        is_sound = lengths == ends - starts - HEAD - FOOT
        self._check(shards, rows, starts, is_sound, "the length of the record is not what the index says")
        files = [opened[shard].data for shard in shards.tolist()]
        spans = zip(files, (starts + HEAD).tolist(), (ends - FOOT).tolist())
        records: List[Any] = [file[start:end] for file, start, end in spans]
        return np.array(records, object)

    def _check(self, shards: _Numbers, rows: _Numbers, starts: _Numbers, is_right: Any, found: str) -> None:
        if not is_right.all():
            wrong = int(np.argmin(is_right))
            where = f"{self._paths[shards[wrong]]}: record {rows[wrong]}, at byte {starts[wrong]}"
            raise DatasetError(found, "records as they were written, and their index", _DO, where)

    def read_ahead(self, first: int, end: int) -> None:
        """Read the records from number `first` to before `end`, and their index, into the page cache.

        Raises StorageError.
        """
        for shard, start, stop in self._rows(first, end):
            path, opened = self._paths[shard], self._shard(shard)
            offsets = opened.starts
            _read_through(shard_index.path(path), start * _ITEM, (stop + 1) * _ITEM)
            _read_through(path, int(offsets[start]), int(offsets[stop]))

    def _rows(self, first: int, end: int) -> Iterator[Tuple[int, int, int]]:
        """Yield each shard that has some of these records, the first of its rows, and the one after the last."""
        for shard in range(int(np.searchsorted(self._starts, first, side="right")) - 1, len(self._paths)):
            offset, after = self._starts[shard : shard + 2].tolist()
            if offset >= end:
                return
            yield shard, max(first - offset, 0), min(end, after) - offset


class _OpenShard:
    """One shard's file and its index, mapped into memory. Raises StorageError.

    `starts`: those of the records, and the file's size. `lengths`: the 8 bytes from each byte on, as an integer.
    """

    def __init__(self, path: str) -> None:
        self.data = _mapped(path)
        self.size = len(self.data)
        self.starts: _Numbers = np.frombuffer(_mapped(shard_index.path(path)), "<i8")
        self.lengths: _Numbers = np.ndarray((self.size - LENGTH + 1,), "<i8", self.data, strides=(1,))


def _check_sizes(path: str, shard: Shard) -> None:
    for file, size in ((path, shard.bytes), (shard_index.path(path), shard_index.size(shard.rows))):
        try:
            found = os.path.getsize(file)
        except OSError as error:
            raise DatasetError(f"it cannot be read ({error.strerror})", f"a file of {size} bytes", _DO, file) from error
        if found != size:
            raise DatasetError(f"the file has {found} bytes", f"{size}, as the manifest says", _DO, file)


def _mapped(path: str) -> mmap.mmap:
    with files.explained("open a file of the data set", path), open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_through(path: str, first: int, end: int) -> None:
    """Read these bytes of a file, which are then in the page cache."""
    with files.explained("read a file of the data set", path), open(path, "rb", buffering=0) as file:
        for offset in range(first, end, PIECE):
            os.pread(file.fileno(), min(PIECE, end - offset), offset)
