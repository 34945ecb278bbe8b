"""Versions appear whole or not at all, each with a number of its own; what is torn, hostile or not ours is refused."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import LeaseError, ModelError
from slurm_tf.models import model_manifest, model_versions, new_version
from slurm_tf.models.model_manifest import FileDigest, ModelManifest, Signature, TensorSpec
from slurm_tf.models.model_versions import Version
from tests.conftest import ROOT

MANIFEST = ModelManifest(
    run="digits-1",
    run_folder="/runs/digits-1",
    attempt="17.0",
    step=400,
    commit="1234abcd",
    dirty=False,
    written="2026-11-28T12:00:00+00:00",
    metrics={"accuracy": 0.98},
    signatures={
        "serving_default": Signature(
            {"x": TensorSpec("float32", (None, 64)), "any": TensorSpec("string", None)},
            {"scores": TensorSpec("float32", (None, 10))},
        )
    },
    rejected="",
    versions={"tensorflow": "2.21.0"},
    files={},
)


def write_version(base: Path, rejected: str = "", weights: bytes = b"weights") -> Path:
    """Write a new version whose files have the names of a SavedModel; return its folder."""
    new = new_version.begin(str(base))
    folder = Path(new.path)
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(weights)
    found = dict(model_versions.digests(new.path))
    return Path(new.commit(replace(MANIFEST, rejected=rejected, files=found)))


def numbers(base: Path) -> list[int]:
    return [version.number for version in model_versions.versions(str(base))]


def test_versions_are_numbered_whole_and_private(tmp_path: Path) -> None:
    base = tmp_path / "models" / "digits"
    assert [write_version(base).name for _ in range(3)] == ["1", "2", "3"]
    assert numbers(base) == [3, 2, 1]
    version = model_versions.find(str(base), 2)
    assert version.manifest
    assert replace(version.manifest, files={}) == MANIFEST
    assert sorted(version.manifest.files) == ["saved_model.pb", "variables/variables.data-00000-of-00001"]
    assert model_versions.damages(version) == []
    modes = {path.stat().st_mode & 0o777 for path in [base, *base.rglob("*")] if path.is_dir()}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in base.rglob("*") if path.is_file()} == {0o600}
    assert model_versions.find(str(base)).number == 3


def test_a_rejected_version_is_kept_aside_and_its_number_is_taken(tmp_path: Path) -> None:
    write_version(tmp_path / "m")
    assert write_version(tmp_path / "m", "accuracy 0.8 is worse than 0.9 of version 1") == tmp_path / "m/.rejected/2"
    assert write_version(tmp_path / "m").name == "3"
    assert numbers(tmp_path / "m") == [3, 1]
    ((number, path),) = model_versions.rejected(str(tmp_path / "m"))
    manifest = model_manifest.read(path)
    assert number == 2
    assert manifest
    assert "worse" in manifest.rejected


def test_names_count_as_tensorflow_serving_counts_them(tmp_path: Path) -> None:
    for name in ("00000123", "7", "007", "9223372036854775807"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"graph")
    for name in (".8", "9a", "-3", "٣", "9223372036854775808", "1.5", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "12").write_bytes(b"a file")
    (tmp_path / "13").mkdir()
    told: list[str] = []
    found = model_versions.versions(str(tmp_path), told.append)
    assert [(each.number, os.path.basename(each.path), each.manifest) for each in found] == [
        (2**63 - 1, "9223372036854775807", None),
        (123, "00000123", None),
        (7, "7", None),
    ]
    assert told == [
        f"{tmp_path}/13 is left out: it has no saved_model.pb",
        f"{tmp_path}/12 is left out: it has no saved_model.pb",
        f"{tmp_path}/007 is left out: version 7 has two folders",
    ]


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_half_a_copy_is_no_version(tmp_path: Path, file: str) -> None:
    write_version(tmp_path)
    newest = write_version(tmp_path)
    (newest / file).unlink()
    assert numbers(tmp_path) == [1]
    (newest / file).write_bytes(b"w")
    assert numbers(tmp_path) == [1]


def test_damage_is_named_by_the_checksums(tmp_path: Path) -> None:
    version = write_version(tmp_path)
    (version / "variables" / "variables.data-00000-of-00001").write_bytes(b"WEIGHTS")
    (version / "more").write_bytes(b"")
    found = model_versions.find(str(tmp_path))
    assert model_versions.damages(found) == [
        "variables/variables.data-00000-of-00001 is not what was written",
        "more was not written by slurm-tf",
    ]
    with pytest.raises(ModelError, match="it has no manifest"):
        model_versions.damages(Version(1, str(version), None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"format": "2.0"}', "it has format 2.0; needed what a version of a model of format 1 has there"),
        ('{"format": "1.0"}', "missing"),
        ("files", "found the file '../../../secret'; needed one below the version's folder"),
    ],
)
def test_a_manifest_that_is_damaged_or_hostile_makes_no_version(tmp_path: Path, text: str, message: str) -> None:
    version = write_version(tmp_path)
    path = Path(model_manifest.path(str(version)))
    if text == "files":
        values = json.loads(path.read_text())
        text = json.dumps({**values, "files": {"../../../secret": {"bytes": 1, "sha256": ""}}})
    path.write_text(text)
    ((_, _, found),) = model_versions.listed(str(tmp_path))
    assert isinstance(found, str)
    assert message in found


def test_a_manifest_of_a_later_release_is_read(tmp_path: Path) -> None:
    version = write_version(tmp_path)
    path = Path(model_manifest.path(str(version)))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "1.4", "licence": "free"}))
    assert numbers(tmp_path) == [1]


def test_what_others_can_change_is_refused(tmp_path: Path) -> None:
    version = write_version(tmp_path / "m")
    model_versions.check_own(str(tmp_path / "m"), str(version))
    weights = version / "variables" / "variables.data-00000-of-00001"
    weights.chmod(0o622)
    with pytest.raises(ModelError, match=r"others can change it; needed .*runs its author's code"):
        model_versions.check_own(str(tmp_path / "m"), str(version))
    weights.chmod(0o600)
    (version / "more").symlink_to("/etc")
    with pytest.raises(ModelError, match="leads to another folder"):
        model_versions.check_own(str(tmp_path / "m"), str(version))
    (tmp_path / "m").chmod(0o1777)
    with pytest.raises(ModelError, match="mode 1777"):
        new_version.begin(str(tmp_path / "m"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_another_user_owns_is_refused(tmp_path: Path) -> None:
    version = write_version(tmp_path / "m")
    os.chown(version / "saved_model.pb", 12345, -1)
    with pytest.raises(ModelError, match="belongs to user id 12345"):
        model_versions.check_own(str(tmp_path / "m"), str(version))


def test_a_version_that_does_not_exist_is_an_error_that_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        model_versions.find(str(tmp_path / "m"))
    with pytest.raises(ModelError, match="there is no version; needed a version"):
        model_versions.find(str(tmp_path))
    write_version(tmp_path)
    with pytest.raises(ModelError, match="there is no version 4; needed one of 1"):
        model_versions.find(str(tmp_path), 4)


def test_a_fence_that_raises_leaves_no_version(tmp_path: Path) -> None:
    new = new_version.begin(str(tmp_path / "m"))
    (Path(new.path) / "saved_model.pb").write_bytes(b"graph")

    def fence() -> None:
        raise LeaseError("another attempt has taken over")

    with pytest.raises(LeaseError):
        new.commit(MANIFEST, fence)
    assert numbers(tmp_path / "m") == []
    new.abandon()
    assert os.listdir(tmp_path / "m") == []


def test_what_a_killed_exporter_left_is_no_version_and_goes_after_a_day(tmp_path: Path) -> None:
    code = (
        "import sys, os, time\nfrom slurm_tf.models import new_version\n"
        "new = new_version.begin(sys.argv[1])\n"
        "open(os.path.join(new.path, 'saved_model.pb'), 'w').close()\nprint(new.number, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "m"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout
    assert process.stdout.readline() == "1\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert numbers(tmp_path / "m") == []
    assert write_version(tmp_path / "m").name == "2"
    left = tmp_path / "m" / ".export-1"
    assert left.is_dir()
    yesterday = time.time() - 25 * 3600
    for path in (left / "saved_model.pb", left):
        os.utime(path, (yesterday, yesterday))
    write_version(tmp_path / "m")
    assert not left.exists()


def _write_several(base: str, count: int, found: Any) -> None:
    for _ in range(count):
        found.put(int(write_version(Path(base)).name))


def test_several_exporters_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found: Any = context.Queue()
    writers = [context.Process(target=_write_several, args=(str(tmp_path / "m"), 10, found)) for _ in range(3)]
    for writer in writers:
        writer.start()
    taken = sorted(found.get(timeout=30) for _ in range(30))
    for writer in writers:
        writer.join(30)
    assert len(set(taken)) == 30
    assert sorted(numbers(tmp_path / "m")) == taken


def test_files_of_a_version_have_the_checksums_of_sha256sum(tmp_path: Path) -> None:
    version = write_version(tmp_path)
    done = subprocess.run(["sha256sum", version / "saved_model.pb"], capture_output=True, text=True, check=True)
    found = model_versions.find(str(tmp_path)).manifest
    assert found
    assert found.files["saved_model.pb"] == FileDigest(5, done.stdout.split()[0])
