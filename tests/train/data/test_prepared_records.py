"""Records of a prepared data set are parsed and cut into batches as arrays are."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError, UsageError
from slurm_tf.prepare.form import Form
from tests.prepare.data_sets import write_data_set

pytestmark = pytest.mark.tensorflow
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SCHEMA = Schema(
    (
        Feature("id", Kind.INT64),
        Feature("score", Kind.FLOAT, default=0.5),
        Feature("name", Kind.BYTES, default="nobody"),
        Feature("image", Kind.FLOAT, (2, 2), default=1),
        Feature("words", Kind.BYTES, (None,), default=()),
    )
)
ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "score": None if number % 3 == 0 else number / 4,
        "name": None if number % 4 == 0 else b"\0\xff%d\0" % number,
        "image": None if number % 5 == 0 else [number, 1.0, 2.0, 3.0],
        "words": [None, [], [b"a", b""]][number % 3],
    }
    for number in range(50)
]


def batches(folder: Path, size: int = 1, batch_size: int = 8, **options: Any) -> list[Any]:
    from slurm_tf.train.data.batches import Batches
    from slurm_tf.train.data.prepared_records import Records

    given = {"split": "train", "seed": 3, "shuffle": None, "map": None, **options}
    return [Batches(Records(str(folder), **given), batch_size, rank, size) for rank in range(size)]


@pytest.mark.parametrize("shuffle", ["records", "blocks"])
def test_every_record_once_an_epoch_and_from_any_step_on(tmp_path: Path, shuffle: str) -> None:
    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS}, count=3)
    tasks = batches(folder, 2, shuffle=shuffle)
    seen: Counter[int] = Counter()
    epoch = []
    for features, weight in [batch for task in tasks for batch in task.dataset]:
        assert weight.shape == (4,)
        ids = features["id"].numpy()
        seen.update(ids[weight.numpy() > 0].tolist())
        epoch.append(ids.tolist())
        for place, number in enumerate(ids):
            row = ROWS[number]
            assert features["score"][place] == (0.5 if row["score"] is None else row["score"])
            assert features["name"][place] == (row["name"] or b"nobody")
            assert features["image"][place].numpy().ravel().tolist() == (row["image"] or [1.0] * 4)
            assert features["words"][place].numpy().tolist() == (row["words"] or [])
    assert seen == dict.fromkeys(range(50), 1)
    (resumed, _) = batches(folder, 2, shuffle=shuffle)
    resumed.step = 4
    assert [features["id"].numpy().tolist() for features, _ in resumed.dataset][:3] == epoch[4:7]
    # another number of tasks has the same samples in each global batch
    (alone,) = batches(folder, shuffle=shuffle)
    for number, (features, weight) in enumerate(alone.dataset):
        real = {int(each) for each, given in zip(features["id"], weight, strict=True) if given > 0}
        assert real <= {*epoch[number], *epoch[number + 7]}


@pytest.mark.parametrize("samples", [1, 20, 1000])
def test_batches_are_the_same_however_many_are_read_at_once(
    tmp_path: Path, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slurm_tf.train.data import batches as module

    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS}, count=3)
    found = []
    for at_once in (samples, 8):
        monkeypatch.setattr(module, "_SAMPLES_AT_ONCE", at_once)
        (task,) = batches(folder)
        task.step = 3  # so that batches of two epochs are read at once
        found.append([(features["id"].numpy().tolist(), weight.numpy().tolist()) for features, weight in task.dataset])
    assert found[0] == found[1]
    stored = [number for first in range(3) for number in range(first, 50, 3)]
    parts = map(task.part, range(3, 10))
    assert found[0] == [([stored[place] for place in indices], weights.tolist()) for indices, weights in parts]


def test_what_the_program_makes_of_features(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS})
    (task,) = batches(folder, map=lambda features: (features["image"], features["id"], features["score"] * 0))
    assert task.has_weights
    for x, y, weight in task.dataset:
        assert (x.shape, y.shape) == ((8, 2, 2), (8,))
        # a weight of 0 of the program's own does not mark padding
        assert (weight.numpy() > 0).sum() in (8, 2)
    with pytest.raises(UsageError, match=r"found a batch with \(\); needed 8 samples"):
        _ = batches(folder, map=lambda features: features["id"][0])[0].dataset


def test_sequences(tmp_path: Path) -> None:
    schema = Schema(
        (
            Feature("id", Kind.INT64),
            Feature("steps", Kind.FLOAT, (2,), is_sequence=True),
            Feature("tags", Kind.BYTES, (None,), is_sequence=True, default=()),
            Feature("marks", Kind.INT64, is_sequence=True, default=()),
        )
    )
    rows: list[dict[str, Any]] = [
        {
            "id": number,
            "steps": [[number, step] for step in range(number)],
            "tags": [[b"a"] * step for step in range(number)] if number % 2 else None,
            "marks": list(range(number)) if number % 3 else None,
        }
        for number in range(8)
    ]
    folder = write_data_set(tmp_path / "data", schema, {"train": rows})
    ((features, _),) = batches(folder)[0].dataset
    for place, number in enumerate(features["id"].numpy()):
        assert features["steps"][place].numpy().tolist() == rows[number]["steps"]
        assert features["tags"][place].to_list() == (rows[number]["tags"] or [])
        assert features["marks"][place].numpy().tolist() == (rows[number]["marks"] or [])


def test_validation_reads_all_in_order(tmp_path: Path) -> None:
    from slurm_tf.train.data.prepared_records import validation_dataset

    for form in (Form.TFRECORD, Form.TFRECORD_GZIP):
        folder = write_data_set(tmp_path / form.name, SCHEMA, {"test": ROWS}, form, count=1)
        data = validation_dataset(str(folder), 8, "test", lambda features: features["id"])
        assert data.cardinality() == 7
        assert [number for batch in data for number in batch.numpy()] == list(range(50))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for form in (Form.TFRECORD_GZIP, Form.JSON_LINES):
        folder = write_data_set(tmp_path / form.name, SCHEMA, {"train": [{**ROWS[1], "name": b"a"}]}, form)
        with pytest.raises(
            DatasetError, match=f"(?s){form.name}: its form is {form.value}; needed .tfrecord: .* export"
        ):
            batches(folder)
    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS, "empty": []})
    with pytest.raises(DatasetError, match="data: found the split x; needed one of train, empty"):
        batches(folder, split="x")
    with pytest.raises(UsageError, match="found no samples"):
        batches(folder, split="empty")
    with pytest.raises(UsageError, match='found shuffle=\'all\'; needed one of "records", "blocks", or None'):
        batches(folder, shuffle="all")
    with pytest.raises(DatasetError, match=r"there is no manifest.json"):
        batches(tmp_path)


def test_a_record_that_is_damaged_in_training_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import tensorflow as tf

    folder = write_data_set(tmp_path / "data", SCHEMA, {"train": ROWS}, count=1)
    shard = folder / "train-00000-of-00001.tfrecord"
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    (task,) = batches(folder)
    with pytest.raises(tf.errors.OpError, match="the length of the record is not what the index says"):
        list(task.dataset)
    assert f"slurm_tf.train: {shard}: record 0, at byte 0: the length of the record" in capfd.readouterr().err
