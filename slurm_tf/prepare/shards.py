"""Writes the shards of a data set, each whole or not at all: the data, its index, and last its sidecar.

The sidecar says how the data came about and what it is. A shard whose sidecar is there, of the same recipe and size, is
not written again. Two sums tell what a shard is: `sha256` of the file's bytes, and `digest` of its rows, which does not
depend on the form or its compression.
"""

import contextlib
import gzip
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias, cast

import numpy as np
import pyarrow as pa

from slurm_tf import files
from slurm_tf.dataset import record_frame, shard_index, sidecar
from slurm_tf.dataset.schema import Schema
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.prepare import feature_columns, row_bytes, serialize
from slurm_tf.prepare.digests import RowsDigest
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.row_errors import RowErrors
from slurm_tf.prepare.row_statistics import StatisticsCollector

# zlib's default, stated as the bytes depend on it
_COMPRESSION = 6
Buffer: TypeAlias = bytes | pa.Buffer


@dataclass(frozen=True)
class ShardFile:
    """Which shard of a data set: shard `number` of `count`, from 0, of a split in a folder."""

    folder: str
    split: str
    number: int
    count: int
    form: Form

    @property
    def name(self) -> str:
        """The name of its file, as TensorFlow Datasets names them."""
        return f"{shard_index.shard_name(self.split, self.number, self.count)}{self.form.value}"

    @property
    def path(self) -> str:
        """The path of its file."""
        return os.path.join(self.folder, self.name)


def write_shard(
    shard: ShardFile,
    schema: Schema,
    batches: Iterable[pa.RecordBatch],
    recipe: str,
    unreproducible: Collection[str] = (),
) -> ShardSummary:
    """Write the rows of `batches` as a shard, in their order, and return what it is; no row is read if it is there.

    `recipe`: the hash of all that the rows depend on. `unreproducible`: features that the digest leaves out, as they
    may differ from one preparation to the next. Memory is needed for a batch, and for the numbers and short texts of
    all rows, of which the statistics are made. A shard has one writer at a time. Raises DatasetError, which names the
    row, and StorageError; what was begun is then removed.
    """
    if found := written(shard, recipe):
        return found
    row_bytes.check(shard.form, schema, shard.path)
    with files.explained("remove what is left of another attempt", shard.path):
        _remove_leftovers(shard)
    rows = _Rows(shard, schema, frozenset(unreproducible))
    with _summed_file(shard) as file, _compressed(file, shard.form) as output:
        output.write(row_bytes.header(shard.form, schema))
        for batch in batches:
            for piece in feature_columns.pieces(batch):
                output.write(rows.take(piece))
    with files.explained("write the index of the shard", shard.path):
        if shard.form is Form.TFRECORD:
            shard_index.write(shard.path, rows.starts)
    summary = ShardSummary(
        shard.name, shard.split, shard.number, shard.count, rows.number, file.size, file.sha256, rows.digest,
        recipe, rows.statistics,
    )  # fmt: skip
    with files.explained("write the sidecar of the shard", shard.path):
        sidecar.write(shard.path, summary)
    return summary


def written(shard: ShardFile, recipe: str) -> ShardSummary | None:
    """Return what a shard is, if it was written whole by the same recipe: its sidecar says so, and its size is right.

    Whether its bytes are right as well is what `slurm-tf data verify` finds out.
    """
    summary = sidecar.read(shard.path)
    try:
        size = os.stat(shard.path).st_size
        has_index = shard.form is not Form.TFRECORD or os.path.exists(shard_index.path(shard.path))
    except FileNotFoundError:
        return None
    return summary if summary and has_index and (summary.recipe, summary.bytes) == (recipe, size) else None


class _Rows:
    """Serialises the rows of a shard, and collects what is known of them."""

    def __init__(self, shard: ShardFile, schema: Schema, unreproducible: frozenset[str]) -> None:
        self._shard, self._schema = shard, schema
        reproducible = tuple(each for each in schema.features if each.name not in unreproducible)
        self._digested = Schema(reproducible) if unreproducible else schema
        self._collector, self._digest = StatisticsCollector(schema), RowsDigest()
        self._sizes, self.number = [np.zeros(1, np.int64)], 0

    def take(self, piece: pa.RecordBatch) -> pa.Buffer:
        """Return the bytes of some rows in the file."""
        errors = RowErrors(piece, self._shard.path, self.number)
        batch = feature_columns.checked(self._schema, piece, errors)
        messages = serialize.records(self._schema, batch)
        data = row_bytes.rows(self._shard.form, self._schema, batch, messages, errors)
        digested = messages if self._digested is self._schema else serialize.records(self._digested, batch)
        self._digest.add_with_lengths(memoryview(serialize.contents(serialize.with_sizes(digested))))
        self._collector.add(batch)
        if self._shard.form is Form.TFRECORD:
            self._sizes.append(serialize.sizes(messages) + record_frame.FRAME)
        self.number += batch.num_rows
        return data

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each row starts in the file, and where the last one ends."""
        return tuple(np.cumsum(np.concatenate(self._sizes)).tolist())

    @property
    def digest(self) -> str:
        """The SHA-256 of the records of all rows, each after its length, without features that are not reproducible."""
        return self._digest.value

    @property
    def statistics(self) -> tuple[FeatureStatistics, ...]:
        """The statistics of all rows."""
        return self._collector.result()


class _SummedFile:
    """A file that sums and counts what is written. `path` is for the StorageError of a full disk."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path, self._sum, self.size = file, path, hashlib.sha256(), 0

    def write(self, data: Buffer) -> int:
        """Write all of `data`."""
        with files.explained("write the shard", self._path):
            self._file.write(data)
        self._sum.update(data)
        size = memoryview(data).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        """Do nothing; gzip asks for it."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written."""
        return self._sum.hexdigest()


@contextlib.contextmanager
def _summed_file(shard: ShardFile) -> Iterator[_SummedFile]:
    """Give the file of a shard; it is there when the block has ended, and not if that raises."""
    with contextlib.ExitStack() as stack:
        with files.explained("write the shard", shard.path):
            file = stack.enter_context(files.whole_file(shard.path, prefix=shard_index.temporary_prefix(shard.path)))
        yield _SummedFile(file, shard.path)
        # errors of the block are its own, those of the end of the file are the shard's
        with files.explained("write the shard", shard.path):
            stack.close()


@contextlib.contextmanager
def _compressed(file: _SummedFile, form: Form) -> Iterator[_SummedFile | gzip.GzipFile]:
    """Give what compresses into `file`, if the form says so, with the same bytes at any time under any name."""
    if form is not Form.TFRECORD_GZIP:
        yield file
        return
    with gzip.GzipFile("", "wb", _COMPRESSION, cast(BinaryIO, file), mtime=0) as compressed:
        yield compressed


def _remove_leftovers(shard: ShardFile) -> None:
    """Remove what an attempt that was killed left, and the sidecar, which must not describe another file."""
    files.remove_temporary(shard.folder, shard_index.temporary_prefix(shard.path))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(sidecar.path(shard.path))
