"""Storage that fails during training: full, read-only, with I/O errors. Needs root.

The disk is a tmpfs in the program's own mount namespace; strace injects I/O errors into system calls.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_tf.run import checkpoint_folder, env
from slurm_tf.run.train_settings import TrainSettings, to_variable
from tests import forkserver
from tests.conftest import PYTHONPATH

pytestmark = pytest.mark.tensorflow

MIB = 1 << 20
# Saves 2 MiB in each step. The disk fails as `bad` says when step 2 is committed, and recovers (`good`) after step 4.
PROGRAM = """
import os, subprocess, sys, time
import tensorflow as tf
import slurm_tf.train as train
from slurm_tf.run import checkpoint_folder

folder, steps, bad, good = os.environ["SLURM_TF_CHECKPOINT_FOLDER"], int(sys.argv[1]), sys.argv[2], sys.argv[3]
run = train.init()
value = tf.Variable(tf.zeros([1 << 19]))
run.checkpoint(value=value)

def step(batch):
    return {"value": value.assign_add(tf.ones([1 << 19]))[0]}

def newest():
    return next((found.step for found in checkpoint_folder.complete(folder)), 0)

def free():
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize

def do(verb):
    if verb == "fill":
        with open(f"{folder}/../ballast", "wb") as file:
            file.write(b"x" * (free() - (1 << 20)))
    elif verb == "empty":
        os.unlink(f"{folder}/../ballast")
    else:
        subprocess.run(["mount", "-o", f"remount,{verb}", f"{folder}/.."], check=True)

was_free = 0
for done, _ in run.loop(step, tf.data.Dataset.range(100), steps, every=1):
    if done == 2:
        while newest() < 2:
            time.sleep(0.01)
        do(bad)
        was_free = free()
    if done == 4 and good:
        run._checkpoints._join()
        print("newest then", newest(), "freed", free() == was_free, flush=True)
        do(good)
print("steps done", done, flush=True)
for found in checkpoint_folder.complete(folder):
    print("kept", found.step, float(tf.train.load_variable(found.prefix, "value/.ATTRIBUTES/VARIABLE_VALUE")[0]))
print("names", *sorted(os.listdir(folder)))
"""
ENVIRON = {
    **os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
    env.TRAIN: to_variable(TrainSettings(checkpoint_every_steps=1, checkpoint_keep=2)),
}  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> list[str]:
    """Return a command that runs another one with a disk of 9 MiB at `disk`, which only that one sees."""
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=9m tmpfs "$0" && mkdir "$0/checkpoints" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path / "disk")]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a disk: {done.stderr.strip()}")
    return command


def train(disk: list[str], steps: int, bad: str, good: str) -> "subprocess.CompletedProcess[str]":
    folder = f"{disk[-1]}/checkpoints"
    return subprocess.run(
        [*disk, sys.executable, "-c", PROGRAM, str(steps), bad, good], capture_output=True, text=True, timeout=240,
        env={**ENVIRON, env.CHECKPOINT_FOLDER: folder}, check=False,
    )  # fmt: skip


ERRORS = {"fill": "No space left on device", "ro": "Read-only file system"}


@pytest.mark.parametrize(("bad", "good"), [("fill", "empty"), pytest.param("ro", "rw", marks=pytest.mark.long)])
def test_training_continues_and_the_last_good_checkpoint_is_kept(bad: str, good: str, disk: list[str]) -> None:
    done = train(disk, 6, bad, good)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "newest then 2 freed True" in done.stdout, done.stdout + done.stderr[-3000:]
    for step in (3, 4):
        line = rf"checkpoint of step {step} was not written, older ones are kept: .*{ERRORS[bad]}"
        assert re.search(line, done.stderr), done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    kept = "steps done 6\nkept 6 6.0\nkept 5 5.0\nnames latest step-0000000005 step-0000000006\n"
    assert done.stdout.endswith(kept), done.stdout


@pytest.mark.parametrize("bad", [pytest.param("fill", marks=pytest.mark.long), "ro"])
def test_a_last_save_that_failed_fails_the_program(bad: str, disk: list[str]) -> None:
    done = train(disk, 4, bad, "")
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT), done.stdout
    assert "the last checkpoint was not written: " in done.stderr, done.stderr[-3000:]
    assert ERRORS[bad] in done.stderr


# --- I/O errors ---

SAVER = """
import os, sys, time
import tensorflow as tf
from slurm_tf.errors import CheckpointError
from slurm_tf.train.checkpoint.checkpoints import Checkpoints

value = tf.Variable(tf.zeros([1 << 19]))
checkpoint, checkpoints = tf.train.Checkpoint(value=value), Checkpoints(sys.argv[1], 2)
found = checkpoints.restore(checkpoint)
print("restored", found.step if found else 0, float(value[0]), os.getpid(), flush=True)
first = found.step + 1 if found else 1
for step in range(first, first + 3):
    sys.stdin.readline()
    value.assign(tf.fill([1 << 19], float(step)))
    checkpoints.save(checkpoint, step)
    checkpoints._join()
    os.mkdir(f"{sys.argv[2]}/{step}")
checkpoints.wait()
print("done", flush=True)
"""


class Saver:
    """A process of the program above; `save` has it do one step."""

    def __init__(self, folder: Path, markers: Path) -> None:
        """`markers`: a folder in which the program makes one entry per step."""
        markers.mkdir(exist_ok=True)
        self._markers, self._steps = markers, 0
        self.errors = markers.parent / "errors"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [forkserver.python(), "-c", SAVER, str(folder), str(markers)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True, env={**ENVIRON, **forkserver.VARIABLES},
            )  # fmt: skip
        assert self.process.stdout is not None
        self.restored = self.process.stdout.readline().split()
        assert self.restored[:1] == ["restored"], self.errors.read_text()
        self.pid = int(self.restored[3])

    def save(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._steps += 1
        marker = self._markers / str(int(self.restored[1]) + self._steps)
        deadline = time.monotonic() + 60
        while not marker.exists():
            assert time.monotonic() < deadline, self.errors.read_text()
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[Saver]:
    (tmp_path / "checkpoints").mkdir()
    started = Saver(tmp_path / "checkpoints", tmp_path / "markers")
    yield started
    started.process.kill()
    started.process.communicate()


Inject = Callable[[int, str], "subprocess.Popen[str]"]


@pytest.fixture
def inject() -> Iterator[Inject]:
    """Have system calls of a process fail with EIO until the strace that is returned is ended."""
    if not shutil.which("strace"):
        pytest.skip("no strace to inject errors with")
    tracers: list[subprocess.Popen[str]] = []

    def attach(pid: int, calls: str) -> "subprocess.Popen[str]":
        argv = ["strace", "-f", "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO", "-p", str(pid)]
        tracer = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        tracers.append(tracer)
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            pytest.skip(f"strace may not trace: {line.strip()}")
        return tracer

    yield attach
    for tracer in tracers:
        if tracer.poll() is None:
            tracer.kill()
        tracer.communicate()


def detach(tracer: "subprocess.Popen[str]") -> int:
    """End a tracer; return how many system calls it made fail."""
    tracer.send_signal(signal.SIGINT)
    _, traced = tracer.communicate(timeout=60)
    return traced.count("(INJECTED)")


def steps(folder: Path) -> list[int]:
    return [found.step for found in checkpoint_folder.complete(str(folder))]


@pytest.mark.parametrize("calls", ["fsync", "write,pwrite64,writev", "rename"])
def test_after_an_io_error_while_saving_the_last_good_checkpoint_is_kept(
    calls: str, saver: Saver, inject: Inject, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    saver.save()
    assert steps(folder) == [1]
    tracer = inject(saver.pid, calls)
    saver.save()
    assert detach(tracer) > 0, "nothing was made to fail"
    assert steps(folder) == [1]
    assert sorted(os.listdir(folder)) == ["latest", "step-0000000001"]
    saver.save()
    assert steps(folder) == [3, 1]
    output, _ = saver.process.communicate(timeout=60)
    assert output == "done\n", saver.errors.read_text()
    if "write" not in calls:  # otherwise the report fails too
        assert "checkpoint of step 2 was not written, older ones are kept: " in saver.errors.read_text()
        assert "Input/output error" in saver.errors.read_text()


@pytest.mark.long  # of what cannot be read as it is damaged: test_checkpoints.py
def test_after_an_io_error_while_reading_an_older_checkpoint_is_restored(saver: Saver, tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("no strace to inject errors with")
    for _ in range(3):
        saver.save()
    saver.process.communicate(timeout=60)
    folder = tmp_path / "checkpoints"
    assert steps(folder) == [3, 2]
    bad = folder / "step-0000000003" / "checkpoint.data-00000-of-00001"
    calls = "read,pread64,preadv,mmap"
    argv = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-P", str(bad), "-e", f"inject={calls}:error=EIO"]
    done = subprocess.run(
        [*argv, sys.executable, "-c", SAVER, str(folder), str(tmp_path / "other")], input="", capture_output=True,
        text=True, timeout=240, env=ENVIRON, check=False,
    )  # fmt: skip
    assert "(INJECTED)" in (tmp_path / "trace").read_text(), done.stderr[-2000:]
    assert done.stdout.startswith("restored 2 2.0 "), done.stdout + done.stderr[-3000:]
    assert done.stderr.count(f"checkpoint {folder}/step-0000000003 cannot be read, trying again: ") == 2
    assert f"checkpoint {folder}/step-0000000003 is passed over: " in done.stderr
