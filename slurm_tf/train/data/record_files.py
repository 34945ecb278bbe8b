"""Reads records of a split by their numbers, from the TFRecord files of its shards and their indexes.

The files are mapped into memory, so that records come from the page cache, which the tasks of a node share. What a
record's frame says of its length is compared with the index; its checksum is not, for which neither Python's standard
library nor TensorFlow has a function: `slurm-tf data verify` compares it.
"""

import functools
import mmap
import os
import resource
from typing import Any, Iterator, List, NamedTuple, Tuple, Union

import numpy as np
import numpy.typing as npt

from slurm_tf import files
from slurm_tf.dataset import shard_index
from slurm_tf.dataset.dataset_manifest import Shard, Split
from slurm_tf.dataset.record_frame import FOOT, HEAD
from slurm_tf.errors import DatasetError

_ITEM = 8  # bytes of an offset in an index
# Bytes that are read at once.
PIECE = 4 << 20
# Shards with two files each that are open at once: half of the files that this process may have open, and few enough
# for the kernel's limit of what is mapped.
_OPEN_SHARDS = min(max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 256), 8192)
_Numbers = npt.NDArray[np.int64]
_DO = "copy or prepare the data set again"
# Bytes that numpy copies at once: it takes longer to make a Python object of each record than to copy so many.
_CHUNK = 256


class StoredRecords(NamedTuple):
    """Records among other bytes: each is `lengths` bytes of `data` from its place in `starts` on."""

    data: bytes
    starts: _Numbers
    lengths: _Numbers


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

    def read(self, numbers: _Numbers) -> StoredRecords:
        """Return the records with these numbers. Raises DatasetError, which names the file and the record."""
        order = np.argsort(numbers)
        ordered = numbers[order]
        parts = [(self._shard(shard), self._starts[shard], part) for shard, part in self._parts(ordered)]
        starts, ends, sizes, lengths = (np.empty_like(ordered) for _ in range(4))
        for shard, offset, part in parts:
            rows = ordered[part] - offset
            starts[part], ends[part], sizes[part] = shard.starts[rows], shard.starts[rows + 1], shard.size
        fits = (starts >= 0) & (ends - starts >= HEAD + FOOT) & (ends <= sizes)
        self._check(ordered, starts, fits, "the index leads to bytes that are no record")
        for shard, _, part in parts:
            lengths[part] = shard.lengths[starts[part]]
        is_sound = lengths == ends - starts - HEAD - FOOT
        self._check(ordered, starts, is_sound, "the length of the record is not what the index says")
        counts = -(-lengths // _CHUNK)
        firsts = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(firsts[-1]) * _CHUNK + np.repeat(starts + HEAD - firsts[:-1] * _CHUNK, counts)
        copied = np.empty(firsts[-1], f"V{_CHUNK}")
        for shard, _, part in parts:
            chunks = slice(firsts[part.start], firsts[part.stop])
            copied[chunks] = shard.chunks(places[chunks])
        found = StoredRecords(copied.tobytes(), np.empty_like(order), np.empty_like(order))
        found.starts[order], found.lengths[order] = firsts[:-1] * _CHUNK, lengths
        return found

    def _parts(self, ordered: _Numbers) -> List[Tuple[int, slice]]:
        """Return the shards that have some of the numbers, which are in order, and which of them."""
        shards, places = np.unique(np.searchsorted(self._starts, ordered, side="right") - 1, return_index=True)
        return list(zip(shards.tolist(), map(slice, places, [*places[1:], len(ordered)])))

    def _check(self, numbers: _Numbers, starts: _Numbers, is_right: Any, found: str) -> None:
        if not is_right.all():
            wrong = int(np.argmin(is_right))
            shard = int(np.searchsorted(self._starts, numbers[wrong], side="right")) - 1
            row = numbers[wrong] - self._starts[shard]
            where = f"{self._paths[shard]}: record {row}, at byte {starts[wrong]}"
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
        data = _mapped(path)
        self.size = len(data)
        self.starts: _Numbers = np.frombuffer(_mapped(shard_index.path(path)), "<i8")
        self.lengths: _Numbers = _from_each_byte("<i8", data)
        self._chunks = _from_each_byte(f"V{_CHUNK}", data)
        self._last_chunks = _from_each_byte(f"V{_CHUNK}", data[len(self._chunks) :] + bytes(_CHUNK))

    def chunks(self, places: _Numbers) -> npt.NDArray[np.void]:
        """Return _CHUNK bytes from each of these bytes of the file on, with zeros after its end."""
        whole = len(self._chunks)
        is_whole = places < whole
        if is_whole.all():
            return self._chunks[places]
        found = np.empty(len(places), self._chunks.dtype)
        found[is_whole] = self._chunks[places[is_whole]]
        found[~is_whole] = self._last_chunks[places[~is_whole] - whole]
        return found


def _from_each_byte(kind: str, data: Union[bytes, mmap.mmap]) -> npt.NDArray[Any]:
    """Return an array of the items of a type that begin at each byte of the data."""
    items = max(len(data) - np.dtype(kind).itemsize + 1, 0)
    return np.ndarray((items,), kind, data, strides=(1,))


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
