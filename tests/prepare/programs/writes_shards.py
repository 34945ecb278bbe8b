"""Writes twenty shards of 2,000 rows into the folder that is named, which may have some of them."""

import sys

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.prepare import shards
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.shards import ShardFile
from tests.prepare.batches import batch_of

SCHEMA = Schema((Feature("id", Kind.INT64), Feature("name", Kind.BYTES)))

for number in range(20):
    rows = [{"id": row, "name": b"n%d" % row} for row in range(number, 40_000, 20)]
    batches = (batch_of(SCHEMA, rows[start : start + 100]) for start in range(0, len(rows), 100))
    shards.write_shard(ShardFile(sys.argv[1], "train", number, 20, Form.TFRECORD), SCHEMA, batches, "recipe")
print("done", flush=True)
