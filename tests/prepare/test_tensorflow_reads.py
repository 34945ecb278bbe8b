"""What is written is what TensorFlow reads."""

from pathlib import Path
from typing import Any

import pytest

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.prepare.form import Form
from tests.prepare.data_sets import write_data_set

pytestmark = pytest.mark.tensorflow

FLAT = Schema(
    (
        Feature("id", Kind.INT64),
        Feature("score", Kind.FLOAT, default=0.5),
        Feature("name", Kind.BYTES),
        Feature("image", Kind.FLOAT, (2, 2)),
        Feature("words", Kind.BYTES, (None,), default=()),
    )
)
ROWS: list[dict[str, Any]] = [
    {
        "id": -number,
        "score": None if number % 3 == 0 else number / 4,
        "name": b"\xff%d" % number,
        "image": [number, 1.0, 2.0, 3.0],
        "words": [None, [], [b"a", b""]][number % 3],
    }
    for number in range(12)
]
SEQUENCES = Schema((Feature("id", Kind.INT64), Feature("steps", Kind.FLOAT, (2,), is_sequence=True)))


def test_examples_sequences_and_csv(tmp_path: Path) -> None:
    import tensorflow as tf

    parsing = {
        "id": tf.io.FixedLenFeature((), tf.int64),
        "score": tf.io.FixedLenFeature((), tf.float32, 0.5),
        "name": tf.io.FixedLenFeature((), tf.string),
        "image": tf.io.FixedLenFeature((2, 2), tf.float32),
        "words": tf.io.RaggedFeature(tf.string),
    }
    for form, compression in ((Form.TFRECORD, ""), (Form.TFRECORD_GZIP, "GZIP")):
        folder = write_data_set(tmp_path / form.name, FLAT, {"train": ROWS}, form, count=1)
        records = tf.data.TFRecordDataset(str(folder / f"train-00000-of-00001{form.value}"), compression)
        (found,) = records.batch(100).map(lambda batch: tf.io.parse_example(batch, parsing))
        assert found["id"].numpy().tolist() == [row["id"] for row in ROWS]
        assert found["score"].numpy().tolist() == [0.5 if row["score"] is None else row["score"] for row in ROWS]
        assert found["name"].numpy().tolist() == [row["name"] for row in ROWS]
        assert found["image"].numpy().reshape(-1, 4).tolist() == [row["image"] for row in ROWS]
        assert found["words"].to_list() == [row["words"] or [] for row in ROWS]
    steps = [{"id": number, "steps": [[number, step] for step in range(number)]} for number in range(4)]
    folder = write_data_set(tmp_path / "sequences", SEQUENCES, {"train": steps}, count=1)
    (batch,) = tf.data.TFRecordDataset(str(folder / "train-00000-of-00001.tfrecord")).batch(100)
    context, lists, lengths = tf.io.parse_sequence_example(
        batch, {"id": parsing["id"]}, {"steps": tf.io.FixedLenSequenceFeature((2,), tf.float32)}
    )
    assert context["id"].numpy().tolist() == [0, 1, 2, 3] == lengths["steps"].numpy().tolist()
    assert [lists["steps"].numpy()[row["id"], : row["id"]].tolist() for row in steps] == [row["steps"] for row in steps]
    text = [{"id": 1, "name": b'a,"b"\n'}, {"id": -2, "name": b""}]
    schema = Schema((FLAT.features[0], FLAT.features[2]))
    folder = write_data_set(tmp_path / "text", schema, {"train": text}, Form.CSV, count=1)
    defaults = [tf.int64, tf.constant([""])]  # to which text that is empty is missing text
    table = tf.data.experimental.CsvDataset([str(folder / "train-00000-of-00001.csv")], defaults, header=True)
    assert [(int(number), name.numpy()) for number, name in table] == [(1, b'a,"b"\n'), (-2, b"")]
