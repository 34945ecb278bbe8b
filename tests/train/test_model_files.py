"""Where the models end that a program saves in every task: once in the folder of exports, and where it says."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import FencedError
from slurm_tf.train.keras.model_files import ModelFiles


def nothing() -> None:
    """Find no other attempt."""


def writes(text: str) -> Callable[[str], None]:
    """Return what saves a model that is one file, or a folder with one."""

    def write(path: str) -> None:
        if path.endswith(".keras"):
            Path(path).write_text(text)
        else:
            os.makedirs(path, exist_ok=True)
            (Path(path) / "saved_model.pb").write_text(text)

    return write


def tree(folder: Path) -> dict[str, str]:
    """Return what each file below `folder` has."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of exports of a program that runs in tmp_path/code; temporary files are in tmp_path/tmp."""
    for name in ("code", "exports", "tmp", "scratch"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "code")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "exports"


@pytest.mark.parametrize(
    ("path", "also_at"),
    [
        ("model.keras", "code/model.keras"),
        ("served/", "code/served/saved_model.pb"),
        ("{base}/code/model.keras", "code/model.keras"),
        ("{base}/scratch/model.keras", "scratch/model.keras"),
        ("../scratch/model.keras", "scratch/model.keras"),
        ("{base}/exports/model.keras", None),
        ("no/model.keras", None),
        ("link.keras", "scratch/linked.keras"),
    ],
)
def test_one_task_saves_a_model_whole_in_the_folder_of_exports(
    path: str, also_at: str | None, exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = exports.parent
    path = path.format(base=base)
    Path("link.keras").symlink_to("../scratch/linked.keras")
    other, chief = (ModelFiles(str(exports), is_writer, nothing) for is_writer in (False, True))
    for text in ("first", "second"):
        other.save(writes("of another task"), path, overwrite=True, is_model=True)
        chief.save(writes(text), path, overwrite=True, is_model=True)
    os.unlink("link.keras")  # it is one still
    found = tree(base)
    own = next(name for name in found if name.startswith("exports/"))
    assert found == dict.fromkeys(filter(None, [own, also_at]), "second")
    printed = capsys.readouterr().err
    assert printed.count(f"slurm_tf.train: the model is in {base}/{own.removesuffix('/saved_model.pb')}\n") == 1
    assert ("cannot put the model at no/model.keras as well: No such file" in printed) == path.startswith("no/")


def test_weights_stay_where_they_are_saved_and_each_task_has_its_temporary_files(exports: Path) -> None:
    base = exports.parent
    other, chief = (ModelFiles(str(exports), is_writer, nothing) for is_writer in (False, True))
    for task, text in ((chief, "chief"), (other, "other")):
        task.save(writes(text), "w.keras", overwrite=True, is_model=False)
        task.save(writes(text), f"{base}/tmp/{text}.keras", overwrite=True, is_model=True)
    assert tree(base) == {"code/w.keras": "chief", "tmp/chief.keras": "chief", "tmp/other.keras": "other"}


def test_a_model_is_not_replaced_by_half_of_one_nor_by_one_of_an_attempt_that_is_over(exports: Path) -> None:
    def half(path: str) -> None:
        Path(path).write_text("ha")
        raise OSError(28, "No space left on device")

    def over() -> None:
        raise FencedError("another attempt has taken over", "the lease")

    ModelFiles(str(exports), True, nothing).save(writes("whole"), "m.keras", overwrite=True, is_model=True)
    with pytest.raises(OSError, match="No space"):
        ModelFiles(str(exports), True, nothing).save(half, "m.keras", overwrite=True, is_model=True)
    with pytest.raises(FencedError):
        ModelFiles(str(exports), True, over).save(writes("late"), "m.keras", overwrite=True, is_model=True)
    assert tree(exports.parent) == {"code/m.keras": "whole", "exports/m.keras": "whole"}


def test_keras_is_asked_itself_about_stores_and_about_what_is_there_already(exports: Path) -> None:
    chief = ModelFiles(str(exports), True, nothing)
    asked: list[str] = []
    Path("m.keras").write_text("older")
    chief.save(asked.append, "m.keras", overwrite=False, is_model=True)
    chief.save(asked.append, "gs://bucket/m.keras", overwrite=True, is_model=True)
    assert asked == ["m.keras", "gs://bucket/m.keras"]
    assert tree(exports) == {}
