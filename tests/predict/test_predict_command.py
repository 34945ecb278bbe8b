"""`slurm-tf predict` as a person types it, on this machine."""

import csv
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_tf.predict import prediction_plan
from tests import forkserver, snippets
from tests.conftest import PYTHONPATH
from tests.jobs.conftest import SLURM_TF
from tests.predict.test_predict import lines, vectors, write_csv

pytestmark = pytest.mark.tensorflow


def type_predict(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, **forkserver.environ()}
    return subprocess.run(
        [*SLURM_TF, "predict", *words, "--site", "local"],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_all_shards_are_computed_here_and_again_only_what_is_missing(model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", vectors(30))
    words = (str(model), "--input", "*.csv", "--output", "out", "--shards", "3", "--batch", "5")
    done = type_predict(tmp_path, *words)
    assert (done.returncode, done.stdout) == (0, "30 rows, 0 of them with an error, are in out\n"), done.stderr
    assert len(lines(tmp_path / "out")) == 30
    before = (tmp_path / "out" / "part-00001-of-00003.jsonl").read_text()
    (tmp_path / "out" / "part-00001-of-00003.json").unlink()
    (tmp_path / "out" / "manifest.json").unlink()
    done = type_predict(tmp_path, *words, "--json")
    assert json.loads(done.stdout) == {"output": str(tmp_path / "out"), "rows": 30, "errors": 0, "shards": 3}
    assert done.stderr.count("is done already") == 2
    assert (tmp_path / "out" / "part-00001-of-00003.jsonl").read_text() == before


def test_what_cannot_be_done_is_one_error_and_an_exit_code(model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", vectors(3)[:, :2], header="a,b")
    for words, code, message in (
        ((str(model), "--input", "b.csv", "--output", "out"), 2, "no file is named by 'b.csv'"),
        ((str(tmp_path / "m"), "--input", "a.csv", "--output", "out"), 65, "there is no such folder"),
        ((str(model), "--input", "a.csv", "--output", "."), 2, "holds files, but no prediction"),
        ((str(model), "--input", "a.csv", "--output", "out"), 65, "the input has no column x"),
        (
            (str(model), "--input", "a.csv", "--output", "o", "--keep", 'a,"b,c"'),
            2,
            "--keep names 'b,c'; needed one of",
        ),
    ):
        done = type_predict(tmp_path, *words)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert message in done.stderr
    assert prediction_plan.read_manifest(str(tmp_path / "out")) is None


def test_the_lines_of_the_docs(model: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    (tmp_path / "clicks").mkdir()
    shutil.copytree(model, tmp_path / "MODELS" / "digits")
    for number in range(2):
        with (tmp_path / "clicks" / f"{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["id", "x", "day"], *([f"{number}-{row}", "[1, 2, 3]", "Monday"] for row in range(3))])
    (snippet,) = snippets.of("sh predict")
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, **forkserver.environ()}
    text = snippet.text.replace("slurm-tf ", f"{shlex.join(SLURM_TF)} ")
    done = subprocess.run(
        ["bash", "-ec", text], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "predicted.jsonl").read_text().splitlines()) == 6
    rows = parquet.read_table(tmp_path / "scores" / "part-00000-of-00001.parquet").to_pylist()
    assert [(row["id"], row["day"], row["error"]) for row in rows] == [
        (f"{number}-{row}", "Monday", None) for number in range(2) for row in range(3)
    ]
    predicted = [json.loads(line) for line in (tmp_path / "predicted.jsonl").read_text().splitlines()]
    assert [row["y"] for row in rows] == [row["y"] for row in predicted]
