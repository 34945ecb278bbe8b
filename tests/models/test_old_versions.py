"""Old versions go, those that answer or are named stay, and nobody ever finds half of one."""

import os
import shutil
from pathlib import Path

import pytest

from slurm_tf.export import exporter
from slurm_tf.export.exporter import Exported
from slurm_tf.models import model_versions, old_versions, served_versions, serving_file
from slurm_tf.models.old_versions import Removal
from slurm_tf.models.serving_file import PolicyKind, Serving, VersionPolicy
from tests.models.test_model_versions import numbers, write_version


def written(folder: Path, count: int) -> Path:
    base = folder / "digits"
    for _ in range(count):
        write_version(base)
    return base


def test_the_newest_ones_stay_and_the_one_that_rollback_goes_to(tmp_path: Path) -> None:
    base = written(tmp_path, 5)
    assert old_versions.remove(str(base), 3) == Removal((1, 2))
    assert numbers(base) == [5, 4, 3]
    # a replica may still serve the one before, until it has loaded the newest
    assert old_versions.remove(str(base), 1) == Removal((3,))
    assert numbers(base) == [5, 4]
    assert served_versions.rollback(str(base)).promoted == 4


def test_what_is_promoted_labelled_a_canary_or_loaded_stays(tmp_path: Path) -> None:
    base = written(tmp_path, 9)
    served_versions.promote(str(base), 4)
    served_versions.canary(str(base), 6, 10)
    served_versions.label(str(base), "stable", 1)
    assert old_versions.remove(str(base), 1) == Removal((2, 5, 7, 8))
    assert numbers(base) == [9, 6, 4, 3, 1]
    # once nothing names them they go
    serving_file.write(str(base), Serving(policy=VersionPolicy(PolicyKind.SPECIFIC, versions=(3,))))
    assert old_versions.remove(str(base), 1) == Removal((1, 4))
    serving_file.write(str(base), Serving(policy=VersionPolicy(PolicyKind.ALL)))
    assert old_versions.remove(str(base), 1) == Removal()


def test_those_that_are_kept_aside_go_as_well(tmp_path: Path) -> None:
    base = written(tmp_path, 1)
    for _ in range(3):
        write_version(base, rejected="it is worse")
    assert old_versions.remove(str(base), 2) == Removal((2,))
    assert [number for number, _ in model_versions.rejected(str(base))] == [4, 3]
    assert numbers(base) == [1]


def test_what_slurm_tf_has_not_exported_stays(tmp_path: Path) -> None:
    base = written(tmp_path, 4)
    shutil.rmtree(base / "1" / "assets.extra")
    (base / "2" / "saved_model.pb").unlink()  # a copy that has not ended, or never will
    (base / "0").mkdir()
    assert old_versions.remove(str(base), 1) == Removal()
    assert sorted(os.listdir(base)) == ["0", "1", "2", "3", "4"]


def test_a_version_that_is_promoted_meanwhile_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, rename = written(tmp_path, 4), os.rename

    def renamed(source: str, target: str) -> None:
        rename(source, target)
        if target.endswith(".removed-1"):
            monkeypatch.setattr(os, "rename", rename)
            serving_file.write(str(base), Serving(promoted=1))

    monkeypatch.setattr(os, "rename", renamed)
    assert old_versions.remove(str(base), 1) == Removal((2,))
    assert numbers(base) == [4, 3, 1]
    assert model_versions.damages(model_versions.find(str(base), 1)) == []


def test_what_a_killed_exporter_left_is_removed_by_the_next(tmp_path: Path) -> None:
    base = written(tmp_path, 2)
    os.rename(base / "1", base / ".removed-1")
    assert old_versions.remove(str(base), 2) == Removal()
    assert os.listdir(base) == ["2"]


def test_where_it_is_not_known_what_answers_nothing_goes(tmp_path: Path) -> None:
    base = written(tmp_path, 4)
    (base / "serving.json").write_text('{"promoted": ')
    found = old_versions.remove(str(base), 1)
    assert found.removed == ()
    assert "serving.json" in found.problems[0]
    assert numbers(base) == [4, 3, 2, 1]
    (base / "serving.json").unlink()
    base.chmod(0o777)
    assert "others can change" in old_versions.remove(str(base), 1).problems[0]
    assert numbers(base) == [4, 3, 2, 1]


def test_words_say_what_went() -> None:
    exported = Exported("m/4", 4, "", (1, 2), ("m/3: Permission denied",))
    text = "version 4 of the model is in m/4; removed old versions: 1, 2; could not remove old versions: m/3: "
    assert exporter.words(exported) == f"{text}Permission denied"
