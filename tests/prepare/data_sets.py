"""Writes small data sets for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slurm_tf.dataset.schema import Schema
from slurm_tf.prepare import commit, shards
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.shards import ShardFile
from tests.prepare.batches import batch_of


def write_data_set(
    folder: Path,
    schema: Schema,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    form: Form = Form.TFRECORD,
    count: int = 2,
    key: Sequence[str] = (),
    unreproducible: Sequence[str] = (),
    assets: Mapping[str, str] | None = None,
) -> Path:
    """Write a data set with `count` shards in each split, and return its folder."""
    folder.mkdir(mode=0o700, parents=True)
    summaries = [
        shards.write_shard(
            ShardFile(str(folder), split, number, count, form), schema, [batch_of(schema, rows[number::count])],
            "recipe", unreproducible,
        )
        for split, rows in splits.items()
        for number in range(count)
    ]  # fmt: skip
    versions = {"slurm-tf": "0.1.0"}
    commit.commit(
        str(folder),
        commit.manifest_of(summaries, form, schema, key, {}, versions, assets or {}, unreproducible),
    )
    return folder
