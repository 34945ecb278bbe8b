"""What is written is read back; what is damaged, of another format or hostile is one error that names the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.dataset import dataset_manifest, shard_index, sidecar
from slurm_tf.dataset.dataset_manifest import Manifest, Shard, Split
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.errors import DatasetError

SCHEMA = Schema(
    (
        Feature("image", Kind.FLOAT, (28, 28, 1), allow_nan=True),
        Feature("words", Kind.BYTES, (None,), default=()),
        Feature("steps", Kind.INT64, is_sequence=True),
        Feature("country", Kind.BYTES, default="ä"),
    )
)
STATISTICS = FeatureStatistics("country", 10, 1, 9, 0, 2, 2.5, 2**70, (1.0, 2.0), (("\udcff", 3), ("de", 2)), None)
MANIFEST = Manifest(
    form=".tfrecord",
    schema=SCHEMA,
    splits=(Split("train", (Shard("train-00000-of-00001.tfrecord", 10, 300, "5e", "d1"),)),),
    digest="aa",
    recipe="bb",
    key=("user",),
    inputs={"clicks.csv": "cc"},
    versions={"slurm-tf": "0.1.0"},
    assets={"country.vocab.txt": "dd"},
    unreproducible=("mean",),
    statistics={"train": (STATISTICS,)},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    dataset_manifest.write(str(tmp_path), MANIFEST)
    assert dataset_manifest.read(str(tmp_path)) == MANIFEST
    assert (tmp_path / "manifest.json").stat().st_mode & 0o777 == 0o600
    assert (MANIFEST.split("train").rows, MANIFEST.split("train").bytes) == (10, 300)
    with pytest.raises(DatasetError, match="found the split test; needed one of train"):
        MANIFEST.split("test")
    summary = ShardSummary("a.tfrecord", "train", 0, 1, 10, 300, "5e", "d1", "bb", (STATISTICS,))
    shard = str(tmp_path / "a.tfrecord")
    assert sidecar.read(shard) is None
    sidecar.write(shard, summary)
    assert sidecar.read(shard) == summary
    Path(f"{shard}.json").write_text("{")
    assert sidecar.read(shard) is None


def _changed(folder: Path, **changes: Any) -> None:
    """Write the manifest with other values at paths such as splits.0.name."""
    dataset_manifest.write(str(folder), MANIFEST)
    values = json.loads((folder / "manifest.json").read_text())
    for path, value in changes.items():
        at: Any = values
        *keys, last = path.split(".")
        for key in keys:
            at = at[int(key) if key.isdigit() else key]
        at[last] = value
    (folder / "manifest.json").write_text(json.dumps(values))


def test_a_later_release_may_have_more_keys(tmp_path: Path) -> None:
    more = {"format": "1.7", "licence": "free", "splits.0.shards.0.mirror": "x", "schema.features.0.unit": "m"}
    _changed(tmp_path, **more, **{"statistics.train.0.variance": 2})
    assert dataset_manifest.read(str(tmp_path)) == MANIFEST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "2.0"}, "it has format 2.0; needed what a data set of format 1 has"),
        ({"format": None}, "it does not say its format"),
        ({"digest": 7}, "digest is 7"),
        ({"splits.0.shards.0.rows": "10"}, "splits.0.shards.0.rows is \"10\""),
        ({"splits.0.shards.0.name": "../../etc/passwd"}, "found the name '../../etc/passwd'"),
        ({"splits.0.shards.0.name": "/etc/passwd"}, "found the name '/etc/passwd'"),
        ({"splits.0.shards.0.name": "a\nb"}, r"found the name 'a\\nb'"),
        ({"splits.0.shards.0.name": ".hidden"}, "found the name '.hidden'"),
        ({"splits.0.name": "$(reboot)"}, r"found the name '\$\(reboot\)'"),
        ({"assets": {"../x": ""}}, "found the name '../x'"),
        ({"schema.features.0.kind": "string"}, "kind is \"string\""),
        ({"schema.features.0.shape": [-1]}, r"the feature image has the shape \(-1,\)"),
        ({"schema.features.0.shape": [None, 2]}, r"the feature image has the shape \(None, 2\)"),
        ({"schema.features.0.name": ""}, "found a feature of the name ''"),
        ({"schema.features.0.name": "a\u001bb"}, "found a feature of the name"),
        ({"schema.features.0.name": "words"}, "the schema has 2 features of the name words"),
        ({"schema.features": []}, "the schema has no features"),
        ({"schema.features.0.default": "x"}, "the feature image has the default 'x'; needed a number"),
        ({"schema.features.1.default": 0}, "the feature words has the default 0; needed no value"),
        ({"schema.features.2.default": 1.5}, "the feature steps has the default 1.5"),
        ({"schema.features.3.default": 1}, "the feature country has the default 1; needed text"),
    ],
)  # fmt: skip
def test_what_no_release_writes(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    _changed(tmp_path, **changes)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset_manifest.read(str(tmp_path))
    assert caught.value.where == str(tmp_path / "manifest.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\udcff"])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=r"manifest.json: it "):
        dataset_manifest.read(str(tmp_path))


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is no manifest.json; needed the folder of a data set"):
        dataset_manifest.read(str(tmp_path))
    with pytest.raises(DatasetError, match="there is no such folder"):
        dataset_manifest.read(str(tmp_path / "x"))
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(DatasetError, match=r"manifest.json cannot be read \(Is a directory\)"):
        dataset_manifest.read(str(tmp_path))


def test_an_index(tmp_path: Path) -> None:
    shard = tmp_path / "a.tfrecord"
    shard.write_bytes(b"x" * 300)
    shard_index.write(str(shard), [0, 100, 300])
    assert shard_index.read(str(shard)).tolist() == [0, 100, 300]
    index = Path(shard_index.path(str(shard)))
    assert index.read_bytes() == b"".join(number.to_bytes(8, "little") for number in (0, 100, 300))
    assert index.stat().st_size == shard_index.size(2)
    for data, message in (
        (index.read_bytes()[:-8], "the index is of a file of 100 bytes; needed that of .*, which has 300"),
        (index.read_bytes()[8:], "the index is of a file of 300 bytes"),
        (index.read_bytes()[:-1], "the index has 23 bytes"),
        (b"", "the index has 0 bytes"),
    ):
        index.write_bytes(data)
        with pytest.raises(DatasetError, match=message):
            shard_index.read(str(shard))
    index.unlink()
    with pytest.raises(DatasetError, match="No such file"):
        shard_index.read(str(shard))
