"""A model is run on every row, here and as processes: order, count and bits are the input's, and what fails says so."""

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slurm_tf.errors import ModelError, UsageError
from slurm_tf.predict import batch_prediction, prediction_plan
from slurm_tf.predict.batch_prediction import Request
from slurm_tf.predict.prediction_plan import OutputFormat
from tests import forkserver

pytestmark = pytest.mark.tensorflow


def request(model: Path, inputs: Path, output: Path, **more: Any) -> Request:
    values: dict[str, Any] = {
        "number": None, "signature": "", "shards": 1, "batch_size": 4, "max_errors": 0, "save_every": 60.0,
        "output_format": OutputFormat.JSONL, "keep": (), **more,
    }  # fmt: skip
    return Request(model=str(model), inputs=str(inputs), output=str(output), **values)


def shard_process(output: Path, shard: str) -> "subprocess.Popen[str]":
    """Start the program of a job."""
    code = "from slurm_tf.predict import shard_process; shard_process.main()"
    return subprocess.Popen(
        [forkserver.python(), "-c", code, str(output), shard], stderr=subprocess.PIPE, text=True,
        env={**forkserver.VARIABLES, "PATH": os.environ["PATH"]}, cwd="/",
    )  # fmt: skip


def compute(output: Path, shard: str = "all") -> str:
    """Compute shards; return what was said of them."""
    process = shard_process(output, shard)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    return said


def lines(output: Path) -> list[Any]:
    """Return what was predicted, in the order of the shards, as the manifest names them."""
    manifest = prediction_plan.read_manifest(str(output))
    assert manifest
    texts = [(output / shard.output).read_text() for shard in manifest.shards]
    assert [text.count("\n") for text in texts] == [shard.rows for shard in manifest.shards]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def vectors(count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3)).astype("float32")


def write_csv(path: Path, rows: Any, header: str = "a,b,c") -> None:
    path.write_text("\n".join([header, *(",".join(repr(float(each)) for each in row) for row in rows)]) + "\n")


def test_shards_give_the_bits_of_one_process_and_the_values_of_the_model(model: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    rows = vectors(50)
    write_csv(tmp_path / "1.csv", rows[:23])
    write_csv(tmp_path / "2.csv", rows[23:])
    one = batch_prediction.prepare(request(model, tmp_path / "*.csv", tmp_path / "one"))
    many = batch_prediction.prepare(request(model, tmp_path / "*.csv", tmp_path / "many", shards=4))
    assert (len(one.shards), len(many.shards)) == (1, 4)
    assert "50 rows in" in compute(tmp_path / "one")
    for shard in (2, 0, 3):
        compute(tmp_path / "many", str(shard))
    assert prediction_plan.read_manifest(str(tmp_path / "many")) is None
    said = compute(tmp_path / "many")
    assert said.count("is done already") == 3
    assert lines(tmp_path / "many") == lines(tmp_path / "one")
    assert [row.keys() for row in lines(tmp_path / "one")] == [{"y"}] * 50
    function = tf.saved_model.load(one.version).signatures["serving_default"]
    expected = [function(x=tf.constant(rows[at : at + 4]))["y"].numpy() for at in range(0, 50, 4)]
    found = np.array([row["y"] for row in lines(tmp_path / "one")], "float32")
    # this process has other CPU kernels, of oneDNN
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    assert sorted(os.listdir(tmp_path / "one")) == [
        "manifest.json", "part-00000-of-00001.json", "part-00000-of-00001.jsonl", "plan.json",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "one").iterdir()} == {0o600}


def test_every_format_gives_the_same(model: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    from pyarrow import Table, parquet

    numbers, texts = list(range(10)), [f"ä{number}" for number in range(10)]
    (tmp_path / "a.csv").write_text("text,other,n\n" + "".join(f"{t},,{n}\n" for n, t in zip(numbers, texts)))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"n": n, "text": t}) + "\n" for n, t in zip(numbers, texts)))
    parquet.write_table(Table.from_pydict({"n": numbers, "text": texts}), tmp_path / "a.parquet", row_group_size=3)
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for n, t in zip(numbers, texts):
            features = {
                "n": tf.train.Feature(int64_list=tf.train.Int64List(value=[n])),
                "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[t.encode()])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    for end in ("csv", "jsonl"):
        (tmp_path / f"a.{end}.gz").write_bytes(gzip.compress((tmp_path / f"a.{end}").read_bytes()))
    expected = [{"joined": f"ä{n}{n}", "twice": 2 * n} for n in numbers]
    for end in ("csv", "csv.gz", "jsonl", "jsonl.gz", "parquet", "tfrecord"):
        output = tmp_path / f"of-{end}"
        batch_prediction.prepare(request(model, tmp_path / f"a.{end}", output, signature="named", shards=2))
        compute(output)
        assert lines(output) == expected, end
    for number in range(3):
        image = tf.fill([4, 4, 3], tf.constant(100 * number, tf.uint8))
        tf.io.write_file(str(tmp_path / f"{number}.png"), tf.io.encode_png(image))
    batch_prediction.prepare(request(model, tmp_path / "*.png", tmp_path / "of-png", signature="image"))
    compute(tmp_path / "of-png")
    means = [row["mean"][0] for row in lines(tmp_path / "of-png")]
    assert means == pytest.approx([0, 100 / 255, 200 / 255])


def test_a_row_that_fails_says_so_in_its_place_and_too_many_end_the_shard(model: Path, tmp_path: Path) -> None:
    rows = ['{"x": [1, 2, 3]}', '{"x": [1, 2]}', "[4, 5, 6]", "no json", '{"x": [-200, 0, 0]}', '{"z": 1}', "null"]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    batch_prediction.prepare(request(model, tmp_path / "a.jsonl", tmp_path / "out", max_errors=5))
    compute(tmp_path / "out")
    found = lines(tmp_path / "out")
    assert [next(iter(row)) for row in found] == ["y", "error", "y", "error", "error", "error", "error"]
    assert "x has the shape [2]; needed [3]" in found[1]["error"]
    assert "it has no x" in found[5]["error"]
    assert "x is missing" in found[6]["error"]
    assert "Condition x > y did not hold" in found[4]["error"]
    manifest = prediction_plan.read_manifest(str(tmp_path / "out"))
    assert manifest
    assert (manifest.rows, manifest.errors) == (7, 5)
    batch_prediction.prepare(request(model, tmp_path / "a.jsonl", tmp_path / "strict", max_errors=4))
    process = shard_process(tmp_path / "strict", "0")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 65
    assert "5 of the first 7 rows of shard 0 failed, the last: x is missing; needed at most 4" in said
    assert sorted(os.listdir(tmp_path / "strict")) == ["plan.json"]
    batch_prediction.prepare(request(model, tmp_path / "a.jsonl", tmp_path / "strict", max_errors=5))
    compute(tmp_path / "strict")
    assert lines(tmp_path / "strict") == found


def test_what_does_not_fit_is_one_error(model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", vectors(3))
    with pytest.raises(ModelError, match="there is no version 7"):
        batch_prediction.prepare(request(model, tmp_path / "a.csv", tmp_path / "o", number=7))
    with pytest.raises(ModelError, match="it has no signature classify; needed one of"):
        batch_prediction.prepare(request(model, tmp_path / "a.csv", tmp_path / "o", signature="classify"))
    assert not (tmp_path / "o").exists()
    (tmp_path / "o").mkdir(mode=0o700)
    (tmp_path / "o" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds files, but no prediction"):
        batch_prediction.prepare(request(model, tmp_path / "a.csv", tmp_path / "o"))
    batch_prediction.prepare(request(model, tmp_path / "a.csv", tmp_path / "p"))
    with pytest.raises(UsageError, match="has another prediction"):
        batch_prediction.prepare(request(model, tmp_path / "a.csv", tmp_path / "p", batch_size=2))
    write_csv(tmp_path / "a.csv", vectors(4))
    process = shard_process(tmp_path / "p", "0")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 65
    assert "a.csv: it was changed; needed the file as it was" in said
    write_csv(tmp_path / "b.csv", vectors(4)[:, :2], header="a,b")
    batch_prediction.prepare(request(model, tmp_path / "b.csv", tmp_path / "q"))
    process = shard_process(tmp_path / "q", "0")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 65
    assert "the input has no column x; needed the model's inputs in the header" in said
