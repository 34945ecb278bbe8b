"""Storage that fails under a training on a node, and checkpoints that were damaged: an older one is always there."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_tf.run import checkpoint_folder
from tests.faults.held import Held
from tests.faults.phases import restart
from tests.faults.trainings import Trainings
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.faults, pytest.mark.timeout(900)]

NODE = "node1"


def on_node(sandbox: Sandbox, *argv: str) -> None:
    sandbox.run(*argv, user="root", node=NODE)


@pytest.fixture
def run(trainings: Trainings, sandbox: Sandbox) -> Iterator[Held]:
    """Return a training in one task, whose checkpoints are on a disk of 4 MiB that its node alone sees."""
    made = trainings.make("single")
    made.submit("--hold", f"--nodelist={NODE}")
    disk = str(made.checkpoints)
    owner = made.checkpoints.stat()
    options = f"size=4m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    on_node(sandbox, "mount", "-t", "tmpfs", "-o", options, "tmpfs", disk)
    node = linux.Process.read(sandbox.folder / "pids" / NODE)
    assert node
    made.checkpoints = Path(f"/proc/{node.pid}/root{disk}")
    made.member.run("scontrol", "release", made.job)
    made.settle()
    made.allow(4)
    made.settle()
    made.wait("a checkpoint", lambda: made.pointer() == 4)
    yield made
    made.member.run("scancel", made.job, check=False)
    made.wait("no process is left", lambda: not list(made.processes()))
    on_node(sandbox, "umount", disk)


def is_lost(run: Held, words: str) -> None:
    """Have a save fail; the one before it stays."""
    run.allow(6)
    line = rf"checkpoint of step 6 was not written, older ones are kept: .*{words}"
    run.wait("a save fails", lambda: re.search(line, run.log("worker:0")))
    run.settle()
    assert run.committed() == run.pointer() == 4
    assert not run.unfinished()


def ends_well(run: Held, trainings: Trainings) -> None:
    run.allow(8)
    run.settle()
    run.wait("a checkpoint", lambda: run.pointer() == 8)
    assert run.lives == len(run.begun("worker:0")) == 1
    assert run.finish() == trainings.whole("single"), run.story()


def test_a_full_disk(run: Held, trainings: Trainings) -> None:
    ballast = run.checkpoints / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    is_lost(run, "No space left on device|RESOURCE_EXHAUSTED")
    ballast.unlink()
    ends_well(run, trainings)


def test_a_disk_that_is_read_only(run: Held, trainings: Trainings, sandbox: Sandbox) -> None:
    folder = "/" + str(run.checkpoints).partition("/root/")[2]
    on_node(sandbox, "mount", "-o", "remount,ro", folder)
    is_lost(run, "Read-only file system")
    on_node(sandbox, "mount", "-o", "remount,rw", folder)
    ends_well(run, trainings)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_an_io_error(call: str, run: Held, trainings: Trainings) -> None:
    argv = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO"]
    tracer = subprocess.Popen([*argv, "-p", str(run.pid("worker:0"))], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        assert "attached" in tracer.stderr.readline()
        is_lost(run, "Input/output error")
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=60)
    ends_well(run, trainings)


# --- damaged checkpoints ---


def _stale(folder: Path) -> None:
    (folder / checkpoint_folder.POINTER).write_text("step-0000000004\n")


def _truncated(folder: Path) -> None:
    data = folder / "step-0000000008" / "checkpoint.data-00000-of-00001"
    os.truncate(data, data.stat().st_size // 2)


def _flipped(folder: Path) -> None:
    data = folder / "step-0000000008" / "checkpoint.data-00000-of-00001"
    data.write_bytes(bytes(255 - byte for byte in data.read_bytes()))


def _deleted(folder: Path) -> None:
    (folder / "step-0000000008" / checkpoint_folder.MANIFEST).unlink()


@pytest.mark.parametrize(
    ("damage", "resumed", "words"),
    [
        (_stale, 8, ""),
        (_truncated, 6, r"checkpoint \S+/step-0000000008 is left out: checkpoint.data-00000-of-00001 is not what"),
        (_flipped, 6, r"checkpoint \S+/step-0000000008 is passed over: "),
        (_deleted, 6, r"checkpoint \S+/step-0000000008 is left out: .*No such file or directory"),
    ],
    ids=["a stale pointer", "a truncated file", "changed bytes", "no manifest"],
)
def test_damage(damage: Callable[[Path], None], resumed: int, words: str, trainings: Trainings) -> None:
    run = trainings.make("multi_worker")
    run.submit()
    run.allow(8)
    run.settle()
    run.wait("a checkpoint", lambda: run.pointer() == 8)
    damage(run.checkpoints)
    restart(run)
    run.settle()
    assert {run.begun(task)[-1] for task in run.trainers} == {resumed}, run.story()
    assert re.search(words, run.log("chief:0"))
    assert run.finish() == trainings.whole("multi_worker"), run.story()
