"""What is staged is found before anything is copied: files alone, within the size bound, as the manifest says."""

import hashlib
import os
from pathlib import Path

import pytest

from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.dataset_manifest import Manifest, Shard, Split
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import StageError
from slurm_tf.launch.staging import sources
from slurm_tf.run.stage_settings import StageSettings


def error(*paths: str | Path, folder: Path = Path("/"), size: int | None = None) -> str:
    with pytest.raises(StageError) as found:
        sources.find(StageSettings(tuple(map(str, paths)), str(folder), size=size))
    return str(found.value)


def test_a_relative_path_and_one_through_a_link_are_found(tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    (tmp_path / "v3" / "a").write_text("12345")
    (tmp_path / "newest").symlink_to("v3")
    plan = sources.find(StageSettings(("newest/", "v3/../v3/a"), str(tmp_path)))
    assert [(file.name, file.bytes) for file in plan.files] == [("newest/a", 5), ("a", 5)]
    assert (plan.folders, plan.bytes) == (("newest",), 10)


def test_what_cannot_be_staged_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(bytes(1 << 20))
    assert error(tmp_path / "none").startswith(f"{tmp_path}/none cannot be read (No such file or directory)")
    assert "paths that end in different names" in error("d", "d/../d", folder=tmp_path)
    assert error("/").startswith("found the path '/'")
    assert sources.find(StageSettings(("d",), str(tmp_path), size=1)).bytes == 1 << 20
    (tmp_path / "d" / "b").touch()
    (tmp_path / "d" / "b").write_text("b")
    assert "found 1.0 MiB to stage; needed at most 1M" in error("d", folder=tmp_path, size=1)
    (tmp_path / "d" / "link").symlink_to("a")
    assert f"{tmp_path}/d/link is a symbolic link; needed files and folders alone" in error("d", folder=tmp_path)
    (tmp_path / "d" / "link").unlink()
    os.mkfifo(tmp_path / "d" / "pipe")
    assert f"{tmp_path}/d/pipe is no file" in error("d", folder=tmp_path)


def test_a_prepared_data_set_brings_its_checksums(tmp_path: Path) -> None:
    name, data = "train-00000-of-00001.tfrecord", b"records"
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / name).write_bytes(data)
    (tmp_path / f"{name}.index").write_bytes(b"offsets")
    split = Split("train", (Shard(name, 1, len(data), sha256, "digest"),))
    manifest = Manifest(".tfrecord", Schema((Feature("x", Kind.INT64),)), (split,), "d", "r", (), {}, {}, {}, (), {})
    dataset_manifest.write(str(tmp_path), manifest)
    plan = sources.find(StageSettings((str(tmp_path),), "/"))
    found = {os.path.basename(file.name): file.sha256 for file in plan.files}
    assert found == {"manifest.json": "", name: sha256, f"{name}.index": ""}
    (tmp_path / name).write_bytes(b"record")
    assert f"{name} has 6 bytes, and its manifest says 7; needed a data set as it was prepared" in error(tmp_path)


def test_a_manifest_of_another_program_is_a_file_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "app"}')
    (file,) = sources.find(StageSettings((str(tmp_path),), "/")).files
    assert (file.bytes, file.sha256) == (15, "")
