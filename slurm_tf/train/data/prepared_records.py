"""The records of a prepared data set as the samples of batches, and as a plain data set for validation."""

import os
from enum import Enum
from typing import Any, Callable, Optional, Tuple, Union

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.dataset_manifest import Manifest, Split
from slurm_tf.errors import DatasetError, SlurmTfError, UsageError
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.data import examples
from slurm_tf.train.data.read_ahead import ReadAhead
from slurm_tf.train.data.record_files import PIECE, RecordFiles, StoredRecords
from slurm_tf.train.data.sample_orders import BlockOrder, WholeOrder
from slurm_tf.train.train_log import log

# What a program makes of the features of a batch.
Map = Optional[Callable[[Any], Any]]
_FORM, _COMPRESSED = ".tfrecord", ".tfrecord.gz"
# The most bytes of a split of which single records are read in any order.
_MAX_WHOLE_BYTES = 1 << 30


class Shuffle(Enum):
    """What is shuffled: all records of the split, or blocks of 4 MiB and the records of each 64 blocks."""

    RECORDS = "records"
    BLOCKS = "blocks"


class Records:
    """The records of one split of a prepared data set. Raises DatasetError for a damaged one, and UsageError."""

    read_types = (tf.string, tf.int64, tf.int64)

    def __init__(self, folder: str, split: str, seed: int, shuffle: Optional[str], map: Map) -> None:  # noqa: A002 - as tf.data names it
        manifest, of_split = _opened(folder, split)
        if manifest.form != _FORM:
            raise DatasetError(
                f"its form is {manifest.form}", f"{_FORM}: records that can be read in any order have an index",
                f"prepare it with that form: {manifest.form} is for export", folder,
            )  # fmt: skip
        self._schema, self._map = manifest.schema, map
        self._files = RecordFiles(folder, of_split)
        self.samples = self._files.rows
        self.sample_bytes = self._files.bytes // max(self.samples, 1)
        self.order = self._order(_shuffle(shuffle, self._files.bytes), seed)
        self._ahead = ReadAhead(self._files)
        no_records = tf.data.Dataset.from_tensor_slices(tf.constant([], tf.string))
        batch = no_records.batch(1).map(self.decode).element_spec
        self.has_weights = isinstance(batch, (tuple, list)) and len(batch) == 3

    def prepare(self, epoch: int, first: int, rank: int, size: int) -> None:
        """Have storage read in large pieces what task `rank` of `size` needs at place `first` of an epoch and after it.

        Raises StorageError.
        """
        order = self.order
        if isinstance(order, WholeOrder):
            block = self._block
            self._ahead.ask("all", ((each, min(each + block, self.samples)) for each in range(0, self.samples, block)))
            return
        window = order.window(epoch, first)
        after = (epoch, window + 1) if window + 1 < order.windows else (epoch + 1, 0)
        for each in ((epoch, window), after):
            self._ahead.ask(each, order.ranges(*each, rank, size))
        self._ahead.wait((epoch, window))

    def read(self, indices: npt.NDArray[np.int64]) -> StoredRecords:
        """Return serialised records. Raises DatasetError, which names the file and the record."""
        try:
            return self._files.read(indices)
        except SlurmTfError as error:
            # TensorFlow puts its own words around it
            log(str(error))
            raise

    def elements(self, data: tf.Tensor, starts: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return the serialised records of what was read."""
        return tf.strings.substr(data, starts, lengths)

    @without_autograph
    def decode(self, elements: tf.Tensor) -> Any:
        """Return the samples of serialised records: the features by name, or what the program makes of them."""
        return _decoded(self._schema, self._map, elements)

    @property
    def _block(self) -> int:
        """How many records of the mean size are a piece that storage is read in."""
        return max(1, PIECE * self.samples // max(self._files.bytes, 1))

    def _order(self, shuffle: Shuffle, seed: int) -> Union[WholeOrder, BlockOrder]:
        if shuffle is Shuffle.RECORDS:
            return WholeOrder(self.samples, seed)
        return BlockOrder(self.samples, seed, self._block)


def validation_dataset(folder: str, batch_size: int, split: str, map: Map) -> tf.data.Dataset:  # noqa: A002
    """Return all records of a split in batches, in the order in which they are stored; the last batch may be smaller.

    TensorFlow compares each record with its checksum. Raises DatasetError.
    """
    manifest, of_split = _opened(folder, split)
    if manifest.form not in (_FORM, _COMPRESSED):
        raise DatasetError(f"its form is {manifest.form}", f"{_FORM} or {_COMPRESSED}", where=folder)
    paths = [os.path.join(folder, shard.name) for shard in of_split.shards]
    records = tf.data.TFRecordDataset(paths, "GZIP" if manifest.form == _COMPRESSED else "")
    decode = without_autograph(lambda batch: _decoded(manifest.schema, map, batch))
    batches = -(-of_split.rows // batch_size)
    return (
        records.batch(batch_size)
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(batches))
        .prefetch(tf.data.AUTOTUNE)
    )


def _opened(folder: str, split: str) -> Tuple[Manifest, Split]:
    manifest = dataset_manifest.read(folder)
    try:
        return manifest, manifest.split(split)
    except DatasetError as error:
        raise DatasetError(error.found, error.needed, error.do, folder) from error


def _decoded(schema: Any, map: Map, read: tf.Tensor) -> Any:  # noqa: A002
    features = examples.parse(schema, read)
    return map(features) if map else features


def _shuffle(given: Optional[str], size: int) -> Shuffle:
    if given is None:
        return Shuffle.RECORDS if size <= _MAX_WHOLE_BYTES else Shuffle.BLOCKS
    try:
        return Shuffle(given)
    except ValueError as error:
        known = ", ".join(f'"{each.value}"' for each in Shuffle)
        raise UsageError(f"found shuffle={given!r}", f"one of {known}, or None") from error
