"""Two attempts that write to one run: the old one is stopped, the new one takes over, then the old one continues.

A writer stops itself in an audit hook, that is, just before a system call.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_tf.errors import FencedError
from slurm_tf.launch.requeue import lease_holder
from slurm_tf.run import checkpoint_folder, env, lease
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.train_settings import TrainSettings, to_variable
from tests.conftest import PYTHONPATH, ROOT

pytestmark = pytest.mark.slow

# Commits steps up to `last`, and keeps three; each checkpoint holds the name of the attempt.
WRITER = """
import os, signal, sys
from pathlib import Path
from slurm_tf.errors import CheckpointError
from slurm_tf.run import checkpoint_folder

run, attempt, last, event, path, nth = sys.argv[1:]
folder, seen = f"{run}/checkpoints", 0

def stop(name, arguments):
    global seen
    if name == event and any(isinstance(each, str) and path in each for each in arguments):
        seen += 1
        if seen == int(nth):
            os.kill(os.getpid(), signal.SIGSTOP)

sys.addaudithook(stop)
fence = checkpoint_folder.fence(run, attempt)
checkpoint_folder.remove_unfinished(folder, fence)
step = next((found.step for found in checkpoint_folder.complete(folder)), 0)
while step < int(last):
    step += 1
    prefix = checkpoint_folder.begin(folder, step, fence)
    try:
        Path(f"{prefix}.data").write_text(attempt)
        checkpoint_folder.finish(prefix, step, {}, checkpoint_folder.flush_files, fence=fence)
        checkpoint_folder.prune(folder, 3, fence)
    except (OSError, CheckpointError) as error:
        print(f"step {step}: {error}")
        checkpoint_folder.abandon(prefix)
checkpoint_folder.begin(folder, step + 1, fence)
"""
LEASE = "lease.json"
# what the old attempt is about to do when it is stopped in step 6: audit event, path, which occurrence
STOPS = {
    "reading the lease before the folder is made": ("open", LEASE, 4 * 5 + 2),
    "making the folder": ("os.mkdir", "step-0000000006-", 1),
    "writing a file": ("open", "step-0000000006-", 1),
    "writing the manifest": ("os.rename", checkpoint_folder.MANIFEST, 6),
    "reading the lease before the rename": ("open", LEASE, 4 * 5 + 3),
    "renaming the folder": ("os.rename", "step-0000000006-", 2),
    "reading the lease before the pointer": ("open", LEASE, 4 * 5 + 4),
    "renaming the pointer": ("os.rename", "/latest", 6),
    "reading the lease before pruning": ("open", LEASE, 4 * 5 + 5),
    "pruning": ("os.rename", "step-0000000003.", 1),
}
COMMITTED = (
    "reading the lease before the pointer",
    "renaming the pointer",
    "reading the lease before pruning",
    "pruning",
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(str(tmp_path / "r"))
    os.makedirs(folder.checkpoints)
    return folder


def take(run: RunFolder, restarts: int) -> str:
    """Take the lease for an incarnation of job 12; return the attempt."""
    return lease_holder.take(run, {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": str(restarts)}, print).attempt


def writer(
    run: RunFolder, attempt: str, last: int, stop: tuple[str, str, int] = ("", "", 0)
) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", WRITER, run.path, attempt, str(last), *map(str, stop)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def stopped(old: "subprocess.Popen[str]") -> None:
    """Wait until a writer has stopped itself."""
    _, status = os.waitpid(old.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"it did not stop: {old.communicate()}"


def contents(run: RunFolder) -> dict[int, str]:
    """Return the attempt that each complete checkpoint holds, by step."""
    return {
        found.step: Path(f"{found.prefix}.data").read_text() for found in checkpoint_folder.complete(run.checkpoints)
    }


def ended(old: "subprocess.Popen[str]") -> str:
    """Have the old writer continue; return its output when it has failed."""
    os.kill(old.pid, signal.SIGCONT)
    output, errors = old.communicate(timeout=60)
    assert old.returncode == 1, output + errors
    assert "FencedError: another attempt has taken over: " in errors, errors
    return output + errors


@pytest.mark.parametrize("stop", STOPS)
def test_only_the_new_attempt_commits(stop: str, run: RunFolder) -> None:
    first = take(run, 0)
    old = writer(run, first, 9, STOPS[stop])
    stopped(old)
    second = take(run, 1)
    new = writer(run, second, 7)
    _, errors = new.communicate(timeout=60)
    assert new.returncode == 0, errors
    assert Path(run.checkpoints, "latest").read_text() == "step-0000000007\n"
    ended(old)
    expected = {7: second, 6: first if stop in COMMITTED else second, 5: first}
    assert contents(run) == expected
    assert Path(run.checkpoints, "latest").read_text() == "step-0000000007\n"
    assert writer(run, second, 9).wait(60) == 0
    assert contents(run) == {9: second, 8: second, 7: second}
    checkpoint_folder.remove_unfinished(run.checkpoints)
    assert sorted(os.listdir(run.checkpoints)) == ["latest", *(f"step-000000000{step}" for step in (7, 8, 9))]


def test_a_checkpoint_of_the_new_attempt_is_not_taken_for_a_damaged_one(run: RunFolder) -> None:
    """The old writer is about to move a damaged checkpoint away when the new one writes that step."""
    first = take(run, 0)
    assert writer(run, first, 5).wait(60) == 0
    torn = Path(run.checkpoints, "step-0000000006")
    torn.mkdir()
    (torn / "half").touch()
    old = writer(run, first, 9, ("os.rename", "step-0000000006.", 1))
    stopped(old)
    second = take(run, 1)
    assert writer(run, second, 6).wait(60) == 0
    assert contents(run)[6] == second
    assert "No such file or directory" in ended(old)
    assert contents(run) == {6: second, 5: first, 4: first}


def test_the_old_attempt_removes_nothing_of_the_new(run: RunFolder) -> None:
    """The old writer is stopped in remove_unfinished."""
    first = take(run, 0)
    Path(run.checkpoints, "left_temp").touch()
    old = writer(run, first, 9, ("os.rename", "left_temp", 1))
    stopped(old)
    second = take(run, 1)
    new = writer(run, second, 2, ("os.mkdir", "step-0000000002-", 1))
    stopped(new)
    ended(old)
    os.kill(new.pid, signal.SIGCONT)
    assert new.communicate(timeout=60)[0] == ""
    assert contents(run) == {1: second, 2: second}


def test_a_lease_that_cannot_be_read_stops_the_writer(run: RunFolder) -> None:
    fence = checkpoint_folder.fence(run.path, take(run, 0))
    fence()
    Path(run.lease).write_text('{"attempt": ')
    with pytest.raises(FencedError, match=r"lease.json is not JSON"):
        fence()
    os.unlink(run.lease)
    with pytest.raises(FencedError, match="names no attempt"):
        fence()
    os.mkdir(run.lease)
    with pytest.raises(IsADirectoryError):
        fence()


def test_a_new_step_of_the_attempt_takes_over_as_well(run: RunFolder) -> None:
    attempt = take(run, 0)
    former = checkpoint_folder.fence(run.path, attempt)
    former()
    lease.next_step(run, attempt)
    with pytest.raises(FencedError, match="names step 1 of attempt"):
        former()
    checkpoint_folder.fence(run.path, attempt, 1)()


def test_outside_of_a_run_there_is_no_fence() -> None:
    checkpoint_folder.fence("", "12.0")()
    checkpoint_folder.fence("/nowhere", "")()


TRAINS = """
import tensorflow as tf
import slurm_tf.train as train
run = train.init()
value = tf.Variable(0.0)
run.checkpoint(value=value)
for _ in run.loop(lambda batch: {"value": value.assign_add(1.0)}, tf.data.Dataset.range(100), 10**9, every=1):
    pass
"""


@pytest.mark.tensorflow
def test_training_ends_once_another_attempt_has_taken_over(run: RunFolder) -> None:
    first = take(run, 0)
    environ = {
        **os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
        env.RUN_FOLDER: run.path, env.ATTEMPT: first, env.CHECKPOINT_FOLDER: run.checkpoints,
        env.TRAIN: to_variable(TrainSettings(checkpoint_every_steps=1)),
    }  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", TRAINS], stderr=subprocess.PIPE, text=True, env=environ) as program:
        deadline = time.monotonic() + 120
        while not list(checkpoint_folder.complete(run.checkpoints)):
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = take(run, 1)
        checkpoint_folder.remove_unfinished(run.checkpoints, checkpoint_folder.fence(run.path, second))
        newest = next(checkpoint_folder.complete(run.checkpoints)).step
        _, errors = program.communicate(timeout=120)
    assert program.returncode != 0
    assert f"another attempt has taken over: {run.lease} names {second}, this is {first}" in errors
    assert next(checkpoint_folder.complete(run.checkpoints)).step == newest
    checkpoint_folder.remove_unfinished(run.checkpoints, checkpoint_folder.fence(run.path, second))
    assert not [name for name in os.listdir(run.checkpoints) if name.endswith(checkpoint_folder.TEMP)]
