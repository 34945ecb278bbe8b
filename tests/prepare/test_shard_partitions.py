"""Shards that workers write from sorted partitions are those that one process writes."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import digests, shard_partitions, shards
from slurm_tf.prepare.commit import manifest_of
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.shard_partitions import PartitionWriter
from slurm_tf.prepare.shards import ShardFile
from tests.prepare.batches import batch_of

SCHEMA = Schema((Feature("id", Kind.INT64), Feature("name", Kind.BYTES, (None,), default=())))
COUNTS = {"train": 3, "test": 2}


def rows(split: str, number: int) -> list[dict[str, Any]]:
    names = [None, [], [b"a", b"\xff"]]
    return [{"id": each, "name": names[each % 3]} for each in range(40) if each % COUNTS[split] == number]


def partition(*keys: tuple[str, int], size: int = 7) -> Iterator[pa.RecordBatch]:
    """Yield batches of some rows, in which shards begin anywhere, as an engine gives them."""
    tables = []
    for split, number in keys:
        batch = batch_of(SCHEMA, rows(split, number))
        numbers = pa.array([number] * len(batch), pa.int32())
        batch = batch.append_column(shard_partitions.SHARD, numbers)
        tables.append(pa.table(batch.append_column(shard_partitions.SPLIT, pa.array([split] * len(batch)))))
    yield from pa.concat_tables(tables).combine_chunks().to_batches(max_chunksize=size)


def writer(folder: Path) -> PartitionWriter:
    # as it comes to a worker
    made = PartitionWriter(str(folder), Form.TFRECORD, SCHEMA, COUNTS, "recipe")
    loaded: PartitionWriter = pickle.loads(pickle.dumps(made))  # noqa: S301 - of this process
    return loaded


def texts(folder: Path, *partitions: Iterator[pa.RecordBatch]) -> list[str]:
    yielded = [batch for each in partitions for batch in writer(folder)(each)]
    assert {batch.schema for batch in yielded} == {shard_partitions.SUMMARY}
    return [text for batch in yielded for text in batch.column(0).to_pylist()]


def test_partitions_give_the_shards_of_one_process(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    expected = [
        shards.write_shard(
            ShardFile(str(tmp_path / "one"), split, number, count, Form.TFRECORD),
            SCHEMA, [batch_of(SCHEMA, rows(split, number))], "recipe",
        )
        for split, count in COUNTS.items()
        for number in range(count)
    ]  # fmt: skip
    first = partition(("train", 1), ("test", 1), ("train", 0))
    second = partition(("test", 0), ("train", 2), size=1)
    found = texts(tmp_path / "many", first, second)
    assert writer(tmp_path / "many").all_shards(found) == expected
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "many" / path.name).read_bytes() == path.read_bytes()
    manifest = manifest_of(expected, Form.TFRECORD, SCHEMA, ["id"], {}, {}, {})
    assert manifest.digest == digests.of_data_set(manifest.splits)
    assert [(split.name, split.rows) for split in manifest.splits] == [("train", 40), ("test", 40)]
    # again: no shard is written anew
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "many").iterdir()}
    assert texts(tmp_path / "many", partition(("train", 1), ("test", 1), ("train", 0))) == found[:3]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "many").iterdir()} == times


def test_shards_without_rows_are_written(tmp_path: Path) -> None:
    found = writer(tmp_path).all_shards(texts(tmp_path, partition(("train", 1))))
    assert [summary.rows for summary in found] == [0, 13, 0, 0, 0]
    assert (tmp_path / "test-00001-of-00002.tfrecord").read_bytes() == b""
    assert (tmp_path / "test-00001-of-00002.tfrecord.index").stat().st_size == 8


@pytest.mark.parametrize(
    "order", [[("train", 1), ("train", 0), ("train", 1)], [("train", 1), ("test", 1), ("train", 1)]]
)
def test_rows_that_are_not_sorted_are_not_lost(tmp_path: Path, order: Sequence[tuple[str, int]]) -> None:
    with pytest.raises(DatasetError, match="the rows of a shard are not all together"):
        texts(tmp_path, partition(*order))


def test_a_shard_in_two_partitions_is_an_error(tmp_path: Path) -> None:
    found = texts(tmp_path, partition(("train", 1)), partition(("train", 1)))
    with pytest.raises(DatasetError, match="the rows of a shard were in several partitions"):
        writer(tmp_path).all_shards(found)
