"""Keeps a preparation within its memory: fewer threads where that is small, and no rows that are too long for it.

Each thread of DuckDB holds what it cannot write to scratch: buffers of the CSV reader, its part of an aggregate, the
rows that it writes. How much that is at a moment depends on the load of the machine. So a step that did not fit is done
again with half the threads. And each thread holds so many rows at once that long ones alone may be too much.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from slurm_tf.errors import ConfigError, DatasetError, MemoryLimitError
from slurm_tf.prepare import source_files
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.source_files import SourceFiles

_Made = TypeVar("_Made")
# MiB for each thread, as DuckDB's guide to its performance has it.
_OF_THREAD = 128
# Rows of a vector of DuckDB, and how many of the longest vectors a sort and its table have in memory at once (2.0).
_VECTOR, _VECTORS = 2048, 8
# Bytes at the start of a file from which the length of its rows is known.
_SAMPLE = 4 << 20
_MIB = 1 << 20


def threads(mem: int, cpus: int) -> int:
    """Return how many threads, or processes, `mem` MiB are enough for."""
    return max(1, min(cpus, mem // _OF_THREAD))


def fitted(most: int, say: Callable[[str], None], make: Callable[[int], _Made]) -> _Made:
    """Return what `make` does with at most so many threads, with half of them each time that it needs more memory.

    Raises MemoryLimitError if one thread needs more.
    """
    number = most
    while True:
        try:
            return make(number)
        except MemoryLimitError as error:
            if number == 1:
                raise
            number //= 2
            say(f"{error.found}: once more with {number} of {most} threads")


def check_files(recipe: LoadedRecipe, sources: Mapping[str, SourceFiles], mem: int) -> None:
    """Raise ConfigError for a file whose rows are too long for `mem` MiB, before they are read."""
    for name, each in sources.items():
        form = recipe.keys.sources[name].format
        if form == "csv":
            _check(recipe, name, [_of_text(path) for path in each.paths], mem)
        elif form == "parquet":
            _check(recipe, name, [_of_parquet(path) for path in each.paths], mem)
        elif form == "images":
            sizes = [os.path.getsize(path) for path in each.paths]
            _check(recipe, name, [_Rows(sum(sizes) / len(sizes), sum(sizes))], mem)


def check_fetched(recipe: LoadedRecipe, fetched: Mapping[str, str], mem: int) -> None:
    """Raise ConfigError for a source whose copy in Parquet has rows that are too long for `mem` MiB."""
    for name, path in fetched.items():
        _check(recipe, name, [_of_parquet(path)], mem)


@dataclass(frozen=True)
class _Rows:
    """The rows of a file: their mean length, and that of all together, in bytes."""

    length: float
    total: int


def _check(recipe: LoadedRecipe, name: str, files: Sequence[_Rows], mem: int) -> None:
    length = max(each.length for each in files)
    vector = min(_VECTOR * length, sum(each.total for each in files))
    least = _VECTORS * vector / _MIB
    if mem < least:
        found = f"found {recipe.keys.mem}, and rows of {length / 1000:.0f} kB in the source {name}"
        do = f"DuckDB has {_VECTOR} rows in memory at once, several times; leave long columns out of the source"
        raise ConfigError(found, f"{least:.0f}M or more", do, f"{recipe.path}: mem")


def _of_text(path: str) -> _Rows:
    """Return the rows of a file of which the lines at the start are looked at. Raises DatasetError."""
    with _told(path), source_files.open_text(path) as file:
        data = file.read(_SAMPLE)
    return _Rows(len(data) / max(data.count(b"\n"), 1), max(os.path.getsize(path), len(data)))


def _of_parquet(path: str) -> _Rows:
    """Return the rows of a file by the row group whose rows are longest. Raises DatasetError."""
    with _told(path), pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    longest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=0.0)
    return _Rows(longest, sum(group.total_byte_size for group in groups))


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise DatasetError(f"the file cannot be read ({error})", "a file that can be", where=path) from error
