"""Copies to a node's scratch: each whole and checked, kept for the next attempt, or one clear error."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_tf.launch.staging import sources
from slurm_tf.launch.staging.node_copy import NodeCopy
from slurm_tf.launch.staging.stage_folder import StageFolder
from slurm_tf.run import status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.stage_plan import StagedFile, StagePlan
from slurm_tf.run.stage_settings import StageSettings
from slurm_tf.run.status import AttemptState, RunStatus
from tests.sandbox import linux

MIB = 1 << 20


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder of files on "shared" storage: small ones, an empty one, one of several blocks, a folder in a folder."""
    folder = tmp_path / "shared" / "clicks"
    (folder / "more" / "empty").mkdir(parents=True)
    (folder / "a.bin").write_bytes(os.urandom(9 * MIB + 1))
    (folder / "none").touch()
    for number in range(20):
        (folder / "more" / f"{number}.txt").write_text(f"file {number}\n")
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    return folder


def find(*paths: Path, size: int | None = None) -> StagePlan:
    return sources.find(StageSettings(tuple(map(str, paths)), "/", size=size))


def copy(plan: StagePlan, scratch: Path, run: str = "/runs/a-1") -> NodeCopy:
    """Copy, and wait for the end."""
    stage = StageFolder(str(scratch), run)
    found = NodeCopy(plan, stage)
    found.start()
    assert found.wait(60)
    stage.release()
    return found


def failure(plan: StagePlan, scratch: Path) -> tuple[str, bool]:
    """Return the error of a copy that fails, and whether it is of scratch; nothing half-written is left."""
    found = copy(plan, scratch)
    assert found.failure
    parts = StageFolder(str(scratch), "/runs/a-1").parts
    assert not os.path.isdir(parts) or not os.listdir(parts)
    return str(found.failure.error), found.failure.is_of_scratch


def contents(folder: str | Path) -> dict[str, bytes]:
    return {
        os.path.relpath(os.path.join(path, name), folder): Path(path, name).read_bytes()
        for path, _, names in os.walk(folder)
        for name in names
    }


def test_a_copy_has_all_that_the_source_has_and_only_its_owner_can_read_it(shared: Path, scratch: Path) -> None:
    single = shared.parent / "one.txt"
    single.write_text("one")
    found = copy(find(shared, single), scratch)
    assert found.failure is None
    assert contents(found.folder) == {
        "one.txt": b"one", **{f"clicks/{name}": data for name, data in contents(shared).items()}
    }  # fmt: skip
    assert Path(found.folder, "clicks/more/empty").is_dir()
    for path, names, files in os.walk(scratch):
        assert all(os.stat(os.path.join(path, name)).st_mode & 0o777 == 0o700 for name in names)
        assert all(os.stat(os.path.join(path, name)).st_mode & 0o777 == 0o600 for name in files)


def test_the_next_attempt_copies_what_has_changed_and_removes_what_is_not_wanted(shared: Path, scratch: Path) -> None:
    first = copy(find(shared), scratch)
    assert (first.kept, first.copied) == (0, first.wanted)
    again = copy(find(shared), scratch)
    assert (again.kept, again.copied) == (first.copied, 0)
    (shared / "more" / "3.txt").write_text("FILE 3\n")  # of the same size
    (shared / "more" / "4.txt").unlink()
    Path(again.folder, "clicks", "left").symlink_to(shared)
    Path(again.folder, "other").mkdir()
    third = copy(find(shared), scratch)
    assert third.copied == len("FILE 3\n")
    assert contents(third.folder) == {f"clicks/{name}": data for name, data in contents(shared).items()}
    assert not os.path.lexists(Path(third.folder, "clicks", "left"))
    assert (shared / "more" / "3.txt").exists()


def test_a_link_in_place_of_a_copy_is_replaced_and_not_followed(shared: Path, scratch: Path) -> None:
    found = copy(find(shared), scratch)
    victim = shared.parent / "victim"
    victim.write_text("mine")
    target = Path(found.folder, "clicks", "more", "5.txt")
    target.unlink()
    target.symlink_to(victim)
    again = copy(find(shared), scratch)
    assert (victim.read_text(), target.read_text(), target.is_symlink()) == ("mine", "file 5\n", False)
    assert again.copied == len("file 5\n")


def test_two_runs_share_nothing_and_the_end_of_one_leaves_the_other(shared: Path, scratch: Path) -> None:
    folders = [copy(find(shared), scratch, run).folder for run in ("/runs/a-1", "/others/a-1")]
    assert len(set(folders)) == 2
    StageFolder(str(scratch), "/runs/a-1").remove()
    assert [os.path.exists(folder) for folder in folders] == [False, True]
    StageFolder(str(scratch), "/runs/a-1").remove()
    assert copy(find(shared), scratch, "/others/a-1").copied == 0


def test_two_attempts_at_once_copy_once(shared: Path, scratch: Path) -> None:
    """As after a node's link was cut: the agent of the former attempt goes on beside that of the new one."""
    plan, stages = find(shared), [StageFolder(str(scratch), "/runs/a-1") for _ in range(2)]
    both = [NodeCopy(plan, stage) for stage in stages]
    for each in both:
        each.start()
    linux.wait_until("one is done", lambda: any(each.wait(0) for each in both), 60)
    time.sleep(0.3)
    assert sum(each.wait(0) for each in both) == 1  # it has the folder until its process ends
    for stage in stages:
        stage.release()
    assert all(each.wait(60) and each.failure is None for each in both)
    assert sorted(each.copied for each in both) == [0, plan.bytes]


def test_a_lock_is_waited_for_and_a_stop_ends_the_wait(shared: Path, scratch: Path) -> None:
    stage = StageFolder(str(scratch), "/runs/a-1")
    assert stage.lock(lambda _: True)
    waiting = NodeCopy(find(shared), StageFolder(str(scratch), "/runs/a-1"))
    waiting.start()
    assert not waiting.wait(0.5)
    waiting.stop(5)
    assert waiting.wait(0)
    assert (waiting.copied, waiting.failure) == (0, None)


KILLED = """
import sys, time
from slurm_tf.launch.staging import sources
from slurm_tf.launch.staging.node_copy import NodeCopy
from slurm_tf.launch.staging.stage_folder import StageFolder
from slurm_tf.run.stage_settings import StageSettings
copy = NodeCopy(sources.find(StageSettings((sys.argv[1],), "/")), StageFolder(sys.argv[2], "/runs/a-1"))
copy.start()
while copy.copied < int(sys.argv[3]):
    time.sleep(0.001)
print("now", flush=True)
copy.wait(60)
"""


@pytest.mark.parametrize("after", [0, 5 * MIB])
def test_kill_9_leaves_nothing_half_written(shared: Path, scratch: Path, after: int) -> None:
    for number in range(30):
        (shared / f"{number}.bin").write_bytes(os.urandom(MIB))
    argv = [sys.executable, "-c", KILLED, str(shared), str(scratch), str(after)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    stage, expected = StageFolder(str(scratch), "/runs/a-1"), contents(shared)
    there = contents(stage.copies) if os.path.isdir(stage.copies) else {}
    assert all(expected[os.path.relpath(name, "clicks")] == data for name, data in there.items())
    found = copy(find(shared), scratch)
    assert found.kept == sum(map(len, there.values()))
    assert contents(stage.copies) == {f"clicks/{name}": data for name, data in expected.items()}
    assert not os.path.exists(stage.parts)


def test_a_stop_keeps_what_is_whole(shared: Path, scratch: Path) -> None:
    stage = StageFolder(str(scratch), "/runs/a-1")
    stopped = NodeCopy(find(shared), stage)
    stopped.start()
    stopped.stop(30)
    assert stopped.wait(0)
    stage.release()
    found = copy(find(shared), scratch)
    assert found.failure is None
    assert contents(found.folder) == {f"clicks/{name}": data for name, data in contents(shared).items()}


@pytest.fixture
def small_scratch(scratch: Path) -> Iterator[Path]:
    """A scratch of 4 MiB: a file system of its own."""
    if os.getuid():
        pytest.skip("only root mounts a tmpfs")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M,mode=0700", "tmpfs", str(scratch)], check=True)
    yield scratch
    subprocess.run(["umount", str(scratch)], check=True)


def test_a_full_scratch_is_found_before_anything_is_copied(shared: Path, small_scratch: Path) -> None:
    text, is_of_scratch = failure(find(shared), small_scratch)
    assert text.startswith(f"found 4.0 MiB free in {small_scratch}/slurm-tf-{os.getuid()}")
    assert "needed 9.0 MiB for the files of [stage]" in text
    assert is_of_scratch
    assert not contents(StageFolder(str(small_scratch), "/runs/a-1").copies)


def test_a_scratch_that_others_fill_meanwhile_is_the_same_error(
    shared: Path, small_scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeCopy, "_check_room", lambda _: None)
    text, is_of_scratch = failure(find(shared), small_scratch)
    assert text.startswith("found no room left in ")
    assert is_of_scratch
    assert all(len(data) < MIB for data in contents(small_scratch).values())


def test_a_wrong_checksum_of_a_prepared_data_set_is_never_staged(shared: Path, scratch: Path) -> None:
    path = shared / "a.bin"
    status, sha256 = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
    right = StagedFile("a.bin", str(path), status.st_size, status.st_mtime_ns, sha256)
    assert copy(StagePlan((right,), ()), scratch).failure is None
    wrong = StagedFile("b.bin", str(path), status.st_size, status.st_mtime_ns, "0" * 64)
    text, is_of_scratch = failure(StagePlan((wrong,), ()), scratch)
    assert text.startswith(f"{path} has the SHA-256 {sha256}; needed {'0' * 64}, as its manifest says")
    assert not is_of_scratch
    assert not contents(StageFolder(str(scratch), "/runs/a-1").copies)


def test_a_disk_that_changes_data_is_named(shared: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_tf.launch.staging.node_copy._write", lambda target, data: target.write(bytes(len(data))))
    text, is_of_scratch = failure(find(shared / "a.bin"), scratch)
    assert "the copy of" in text
    assert "tell your administrators" in text
    assert not is_of_scratch


@pytest.mark.parametrize("change", ["longer", "shorter", "other", "gone"])
def test_a_source_that_changes_is_an_error(shared: Path, scratch: Path, change: str) -> None:
    plan, path = find(shared), shared / "a.bin"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * (path.stat().st_size + {"longer": 1, "shorter": -1, "other": 0}[change]))
    text, is_of_scratch = failure(plan, scratch)
    assert text.startswith(f"{path} cannot be read" if change == "gone" else f"{path} has changed while it was copied")
    assert not is_of_scratch


def test_a_scratch_that_another_user_prepared_is_refused(shared: Path, scratch: Path) -> None:
    scratch.chmod(0o1777)
    own = scratch / f"slurm-tf-{os.getuid()}"
    own.symlink_to(shared)
    assert "no folder; needed a folder of your own, no symbolic link" in failure(find(shared), scratch)[0]
    own.unlink()
    own.mkdir(mode=0o777)
    own.chmod(0o777)
    assert "has mode 777; needed one that only its owner enters" in failure(find(shared), scratch)[0]
    if not os.getuid():
        os.chown(own, 12345, -1)
        assert "belongs to user id 12345" in failure(find(shared), scratch)[0]
    own.rmdir()
    scratch.chmod(0o777)
    assert "others can change it" in failure(find(shared), scratch)[0]
    assert "there is no folder" in failure(find(shared), scratch / "none")[0]


def test_what_was_being_removed_goes_at_the_next_copy(shared: Path, scratch: Path) -> None:
    folder = copy(find(shared), scratch).folder
    left = Path(folder).parent
    left.rename(f"{left}.removed99")
    copy(find(shared), scratch, "/runs/b-1")
    assert not Path(f"{left}.removed99").exists()


def status_of(run: Path, state: AttemptState) -> None:
    run.mkdir(parents=True, exist_ok=True)
    status.write(RunFolder(str(run)), RunStatus("b-1", "7", 0, "node1", 0.0, state))


def test_what_runs_that_are_over_have_left_makes_room(shared: Path, scratch: Path, tmp_path: Path) -> None:
    """A run that ended elsewhere, and one that was removed; but none that goes on, is not known or holds its lock."""
    runs = {name: tmp_path / "runs" / name for name in ("over", "removed", "requeued", "unknown", "used")}
    plan = find(shared / "a.bin")
    folders = {name: Path(copy(plan, scratch, str(run)).folder) for name, run in runs.items()}
    status_of(runs["over"], AttemptState.ENDED)
    status_of(runs["used"], AttemptState.ENDED)
    status_of(runs["requeued"], AttemptState.REQUEUED)
    runs["unknown"].mkdir()
    holder = StageFolder(str(scratch), str(runs["used"]))
    assert holder.lock(lambda _: True)
    copy(plan, scratch, str(tmp_path / "runs" / "new"))
    assert {name for name, folder in folders.items() if folder.exists()} == {"requeued", "unknown", "used"}
    holder.release()


def test_progress_can_be_seen(shared: Path, scratch: Path) -> None:
    found, seen = NodeCopy(find(shared), StageFolder(str(scratch), "/runs/a-1")), set[int]()
    found.start()
    while not found.wait(0.0005):
        seen.add(found.copied)
    assert len(seen) > 1
    assert max(seen) <= found.copied == found.wanted
