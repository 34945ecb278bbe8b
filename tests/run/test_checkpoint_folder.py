"""The commit protocol, without TensorFlow: what a reader finds, whatever a writer left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import CheckpointError
from slurm_tf.run import checkpoint_folder
from tests.conftest import ROOT


def write(folder: Path, step: int, data: bytes = b"x" * 1000, **extras: bytes) -> Path:
    """Commit a checkpoint of one data file, and of others."""
    prefix = checkpoint_folder.begin(str(folder), step)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    Path(f"{prefix}.index").write_bytes(b"index")
    return Path(checkpoint_folder.finish(prefix, step, {"v": 7}, checkpoint_folder.flush_files, extras).path)


def steps(folder: Path) -> list[int]:
    return [found.step for found in checkpoint_folder.complete(str(folder))]


def test_the_newest_is_first_and_the_pointer_names_it(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        write(tmp_path, step)
    assert steps(tmp_path) == [100, 20, 5]
    newest = next(checkpoint_folder.complete(str(tmp_path)))
    assert newest.manifest["crc32c"] == {"v": 7}
    assert newest.manifest["files"] == {"checkpoint.data-00000-of-00001": 1000, "checkpoint.index": 5}
    assert (tmp_path / "latest").read_text() == "step-0000000020\n"


def test_a_stale_pointer_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    (tmp_path / "latest").write_text("step-0000000001\n")
    assert steps(tmp_path) == [2, 1]
    (tmp_path / "latest").unlink()
    assert steps(tmp_path) == [2, 1]


def test_extra_files_are_part_of_the_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path, 1, position=b"7 of 9", nothing=b"")
    found = next(checkpoint_folder.complete(str(tmp_path)))
    assert (found.read("position"), found.read("nothing"), found.read("checkpoint.index")) == (b"7 of 9", b"", None)
    assert found.manifest["files"] == {
        "checkpoint.data-00000-of-00001": 1000, "checkpoint.index": 5, "nothing": 0, "position": 6,
    }  # fmt: skip
    assert found.size == 1011
    (path / "position").write_bytes(b"8 of 9")
    with pytest.raises(CheckpointError, match=r"position of .*step-0000000001 is damaged"):
        found.check_extras()
    (path / "position").unlink()
    assert steps(tmp_path) == []


def test_an_extra_file_may_not_replace_one_of_tensorflow(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        write(tmp_path, 1, **{"checkpoint.index": b"mine"})
    assert steps(tmp_path) == []


TEARS: dict[str, Callable[[Path], object]] = {
    "a file that was cut": lambda path: os.truncate(path / "checkpoint.data-00000-of-00001", 999),
    "a file that is gone": lambda path: os.unlink(path / "checkpoint.index"),
    "no manifest": lambda path: os.unlink(path / checkpoint_folder.MANIFEST),
    "half a manifest": lambda path: (path / checkpoint_folder.MANIFEST).write_text('{"version": 1, "step'),
    "a manifest of something else": lambda path: (path / checkpoint_folder.MANIFEST).write_text("[]"),
    "a manifest of another step": lambda path: (path / checkpoint_folder.MANIFEST).write_text(
        (path / checkpoint_folder.MANIFEST).read_text().replace('"step": 2', '"step": 3')
    ),
    "a manifest of a later release": lambda path: (path / checkpoint_folder.MANIFEST).write_text(
        (path / checkpoint_folder.MANIFEST).read_text().replace('"version": 1', '"version": 2')
    ),
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_is_passed_over_and_reported(tear: str, tmp_path: Path) -> None:
    write(tmp_path, 1)
    TEARS[tear](write(tmp_path, 2))
    said: list[str] = []
    assert [found.step for found in checkpoint_folder.complete(str(tmp_path), said.append)] == [1]
    assert len(said) == 1
    assert "step-0000000002 is left out" in said[0]


def test_a_torn_one_is_replaced_by_a_new_one_of_the_same_step(tmp_path: Path) -> None:
    os.unlink(write(tmp_path, 2) / "checkpoint.index")
    write(tmp_path, 2, b"new")
    assert steps(tmp_path) == [2]
    checkpoint_folder.remove_unfinished(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-0000000002"]


def test_prune_keeps_the_newest_whole_ones(tmp_path: Path) -> None:
    for step in range(1, 7):
        write(tmp_path, step)
    os.unlink(tmp_path / "step-0000000005" / "checkpoint.index")
    checkpoint_folder.prune(str(tmp_path), 2)
    # the torn one lies between two that are kept
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [f"step-000000000{n}" for n in (4, 5, 6)]
    checkpoint_folder.prune(str(tmp_path), 10)
    assert steps(tmp_path) == [6, 4]


def test_remove_unfinished_removes_what_dead_writers_left(tmp_path: Path) -> None:
    write(tmp_path, 1)
    prefix = checkpoint_folder.begin(str(tmp_path), 2)
    Path(prefix + ".data").write_bytes(b"half")
    (tmp_path / "checkpoint-9_temp").mkdir()
    (tmp_path / ".x_temp").touch()
    checkpoint_folder.remove_unfinished(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-0000000001"]


def test_a_folder_that_cannot_flush_commits_nothing(tmp_path: Path) -> None:
    def fails(_: str) -> None:
        raise OSError("no space left")

    write(tmp_path, 1)
    prefix = checkpoint_folder.begin(str(tmp_path), 2)
    with pytest.raises(OSError, match="no space"):
        checkpoint_folder.finish(prefix, 2, {}, fails)
    assert steps(tmp_path) == [1]


def test_every_file_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of system calls, as the kernel sees them through os."""
    calls: list[str] = []
    names: dict[int, str] = {}
    real_open, real_fsync, real_rename = os.open, os.fsync, os.rename

    def spy_open(path: str, flags: int, mode: int = 0o777) -> int:
        handle = real_open(path, flags, mode)
        names[handle] = os.path.basename(path)
        return handle

    def spy_fsync(handle: int) -> None:
        calls.append(f"fsync {names.get(handle, '?')}")
        real_fsync(handle)

    def spy_rename(source: str, target: str) -> None:
        calls.append(f"rename {os.path.basename(target)}")
        real_rename(source, target)

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    write(tmp_path, 3, position=b"7")
    done = calls.index("rename step-0000000003")
    before, after = calls[:done], calls[done + 1 :]
    names_flushed = ("checkpoint.data-00000-of-00001", "checkpoint.index", "position")
    assert {*(f"fsync {name}" for name in names_flushed), f"rename {checkpoint_folder.MANIFEST}"} <= set(before)
    assert before.index("fsync checkpoint.index") < before.index(f"rename {checkpoint_folder.MANIFEST}")
    assert after[0] == f"fsync {tmp_path.name}"
    assert "rename latest" in after


LISTER = """
import sys
from slurm_tf.run import checkpoint_folder
opened = 0

def count(event, arguments):
    global opened
    opened += event in ("open", "os.listdir", "os.scandir")

sys.addaudithook(count)
print(len(list(checkpoint_folder.listed(sys.argv[1]))), opened)
opened = 0
print(next(checkpoint_folder.complete(sys.argv[1])).step, opened)
"""


@pytest.mark.slow
def test_a_thousand_are_listed_with_one_file_opened_for_each(tmp_path: Path) -> None:
    """The newest is found with one."""
    first = write(tmp_path, 1, b"x")
    manifest = (first / checkpoint_folder.MANIFEST).read_text()
    for step in range(2, 1001):
        other = tmp_path / f"step-{step:010}"
        shutil.copytree(first, other)
        (other / checkpoint_folder.MANIFEST).write_text(manifest.replace('"step": 1,', f'"step": {step},'))
    done = subprocess.run(
        [sys.executable, "-c", LISTER, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout == "1000 1001\n1000 2\n"


WRITER = """
import sys
from pathlib import Path
from slurm_tf.run import checkpoint_folder
step = 0
while True:
    print(step, flush=True)
    step += 1
    prefix = checkpoint_folder.begin(sys.argv[1], step)
    for part in range(3):
        Path(f"{prefix}.data-{part}").write_bytes(bytes([step % 256]) * 50000)
    checkpoint_folder.finish(prefix, step, {}, checkpoint_folder.flush_files)
    checkpoint_folder.prune(sys.argv[1], 3)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_time_leaves_whole_checkpoints(tmp_path: Path) -> None:
    newest = 0
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= attempt % 5:
                break
        time.sleep(0.007 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = list(checkpoint_folder.complete(str(folder)))
        for each in found:
            for name in each.manifest["files"]:
                data = Path(each.path, name).read_bytes()
                assert data == bytes([each.step % 256]) * 50000
        newest = max([newest, *(each.step for each in found)])
        # every folder with a final name is whole: renaming is the last thing that happens to it
        assert len(found) == len(list(folder.glob("step-" + "[0-9]" * 10)))
        checkpoint_folder.remove_unfinished(str(folder))
        assert json.loads(json.dumps(steps(folder))) == [each.step for each in found]
    assert newest > 3
