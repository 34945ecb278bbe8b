"""Records are read by their numbers, and what is damaged is named."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from slurm_tf.dataset import dataset_manifest, shard_index
from slurm_tf.dataset.dataset_manifest import Shard, Split
from slurm_tf.dataset.record_frame import FRAME
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError, StorageError
from slurm_tf.prepare import record_file
from slurm_tf.train.data.read_ahead import ReadAhead
from slurm_tf.train.data.record_files import RecordFiles, StoredRecords
from tests.prepare.data_sets import write_data_set

SCHEMA = Schema((Feature("id", Kind.INT64), Feature("text", Kind.BYTES)))
ROWS = [{"id": number, "text": b"\0" * (number * 7 % 90)} for number in range(50)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # two of the shards have no rows
    return write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS, "few": ROWS[:3]}, count=5)


def opened(folder: Path, split: str = "train") -> RecordFiles:
    return RecordFiles(str(folder), dataset_manifest.read(str(folder)).split(split))


def records(found: StoredRecords) -> list[bytes]:
    return [found.data[start : start + length] for start, length in zip(found.starts, found.lengths, strict=True)]


def stored(folder: Path, split: str = "train") -> list[bytes]:
    paths = sorted(folder.glob(f"{split}-*.tfrecord"))
    return [record for path in paths for record in record_file.records(str(path), path.open("rb"), False)]


@pytest.mark.parametrize("split", ["train", "few"])
def test_any_records_in_any_order(folder: Path, split: str) -> None:
    files, expected = opened(folder, split), stored(folder, split)
    assert files.rows == len(expected)
    random = np.random.default_rng(3)
    for count in (1, 2, len(expected), 200):
        numbers = random.integers(0, len(expected), count)
        assert records(files.read(numbers)) == [expected[number] for number in numbers]
    assert records(files.read(np.array([], np.int64))) == []


def test_records_of_any_length(tmp_path: Path) -> None:
    # around multiples of what is copied at once; the shards of the split few have less than that
    rows = [
        {"id": number, "text": bytes([number % 256]) * length} for number, length in enumerate([0, 9, *range(180, 560)])
    ]
    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": rows}, count=12)
    files, expected = opened(folder), stored(folder)
    numbers = np.random.default_rng(4).permutation(np.repeat(np.arange(len(rows)), 2))
    assert records(files.read(numbers)) == [expected[number] for number in numbers]
    for number, record in enumerate(expected):
        assert records(files.read(np.array([number]))) == [record]


def test_records_without_a_byte(tmp_path: Path) -> None:
    shard = tmp_path / "train.tfrecord"
    shard.write_bytes(bytes(2 * FRAME))
    shard_index.write(str(shard), [0, FRAME, 2 * FRAME])
    split = Split("train", (Shard(shard.name, 2, 2 * FRAME, "", ""),))
    assert records(RecordFiles(str(tmp_path), split).read(np.array([1, 0]))) == [b"", b""]


def test_more_shards_than_files_that_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_tf.train.data.record_files._OPEN_SHARDS", 2)
    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS}, count=9)
    files, expected = opened(folder), stored(folder)
    for _ in range(3):
        assert records(files.read(np.arange(50))) == expected
    before = len(list(Path("/proc/self/fd").iterdir()))
    files.read(np.arange(50)[::-1])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_sizes_are_compared_before_training(folder: Path) -> None:
    shard = folder / "train-00002-of-00005.tfrecord"
    for file, data, message in (
        (shard, shard.read_bytes()[:-1], rf"{shard}: the file has \d+ bytes; needed \d+, as the manifest says"),
        (Path(shard_index.path(str(shard))), b"", r"tfrecord.index: the file has 0 bytes; needed 88"),
    ):
        sound = file.read_bytes()
        file.write_bytes(data)
        with pytest.raises(DatasetError, match=message):
            opened(folder)
        file.unlink()
        with pytest.raises(DatasetError, match="No such file"):
            opened(folder)
        file.write_bytes(sound)
    assert opened(folder).rows == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda starts: [0, *(start + 1 for start in starts[1:-1]), starts[-1]],
            "record 0, at byte 0: the length of the record is not what",
        ),
        (lambda starts: [2**64 - 1, *starts[1:]], "record 0, at byte -1: the index leads to bytes that are no record"),
        (lambda starts: [0, 2**40, *starts[2:]], "record 0, at byte 0: the index leads to bytes"),
        (lambda starts: [*starts[:-2], starts[-1] - 3, starts[-1]], "the index leads to bytes|the length of"),
    ],
)
def test_a_wrong_index_is_named(folder: Path, change: object, message: str) -> None:
    shard = str(folder / "train-00000-of-00005.tfrecord")
    shard_index.write(shard, change(shard_index.read(shard).tolist()))  # type: ignore[operator]
    files = opened(folder)
    with pytest.raises(DatasetError, match=message) as caught:
        files.read(np.arange(10))
    assert str(caught.value.where).startswith(f"{shard}: record ")
    assert records(files.read(np.arange(10, 50))) == stored(folder)[10:]


def test_what_is_read_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int, int]] = []
    monkeypatch.setattr(
        "slurm_tf.train.data.record_files._read_through", lambda path, first, end: read.append((path, first, end))
    )
    files = opened(folder)
    files.read_ahead(15, 32)
    shards = [str(folder / f"train-0000{number}-of-00005.tfrecord") for number in (1, 2, 3)]
    starts = [shard_index.read(shard) for shard in shards]
    assert read[1::2] == [
        (shards[0], starts[0][5], starts[0][10]),
        (shards[1], 0, starts[1][10]),
        (shards[2], 0, starts[2][2]),
    ]
    assert read[::2] == [
        (shard_index.path(shard), 8 * first, 8 * end + 8)
        for shard, first, end in zip(shards, (5, 0, 0), (10, 10, 2), strict=True)
    ]


def test_reading_ahead_that_fails_is_one_error(folder: Path) -> None:
    ahead = ReadAhead(opened(folder))
    for key in range(6):
        ahead.ask(key, [(0, 10)])
        ahead.ask(key, [(0, 10)])
    ahead.wait(5)
    for path in folder.iterdir():
        path.unlink()
    ahead.ask("next", [(40, 50)])
    with pytest.raises(StorageError, match="train-00004-of-00005"):
        ahead.wait("next")


def test_the_thread_that_reads_ahead_ends_with_what_asks(folder: Path) -> None:
    before = threading.enumerate()
    ahead = ReadAhead(opened(folder))
    ahead.ask("all", [(0, len(ROWS))])
    ahead.wait("all")
    (thread,) = [each for each in threading.enumerate() if each not in before]
    del ahead
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
