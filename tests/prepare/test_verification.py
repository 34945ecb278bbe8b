"""Damage of every file of a data set is found, and said where it is."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.dataset import dataset_manifest, shard_index
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.prepare import verification
from slurm_tf.prepare.form import Form
from tests.prepare.data_sets import write_data_set

SCHEMA = Schema((Feature("id", Kind.INT64), Feature("name", Kind.BYTES), Feature("mean", Kind.FLOAT)))
SPLITS = {
    split: [{"id": number, "name": b"%s-%d" % (split.encode(), number), "mean": number / 3} for number in range(20)]
    for split in ("train", "test")
}
SHARD = "train-00000-of-00002"


def damages(folder: Path, quick: bool = False) -> list[str]:
    manifest = dataset_manifest.read(str(folder))
    return [
        f"{os.path.relpath(each.file, folder)}: {each.found}; {each.needed}"
        for each in verification.damages(str(folder), manifest, quick)
    ]


@pytest.mark.parametrize("unreproducible", [(), ("mean",)])
@pytest.mark.parametrize("form", Form)
def test_what_was_written_is_whole(tmp_path: Path, form: Form, unreproducible: tuple[str, ...]) -> None:
    folder = write_data_set(tmp_path / "d", SCHEMA, SPLITS, form, unreproducible=unreproducible)
    assert damages(folder) == damages(folder, quick=True) == []


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "found", "is_quick"),
    [
        (os.unlink, f"{SHARD}.tfrecord: No such file", True),
        (lambda shard: os.truncate(shard, 99), f"{SHARD}.tfrecord: the file has 99 bytes", True),
        (lambda shard: os.unlink(f"{shard}.index"), f"{SHARD}.tfrecord.index: No such file", True),
        (lambda shard: os.truncate(f"{shard}.index", 8), f"{SHARD}.tfrecord.index: the file has 8 bytes", True),
        (lambda shard: _flip(shard, 12), f"{SHARD}.tfrecord: record 0, at byte 0: the record is not", False),
        (lambda shard: _flip(shard, 0), f"{SHARD}.tfrecord: record 0, at byte 0: the length", False),
        (lambda shard: _flip(shard, -1), f"{SHARD}.tfrecord: record 9, at byte 634: the record is not", False),
        (lambda shard: _flip(Path(f"{shard}.index"), 8), f"{SHARD}.tfrecord.index: the index says that rec", False),
        (lambda shard: _flip(Path(f"{shard}.index"), 80), f"{SHARD}.tfrecord.index: the index is of a file", False),
        (lambda shard: (shard.parent / "x.tfrecord").touch(), "x.tfrecord: the file is no shard of the data set", True),
    ],
)  # fmt: skip
def test_damage_is_found(tmp_path: Path, damage: Callable[[Path], None], found: str, is_quick: bool) -> None:
    folder = write_data_set(tmp_path / "d", SCHEMA, SPLITS)
    damage(folder / f"{SHARD}.tfrecord")
    (only,) = damages(folder)
    assert only.startswith(found)
    assert damages(folder, quick=True) == ([only] if is_quick else [])


def test_rows_in_another_order_are_damage(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "d", SCHEMA, SPLITS)
    path = folder / f"{SHARD}.tfrecord"
    _, first, second, *_ = shard_index.read(str(path))
    data = path.read_bytes()
    path.write_bytes(data[first:second] + data[:first] + data[second:])
    (only,) = damages(folder)
    assert only.startswith(f"{SHARD}.tfrecord: the digest of the rows is ")


@pytest.mark.parametrize("form", [Form.TFRECORD_GZIP, Form.CSV, Form.JSON_LINES])
@pytest.mark.parametrize("at", [3, 40, -1])
def test_damage_in_other_forms(tmp_path: Path, form: Form, at: int) -> None:
    folder = write_data_set(tmp_path / "d", SCHEMA, SPLITS, form)
    _flip(folder / f"{SHARD}{form.value}", at)
    assert len(damages(folder)) == 1


def test_a_manifest_that_was_changed(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "d", SCHEMA, SPLITS)
    text = (folder / "manifest.json").read_text()
    digest = dataset_manifest.read(str(folder)).digest
    (folder / "manifest.json").write_text(text.replace(digest, "0" * 64))
    (only,) = damages(folder, quick=True)
    assert only.startswith(f"manifest.json: the digest is {'0' * 64}")


def test_assets(tmp_path: Path) -> None:
    assets = {"country.vocab.txt": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"}
    folder = write_data_set(tmp_path / "d", SCHEMA, SPLITS, assets=assets)
    assert damages(folder, quick=True) == [
        "assets/country.vocab.txt: the file is missing; the asset that the manifest names"
    ]
    (folder / "assets").mkdir()
    (folder / "assets" / "country.vocab.txt").write_text("hello\n")
    assert damages(folder) == []
    (folder / "assets" / "country.vocab.txt").write_text("hallo\n")
    assert [each.partition(";")[0] for each in damages(folder)] == ["assets/country.vocab.txt: the file was changed"]
