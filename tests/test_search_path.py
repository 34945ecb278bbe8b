"""Whose profiles and templates are read: on the way to each no other user may change anything."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf import search_path
from slurm_tf.errors import ConfigError

FOLDERS = ("vision", "vision/own", "vision/own/site_configs")
# A user of every Linux, in place of a colleague.
COLLEAGUE, NAME = 1, "daemon"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Return a profile in folders that only its owner can change."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    path = tmp_path / FOLDERS[-1] / "uni.toml"
    path.write_text("description = 'ours'")
    return path


def test_a_profile_of_ours_is_read(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert search_path.read(profile) == b"description = 'ours'"
    monkeypatch.chdir(profile.parent.parent)
    assert search_path.read(Path("site_configs", "..", "site_configs", "uni.toml")) == b"description = 'ours'"


@pytest.mark.parametrize("name", [*FOLDERS, "vision/own/site_configs/uni.toml"])
@pytest.mark.parametrize("bits", [0o770, 0o702])
def test_nobody_else_may_change_the_file_or_a_folder_above_it(
    name: str, bits: int, profile: Path, tmp_path: Path
) -> None:
    (tmp_path / name).chmod(bits)
    with pytest.raises(ConfigError) as error:
        search_path.read(profile)
    assert str(error.value) == (
        f"{tmp_path / name}: it has mode {bits:o}: others can change it; needed one that only its owner can change, as "
        f"{profile} runs with your rights\nHINT: chmod go-w {tmp_path / name}"
    )


def test_in_a_sticky_folder_others_change_only_what_is_theirs(profile: Path) -> None:
    profile.parent.chmod(0o1777)
    assert search_path.read(profile)


@needs_root
@pytest.mark.parametrize("name", [*FOLDERS, "vision/own/site_configs/uni.toml"])
def test_a_colleagues_files_are_read_by_those_who_trust_the_colleague(
    name: str, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    os.chown(tmp_path / name, COLLEAGUE, COLLEAGUE)
    with pytest.raises(ConfigError) as error:
        search_path.read(profile, ["ann"])
    assert str(error.value) == (
        f"{tmp_path / name}: it belongs to {NAME}; needed one of yours, of root or of a user whom you trust, on the "
        f'way to {profile}\nHINT: trust = ["{NAME}"] in {search_path.user_file()}: what {NAME} writes then runs in '
        "your jobs, with your rights"
    )
    assert search_path.read(profile, ["ann", NAME])
    os.chown(tmp_path / name, 54321, -1)
    with pytest.raises(ConfigError, match=r"it belongs to user id 54321; needed .*uni\.toml$"):
        search_path.read(profile, ["54321", ""])


@needs_root
def test_a_link_is_as_good_as_its_owner_and_what_it_leads_to(profile: Path, tmp_path: Path) -> None:
    targets = (str(profile), str(profile.parent.parent), os.path.relpath(profile, tmp_path))
    for number, target in enumerate(targets):
        link = tmp_path / f"link-{number}"
        link.symlink_to(target)
        path = link / "site_configs" / "uni.toml" if number == 1 else link
        assert search_path.read(path)
        os.chown(link, COLLEAGUE, -1, follow_symlinks=False)
        with pytest.raises(ConfigError, match=f"{link}: it belongs to {NAME}"):
            search_path.read(path)
        os.chown(link, os.getuid(), -1, follow_symlinks=False)
        profile.parent.parent.chmod(0o777)
        with pytest.raises(ConfigError, match="own: it has mode 777"):
            search_path.read(path)
        profile.parent.parent.chmod(0o755)


def test_what_is_checked_is_what_is_read(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file that takes its place after the check is not the one that is read."""
    check = search_path._check_mode

    def replaces(at: str, status: os.stat_result, path: Path) -> None:
        check(at, status, path)
        if at == str(profile):
            (profile.parent / "other").write_text("description = 'theirs'")
            (profile.parent / "other").rename(profile)

    monkeypatch.setattr(search_path, "_check_mode", replaces)
    assert search_path.read(profile) == b"description = 'ours'"
    assert profile.read_text() == "description = 'theirs'"


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Path.unlink, "no such file"),
        (fifo, "found a folder or a device"),
        (loop, "cannot be read (Too many levels of symbolic links)"),
        (lambda path: path.rename(path.parent / "x"), "no such file"),
    ],
)
def test_what_is_no_file(change: Callable[[Path], None], found: str, profile: Path) -> None:
    change(profile)
    with pytest.raises(ConfigError, match=re.escape(f"{profile}: {found}; needed ")):
        search_path.read(profile)


def test_what_came_with_slurm_tf_is_trusted_however_its_folder_is_reached(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile.chmod(0o666)
    (tmp_path / "packaged").symlink_to(profile.parent)
    monkeypatch.setattr(search_path, "packaged", lambda kind: tmp_path / "packaged")  # noqa: ARG005
    assert search_path.read(profile)
    assert search_path.read(tmp_path / "packaged" / ".." / "site_configs" / "uni.toml")


def test_in_a_container_of_our_own_root_has_no_id(tmp_path: Path) -> None:
    for name, text in (("sys/kernel/overflowuid", "65534\n"), ("self/uid_map", "      1000       1000          1\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert search_path._may_be_root(65534, tmp_path)
    assert not search_path._may_be_root(1001, tmp_path)
    (tmp_path / "self" / "uid_map").write_text("         0          0 4294967295\n")
    assert not search_path._may_be_root(65534, tmp_path)


def test_a_folder_that_cannot_be_listed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nothing: no such file; needed"):
        search_path.names(tmp_path / "nothing")
    (tmp_path / "site_configs").write_text("")
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
    assert tmp_path / "site_configs" not in search_path.folders("site_configs")
