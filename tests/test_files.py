"""Files that are whole or not there, and for their owner alone."""

import errno
import hashlib
import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from slurm_tf import files
from slurm_tf.errors import RunError, StorageError, UsageError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a b;$(x)"
    files.write_whole(str(path), b"one")
    files.write_whole(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert os.listdir(tmp_path) == [path.name]


def test_a_path_below_a_folder_however_both_are_spelled(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    for folder in (f"{tmp_path}/a", f"{tmp_path}/link", f"{tmp_path}//a/b/..", f"{tmp_path}/link/"):
        assert files.path_below(folder, f"{tmp_path}/a") == "."
        for name in ("b", "b/c", "new/file"):
            assert files.path_below(f"{folder}/{name}", f"{tmp_path}/link") == name
            assert files.path_below(f"{tmp_path}/a/{name}", folder) == name
        assert files.path_below(str(tmp_path), folder) is None
        assert files.path_below(f"{folder}/../other", folder) is None
    assert files.path_below(str(tmp_path), f"{tmp_path}/gone") is None


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        files.write_whole(str(tmp_path / "folder"), b"one")
    assert os.listdir(tmp_path) == ["folder"]


def test_the_newest_change_in_a_folder(tmp_path: Path) -> None:
    assert files.newest(str(tmp_path / "gone")) == 0
    assert files.newest(str(tmp_path)) == 0
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    (tmp_path / "a" / "link").symlink_to("/nowhere")
    # those within first: each folder's own time changes with what is put into it
    for name, time in (("a/b/c", 5 * 10**9 + 1), ("a/link", 4), ("a/b", 3), ("a", 2)):
        os.utime(tmp_path / name, ns=(0, time), follow_symlinks=False)
    assert files.newest(str(tmp_path)) == 5 * 10**9 + 1


def test_a_check_before_the_rename_keeps_the_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_whole(str(path), b"one")

    def check() -> None:
        assert len(list(tmp_path.iterdir())) == 2, "the new bytes are not there yet"
        raise RunError("no")

    with pytest.raises(RunError, match="no"):
        files.write_whole(str(path), b"two", check=check)
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_own_folder_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert files.own_folder(str(path)) == str(path)
    assert mode(path) == 0o700
    files.own_folder(str(path))


@pytest.mark.parametrize("bits", [0o770, 0o702])
def test_a_folder_that_others_write_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(bits)
    with pytest.raises(RunError, match=r"others can change it.*\n?.*HINT: chmod go-w"):
        files.own_folder(str(path))


def test_a_folder_to_which_others_may_add_is_refused_where_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    files.check_own(str(path))
    with pytest.raises(RunError, match="mode 1777: others can change it"):
        files.check_own(str(path), sticky=False)


def test_who_can_read_a_folder_depends_on_the_way_there(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    path.chmod(0o755)
    tmp_path.chmod(0o700)
    assert not files.all_can_read(str(path))
    assert files.all_can_read("/usr/lib")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can choose any group")
def test_a_shared_folder_hands_its_group_on(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.mkdir(mode=0o700)
    assert not files.is_shared(str(path))
    files.share(str(path), 12345)
    assert files.is_shared(str(path))
    assert mode(path) == 0o2750
    (path / "below").mkdir(mode=0o700)
    assert (path / "below").stat().st_gid == 12345
    assert not files.is_shared(str(path / "below"))
    files.share(str(path / "below"))
    assert files.is_shared(str(path / "below"))
    files.check_own(str(path), sticky=False)


def test_a_group_of_others_is_refused() -> None:
    """As root, who may give a folder to any group, somebody else tries."""
    with tempfile.TemporaryDirectory() as path:
        user = os.geteuid()
        os.chown(path, user or 12345, -1)
        os.seteuid(user or 12345)
        try:
            with pytest.raises(RunError, match="a group that you are in"):
                files.share(path, 12346)
        finally:
            os.seteuid(user)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(RunError, match="user id 12345"):
        files.own_folder(str(path))


def test_a_path_keeps_the_links_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes may not have what a link leads to on this machine: an automounter's folders."""
    (tmp_path / "auto" / "alice" / "proj").mkdir(parents=True)
    (tmp_path / "home").symlink_to("auto")
    (tmp_path / "far").symlink_to("auto/alice/proj")
    home = f"{tmp_path}/home/alice"
    monkeypatch.chdir(home)
    monkeypatch.setenv("PWD", home)
    assert files.absolute("proj") == f"{home}/proj"
    assert files.absolute("./proj/../proj/") == f"{home}/proj"
    assert files.absolute("gone/../new") == f"{home}/new"
    assert files.absolute("") == home
    assert files.absolute(f"{tmp_path}/far/../proj") == f"{tmp_path}/far/../proj", "not what .. leads to"
    monkeypatch.setenv("PWD", str(tmp_path))
    assert files.absolute("proj") == f"{tmp_path}/auto/alice/proj", "a PWD that is another folder"


def test_tilde_and_variables_are_a_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("SCRATCH", "/scratch/a b")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    for text, path in {
        "~/x": "/home/a/x", "~": "/home/a", "$HOME/x": "/home/a/x", "${SCRATCH}_1/$HOME": "/scratch/a b_1//home/a",
        "a~/$/x$": "a~/$/x$", "": "", "$(x)": "$(x)", "~root/x": f"{pwd.getpwnam('root').pw_dir}/x",
    }.items():  # fmt: skip
        assert files.expand(text) == path, text
    for text, needed in {
        "$UNSET/x": "needed the variable UNSET", "x/${EMPTY}/y": "needed the variable EMPTY",
        "~no-such-user/x": "needed a user", "a\nb": "without control characters",
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=needed):
            files.expand(text)


def test_an_error_of_storage_says_what_was_done_with_which_file_and_what_to_do(tmp_path: Path) -> None:
    def said(error: OSError, path: str = "", do: str = "") -> str:
        with pytest.raises(StorageError) as raised, files.explained("copy it", path, do):
            raise error
        return str(raised.value)

    full = OSError(errno.ENOSPC, "No space left on device")
    assert said(full, "/x/a") == (
        "cannot copy it: /x/a: No space left on device; needed free space\n"
        "HINT: `df -h /x` and `df -i /x` show how much there is"
    )
    assert said(full).startswith("cannot copy it: No space left on device; needed free space")
    assert said(OSError(5, "Input/output error", "from", None, "to"), do="wait") == (
        "cannot copy it: to: Input/output error; needed a disk or file server that works\nHINT: wait"
    )
    assert said(OSError("odd")) == "cannot copy it: odd"
    if os.getuid() == 0:
        os.chown(tmp_path, 65534, -1)
        denied = said(PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/new/x"))
        assert "Permission denied; needed" in denied, "nothing is known of a folder that is not there"
        denied = said(PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/new"))
        assert f"Permission denied ({tmp_path} belongs to nobody, mode 700); needed permission for it" in denied


def test_a_write_that_failed_names_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone" / "x", tmp_path):
        with pytest.raises(OSError, match=r"Errno") as raised:
            files.write_whole(str(path), b"x")
        assert raised.value.filename == str(path)


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a-1_temp", ".a-2", ".b-1_temp", "a_temp"):
        (tmp_path / name).touch()
    files.remove_temporary(str(tmp_path), ".a-")
    assert sorted(os.listdir(tmp_path)) == [".a-2", ".b-1_temp", "a_temp"]


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 7)
    (tmp_path / "a").write_bytes(data)
    assert files.sha256(str(tmp_path / "a")) == hashlib.sha256(data).hexdigest()


def test_a_link_of_another_user_leads_to_no_folder_of_ours(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a link of another user")
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("ours")
    assert files.own_folder(str(tmp_path / "link")) == str(tmp_path / "link")
    os.lchown(tmp_path / "link", 65534, 65534)
    with pytest.raises(RunError, match="link is a link of user id 65534; needed a folder of yours"):
        files.own_folder(str(tmp_path / "link"))
