"""Writes the shards of a partition of rows that an engine has sorted: the function that workers of Spark call.

Rows come as Arrow batches with two more columns, which say to which shard of which split a row belongs. Those of one
shard stand together, in their final order. What comes out is a row for each shard, its summary as JSON.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from slurm_tf.dataset import format_json
from slurm_tf.dataset.schema import Schema
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import shards
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.shards import ShardFile

# The columns beside the features; no column of a person's own begins so.
SPLIT, SHARD = "__split", "__shard"
# The one column of what a PartitionWriter yields.
SUMMARY = pa.schema([("summary", pa.string())])


@dataclass(frozen=True)
class PartitionWriter:
    """Writes shards into `folder`, which all workers share. `counts`: how many shards each split has."""

    folder: str
    form: Form
    schema: Schema
    counts: dict[str, int]
    recipe: str
    unreproducible: tuple[str, ...] = ()

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the shards of a partition, and yield the summary of each. Raises DatasetError and StorageError.

        A shard that is there already is not written again; its rows are read, and dropped.
        """
        seen = set[tuple[str, int]]()
        runs = (run for batch in batches for run in _runs(batch))
        for key, parts in itertools.groupby(runs, key=lambda run: run[0]):
            shard = self._file(*key)
            if key in seen:  # the second part would be taken for one that is there already
                raise DatasetError("the rows of a shard are not all together", "rows sorted by shard", "", shard.path)
            seen.add(key)
            found = shards.write_shard(
                shard, self.schema, (rows for _, rows in parts), self.recipe, self.unreproducible
            )
            yield pa.RecordBatch.from_pydict({"summary": [format_json.dumps(found)]}, SUMMARY)

    def all_shards(self, summaries: Iterable[str]) -> list[ShardSummary]:
        """Return the summaries of all shards, from what all workers yielded; write those that no row belongs to.

        Raises DatasetError if a shard was in several partitions: one of them has lost its rows.
        """
        found: dict[tuple[str, int], ShardSummary] = {}
        for text in summaries:
            summary = format_json.loads(text, ShardSummary, "the summary of a shard")
            key = summary.split, summary.number
            if key in found:
                path = self._file(*key).path
                raise DatasetError("the rows of a shard were in several partitions", "all in one", "", path)
            found[key] = summary
        keys = [(split, number) for split, count in self.counts.items() for number in range(count)]
        for key in keys:
            if key not in found:
                found[key] = shards.write_shard(self._file(*key), self.schema, (), self.recipe, self.unreproducible)
        return [found[key] for key in keys]

    def _file(self, split: str, number: int) -> ShardFile:
        return ShardFile(self.folder, split, number, self.counts[split], self.form)


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    """Yield parts of a batch whose rows are of one shard, with its split and number, without these columns."""
    if not batch.num_rows:
        return
    splits, numbers = batch.column(SPLIT).dictionary_encode(), batch.column(SHARD).to_numpy(zero_copy_only=False)
    codes = splits.indices.to_numpy(zero_copy_only=False)
    changes = np.flatnonzero((np.diff(codes) != 0) | (np.diff(numbers) != 0)) + 1
    rows = batch.drop_columns([SPLIT, SHARD])
    for start, end in itertools.pairwise([0, *changes.tolist(), batch.num_rows]):
        split = splits.dictionary[int(codes[start])].as_py()
        yield (split, int(numbers[start])), rows.slice(start, end - start)
