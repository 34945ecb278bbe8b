"""A data set is written into a folder of its owner, and into no other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import DatasetError, StorageError
from slurm_tf.prepare import output_folder

# of Debian's user nobody
_OTHER = 65534


def test_a_new_folder_is_private_and_can_be_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "clicks"
    output_folder.make(str(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "train-00000-of-00001.tfrecord").touch()
    output_folder.make(str(folder))
    (tmp_path / "link").symlink_to(folder)
    output_folder.make(str(tmp_path / "link"))
    (folder / "manifest.json").touch()
    with pytest.raises(DatasetError, match=r"clicks: it is a data set already"):
        output_folder.make(str(folder))


def _of_another_user(path: Path) -> None:
    path.mkdir()
    os.chown(path, _OTHER, _OTHER)


def _link_to_another_users(path: Path) -> None:
    _of_another_user(path.parent / "theirs")
    path.symlink_to("theirs")


def _link_of_another_user(path: Path) -> None:
    (path.parent / "ours").mkdir(mode=0o700)
    path.symlink_to("ours")
    os.lchown(path, _OTHER, _OTHER)


def _writable_by_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (_of_another_user, "belongs to user id 65534"),
        (_link_to_another_users, "belongs to user id 65534"),
        (_link_of_another_user, "is a link of user id 65534"),
        (_writable_by_all, "has mode 777"),
    ],
)
def test_folders_that_others_can_change(tmp_path: Path, make: Callable[[Path], None], found: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of another user")
    make(tmp_path / "data")
    with pytest.raises(DatasetError, match=found):
        output_folder.make(str(tmp_path / "data"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DatasetError, match="it is no folder"):
        output_folder.make(str(tmp_path / "data"))
    with pytest.raises(StorageError, match=r"cannot make the folder of the data set: .*: File exists"):
        output_folder.make(str(tmp_path / "data" / "clicks"))
