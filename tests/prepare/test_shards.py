"""Shards are whole or not there, say what they are, and are the same bytes however their rows came."""

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from slurm_tf.dataset import shard_index
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError, StorageError
from slurm_tf.prepare import shards
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.shards import ShardFile
from tests.conftest import ROOT
from tests.prepare.batches import batch_of

SCHEMA = Schema(
    (
        Feature("id", Kind.INT64),
        Feature("score", Kind.FLOAT, default=0.0),
        Feature("name", Kind.BYTES),
    )
)
ROWS = [{"id": number, "score": number / 8 if number % 7 else None, "name": b"n%d" % number} for number in range(100)]


def shard_of(folder: Path, form: Form = Form.TFRECORD) -> ShardFile:
    return ShardFile(str(folder), "train", 0, 1, form)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True, timeout=60)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True, timeout=60)


def batches(*sizes: int) -> Iterator[pa.RecordBatch]:
    start = 0
    for size in sizes:
        yield batch_of(SCHEMA, ROWS[start : start + size])
        start += size


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("form", Form)
def test_a_shard_is_the_same_however_its_rows_came(tmp_path: Path, form: Form) -> None:
    (tmp_path / "other").mkdir()
    one = shards.write_shard(shard_of(tmp_path / "other", form), SCHEMA, batches(100), "recipe")
    shutil.move(tmp_path / "other", tmp_path / "first")
    (tmp_path / "other").mkdir()
    many = shards.write_shard(shard_of(tmp_path / "other", form), SCHEMA, batches(1, 0, 50, 49), "recipe")
    assert one == many
    assert contents(tmp_path / "first") == contents(tmp_path / "other")


def test_the_digest_is_of_the_rows_and_not_of_the_form(tmp_path: Path) -> None:
    found = [shards.write_shard(shard_of(tmp_path, form), SCHEMA, batches(100), "recipe") for form in Form]
    assert len({each.digest for each in found}) == 1
    assert len({each.sha256 for each in found}) == len(Form)
    for each, form in zip(found, Form, strict=True):
        data = Path(shard_of(tmp_path, form).path).read_bytes()
        assert (each.sha256, each.bytes, each.rows) == (hashlib.sha256(data).hexdigest(), len(data), 100)
    assert {os.stat(path).st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_the_index_says_where_each_row_starts(tmp_path: Path) -> None:
    shard = shard_of(tmp_path)
    shards.write_shard(shard, SCHEMA, batches(30, 70), "recipe")
    starts = shard_index.read(shard.path).tolist()
    assert len(starts) == 101
    data = Path(shard.path).read_bytes()
    for start, end in itertools.pairwise(starts):
        assert int.from_bytes(data[start : start + 8], "little") == end - start - 16


def test_text(tmp_path: Path) -> None:
    for form, text in (
        (Form.CSV, 'id,score,name\n0,,"n0"\n1,0.125,"n1"\n'),
        (Form.JSON_LINES, '{"id":0,"score":null,"name":"n0"}\n{"id":1,"score":0.125,"name":"n1"}\n'),
    ):
        shards.write_shard(shard_of(tmp_path, form), SCHEMA, batches(2), "recipe")
        assert Path(shard_of(tmp_path, form).path).read_text() == text


def test_features_that_are_not_reproducible_are_not_in_the_digest(tmp_path: Path) -> None:
    digests = set()
    for number, score in enumerate((0.5, 0.75)):
        rows = [{"id": 1, "score": score, "name": b"x"}]
        (tmp_path / str(number)).mkdir()
        shard = shard_of(tmp_path / str(number))
        digests.add(shards.write_shard(shard, SCHEMA, [batch_of(SCHEMA, rows)], "recipe", {"score"}).digest)
    assert len(digests) == 1


def test_a_shard_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    first = shards.write_shard(shard_of(tmp_path), SCHEMA, batches(100), "recipe")

    def none() -> Iterator[pa.RecordBatch]:
        raise AssertionError("rows are read again")
        yield

    assert shards.write_shard(shard_of(tmp_path), SCHEMA, none(), "recipe") == first


@pytest.mark.parametrize("damage", ["recipe", "size", "index", "sidecar", "half a sidecar", "data"])
def test_a_shard_that_is_not_whole_is_written_again(tmp_path: Path, damage: str) -> None:
    shard = shard_of(tmp_path)
    shards.write_shard(shard, SCHEMA, batches(100), "recipe")
    whole = contents(tmp_path)
    if damage == "size":
        os.truncate(shard.path, 10)
    if damage in ("index", "sidecar"):
        os.unlink(f"{shard.path}.{'json' if damage == 'sidecar' else damage}")
    if damage == "half a sidecar":
        os.truncate(f"{shard.path}.json", 100)
    if damage == "data":
        os.unlink(shard.path)
    recipe = "another" if damage == "recipe" else "recipe"
    assert shards.written(shard, recipe) is None
    assert shards.write_shard(shard, SCHEMA, batches(100), recipe).recipe == recipe
    if damage != "recipe":
        assert contents(tmp_path) == whole


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (".train-00000-of-00001.tfrecord.x_temp", ".train-00000-of-00002.tfrecord.x_temp"):
        (tmp_path / name).touch()
    shards.write_shard(shard_of(tmp_path), SCHEMA, batches(1), "recipe")
    assert [path.name for path in tmp_path.glob(".*")] == [".train-00000-of-00002.tfrecord.x_temp"]


@pytest.mark.parametrize("form", Form)
def test_nothing_is_left_of_a_shard_with_a_bad_row(tmp_path: Path, form: Form) -> None:
    shards.write_shard(shard_of(tmp_path, form), SCHEMA, batches(3), "old")

    def bad() -> Iterator[pa.RecordBatch]:
        yield from batches(50)
        yield batch_of(SCHEMA, [{"id": 50, "score": float("nan"), "name": b""}])

    with pytest.raises(DatasetError, match="score is nan in row 50 "):
        shards.write_shard(shard_of(tmp_path, form), SCHEMA, bad(), "recipe")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(("_temp", ".json"))]


def test_an_error_of_the_rows_source_is_its_own(tmp_path: Path) -> None:
    def gone() -> Iterator[pa.RecordBatch]:
        yield from batches(5)
        raise OSError("the database went away")

    with pytest.raises(OSError, match=r"^the database went away$"):
        shards.write_shard(shard_of(tmp_path), SCHEMA, gone(), "recipe")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "rows", "message"),
    [
        (Form.CSV, [{"id": 0, "score": 0.0, "name": b"\xff"}], "name is b'\\xff' in row 0"),
        (Form.JSON_LINES, [{"id": 0, "score": 0.0, "name": b"\xff"}], "name is b'\\xff' in row 0"),
    ],
)
def test_text_has_no_bytes_that_are_none(
    tmp_path: Path, form: Form, rows: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        shards.write_shard(shard_of(tmp_path, form), SCHEMA, [batch_of(SCHEMA, rows)], "recipe")
    assert message in caught.value.found
    assert not list(tmp_path.iterdir())


def test_json_has_no_nan_and_csv_no_lists(tmp_path: Path) -> None:
    schema = Schema((Feature("x", Kind.FLOAT, (None,), allow_nan=True),))
    batch = batch_of(schema, [{"x": [1.0]}, {"x": [float("nan")]}])
    with pytest.raises(DatasetError, match="NaN or infinite in row 1"):
        shards.write_shard(shard_of(tmp_path, Form.JSON_LINES), schema, [batch], "recipe")
    with pytest.raises(DatasetError, match="x has several values, and the output is CSV"):
        shards.write_shard(shard_of(tmp_path, Form.CSV), schema, [batch], "recipe")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_is_one_error(full_disk: Path) -> None:
    schema = Schema((Feature("x", Kind.BYTES),))
    batch = batch_of(schema, [{"x": os.urandom(600_000)}, {"x": os.urandom(600_000)}])
    with pytest.raises(StorageError, match=r"cannot write the shard: .*train-00000-of-00001.tfrecord: No space left"):
        shards.write_shard(shard_of(full_disk), schema, [batch], "recipe")
    assert not list(full_disk.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.long)])
def test_writers_that_are_killed_leave_whole_shards_or_none(tmp_path: Path, kills: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    took = time.monotonic()
    with _writer(whole) as process:
        assert process.wait(60) == 0
    took = time.monotonic() - took
    for number in range(kills):
        with _writer(killed) as process:
            # at another moment each time, from the start to the end; what is there makes the rest shorter
            time.sleep(took * (0.4 + 0.6 * number / kills))
            process.kill()
        for path in killed.glob("*.json"):
            name = path.name.removesuffix(".json")
            assert (killed / name).read_bytes() == (whole / name).read_bytes()
            assert (killed / f"{name}.index").read_bytes() == (whole / f"{name}.index").read_bytes()
    with _writer(killed) as process:
        assert process.wait(60) == 0
    assert contents(killed) == contents(whole)


@pytest.mark.parametrize("begun", ["", ".index", ".json"])
def test_what_a_killed_writer_began_is_removed_by_the_next(tmp_path: Path, begun: str) -> None:
    class KilledError(BaseException):
        """Stands for SIGKILL: nothing is cleaned up."""

    rename = os.rename

    def killed(temporary: str, target: str) -> None:
        if target == f"{shard_of(tmp_path).path}{begun}":
            raise KilledError
        rename(temporary, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(os, "rename", killed)
        patch.setattr(os, "unlink", lambda _path: None)
        shards.write_shard(shard_of(tmp_path), SCHEMA, batches(5), "recipe")
    assert any(path.name.endswith("_temp") for path in tmp_path.iterdir())
    shards.write_shard(shard_of(tmp_path), SCHEMA, batches(5), "recipe")
    assert not any(path.name.endswith("_temp") for path in tmp_path.iterdir())


def _writer(folder: Path) -> subprocess.Popen[bytes]:
    program = ROOT / "tests" / "prepare" / "programs" / "writes_shards.py"
    return subprocess.Popen([sys.executable, program, folder], env={**os.environ, "PYTHONPATH": str(ROOT)})
