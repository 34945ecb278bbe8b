"""The verb checkpoints, as a person types it, on a run's folder as training leaves it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import FencedError
from slurm_tf.launch.requeue import lease_holder
from slurm_tf.run import checkpoint_folder
from slurm_tf.run.folder import RunFolder
from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT, write_manifest
from tests.forkserver import command_line

pytestmark = pytest.mark.slow

Type = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return the folder of run r-1, with the checkpoints 1 to 5."""
    folder = RunFolder(str(tmp_path / "runs" / "r-1"))
    os.makedirs(folder.checkpoints)
    os.chmod(folder.path, 0o700)
    write_manifest(folder, "r", checkpoint={"keep": 3})
    for step in range(1, 6):
        write(folder.checkpoints, step)
    return folder


def write(folder: str, step: int) -> None:
    prefix = checkpoint_folder.begin(folder, step)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(b"x" * 1_500_000)
    checkpoint_folder.finish(prefix, step, {}, checkpoint_folder.flush_files, {"position": b"7"})


@pytest.fixture
def typed(tmp_path: Path) -> Type:
    """Type `slurm-tf checkpoints WORDS`."""

    def run(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        own = {"PYTHONPATH": PYTHONPATH, "SLURM_TF_RUNS": str(tmp_path / "runs")}
        return command_line.slurm_tf(["checkpoints", *words], {**os.environ, **own, **environ}, tmp_path, 240)

    return run


def steps(run: RunFolder) -> list[int]:
    return [found.step for found in checkpoint_folder.complete(run.checkpoints)]


def test_they_are_listed_newest_first_with_what_is_wrong(run: RunFolder, typed: Type) -> None:
    os.truncate(Path(run.checkpoints, "step-0000000004", "checkpoint.data-00000-of-00001"), 10)
    done = typed("r-1")
    assert done.returncode == 0, done.stderr
    heads, *lines = done.stdout.splitlines()
    assert heads.split() == ["STEP", "WRITTEN", "SIZE", "STATE"]
    assert [line.split()[0] for line in lines] == ["5", "4", "3", "2", "1"]
    assert lines[0].split()[1:] == [lines[0].split()[1], "s", "ago", "1.5", "MB", "whole"]
    assert lines[1].endswith("checkpoint.data-00000-of-00001 is not what was written")
    assert typed(run.path, "list").stdout.split()[: len(heads.split())] == heads.split()
    rows = json.loads(typed("r-1", "list", "--json").stdout)
    assert [row["problem"] is None for row in rows] == [True, False, True, True, True]
    assert rows[0]["size"] == 1_500_001
    assert abs(rows[0]["written"] - time.time()) < 600


def test_a_run_without_any(run: RunFolder, typed: Type) -> None:
    checkpoint_folder.prune(run.checkpoints, 1)
    checkpoint_folder._remove(f"{run.checkpoints}/step-0000000005")
    done = typed("r-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "slurm-tf: run r-1 has no checkpoints\n")


def test_points_are_listed_together(run: RunFolder, typed: Type) -> None:
    from slurm_tf.run import job_chain

    job_chain.add(run, "12", "", (0, 1), True, submission=1)
    for index in (0, 1):
        os.makedirs(run.point(index).checkpoints)
        write(run.point(index).checkpoints, 10 + index)
    lines = typed("r-1").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["RUN", "STEP"], ["r-1/0", "10"], ["r-1/1", "11"]]
    assert typed("r-1/1").stdout.splitlines()[1].split()[0] == "11"
    done = typed("r-1", "export", "latest", "x")
    message = "slurm-tf: run r-1 has 2 sweep points; needed one of them, such as r-1/0\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_prune_keeps_the_newest_as_the_job_file_says(run: RunFolder, typed: Type) -> None:
    Path(run.checkpoints, "step-0000000009-x_temp").mkdir()
    done = typed("r-1", "prune")
    assert (done.returncode, done.stdout) == (0, "r-1: removed 3, kept 3\n"), done.stderr
    assert steps(run) == [5, 4, 3]
    assert typed("r-1", "prune", "--keep", "1").stdout == "r-1: removed 2, kept 1\n"
    assert steps(run) == [5]
    assert typed("r-1", "prune", "--keep", "0").returncode == 2


@pytest.fixture
def attempt(run: RunFolder) -> Iterator["subprocess.Popen[bytes]"]:
    """Return a process that has taken the run."""
    code = (
        "import sys; from slurm_tf.run.folder import RunFolder; from slurm_tf.launch.requeue import lease_holder\n"
        "lease_holder.take(RunFolder(sys.argv[1]), {}, print); print('taken', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_prune_is_refused_while_an_attempt_lives(
    run: RunFolder, typed: Type, attempt: "subprocess.Popen[bytes]"
) -> None:
    done = typed("r-1", "prune")
    assert done.returncode == 73
    assert f"slurm-tf: run r-1 is being run by process {attempt.pid} on " in done.stderr
    assert steps(run) == [5, 4, 3, 2, 1]
    attempt.communicate()
    assert typed("r-1", "prune").stdout == "r-1: removed 2, kept 3\n"


def test_an_attempt_that_starts_while_a_run_is_pruned_is_not_disturbed(run: RunFolder) -> None:
    held = lease_holder.take(run, {"SLURM_JOB_ID": "7"}, print)
    fence = checkpoint_folder.fence(run.path, held.attempt)
    lease_holder.take(run, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, print)
    with pytest.raises(FencedError):
        checkpoint_folder.prune(run.checkpoints, 1, fence)
    assert steps(run) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "5"], "found 1 words after export; needed STEP FOLDER"),
        (["export", "6", "x"], "no whole checkpoint '6' in "),
        (["export", "5", "runs"], "runs exists; needed a folder that does not exist yet"),
        (["export", "5", "no/such"], "there is no folder "),
        (["list", "5"], "found 1 words after list"),
        (["verify", "6"], "no whole checkpoint '6' in "),
        (
            ["verify", "--python", "/no/python"],
            "/no/python: No such file or directory; needed a Python with",
        ),
        (["verify", "--python", "/usr/bin/false"], "/usr/bin/false ended with exit code 1"),
    ],
)
def test_what_cannot_be_done(words: list[str], message: str, run: RunFolder, typed: Type) -> None:  # noqa: ARG001
    done = typed("r-1", *words)
    assert done.returncode in (2, 74)
    assert message in done.stderr


def test_verify_without_tensorflow_says_so(run: RunFolder, typed: Type) -> None:  # noqa: ARG001
    done = typed("r-1", "verify", "--python", "/usr/bin/python3")
    if "every tensor is as it was written" in done.stdout:
        pytest.skip("the system's Python has TensorFlow")
    assert (done.returncode, done.stdout) == (2, "")
    assert "/usr/bin/python3 has no TensorFlow" in done.stderr


# --- with TensorFlow ---

SAVE = """
import sys
import tensorflow as tf
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
value = tf.Variable(tf.zeros([1000]))
checkpoint, checkpoints = tf.train.Checkpoint(value=value), Checkpoints(sys.argv[1], 9)
for step in (7, 8, 9):
    value.assign(tf.fill([1000], float(step)))
    checkpoints.save(checkpoint, step, {"position": b"7"})
checkpoints.wait()
"""
LOAD = "import sys, tensorflow as tf; print(tf.train.load_checkpoint(sys.argv[1]).get_tensor(sys.argv[2])[0])"


def python(*words: str) -> str:
    environ = {**os.environ, **forkserver.VARIABLES, "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [forkserver.python(), "-c", *words], capture_output=True, text=True, timeout=240, check=True, env=environ
    ).stdout


@pytest.fixture
def trained(run: RunFolder) -> RunFolder:
    """Return a run whose checkpoints TensorFlow wrote."""
    checkpoint_folder.prune(run.checkpoints, 1)
    checkpoint_folder._remove(f"{run.checkpoints}/step-0000000005")
    python(SAVE, run.checkpoints)
    return run


@pytest.mark.tensorflow
def test_verify_reads_every_byte(trained: RunFolder, typed: Type) -> None:
    folder = Path(trained.checkpoints)
    (folder / "step-0000000007" / "position").write_bytes(b"8")
    os.unlink(folder / "step-0000000009" / checkpoint_folder.MANIFEST)
    done = typed("r-1", "verify")
    assert done.returncode == 74
    nine, eight, seven = done.stdout.splitlines()
    assert nine.startswith("r-1 step 9: [Errno 2] No such file or directory: ")
    assert eight == "r-1 step 8: every tensor is as it was written"
    assert seven.startswith("r-1 step 7: position of ")
    assert "slurm-tf: 2 checkpoints cannot be used" in done.stderr
    data = bytearray((folder / "step-0000000008" / "checkpoint.data-00000-of-00001").read_bytes())
    data[100] ^= 1
    (folder / "step-0000000008" / "checkpoint.data-00000-of-00001").write_bytes(data)
    (eight,) = typed("r-1", "verify", "8").stdout.splitlines()
    assert eight.startswith("r-1 step 8: value/.ATTRIBUTES/VARIABLE_VALUE of ")
    assert "is damaged" in eight


@pytest.mark.tensorflow
@pytest.mark.parametrize(("step", "value"), [("8", 8.0), pytest.param("latest", 9.0, marks=pytest.mark.long)])
def test_a_copy_is_read_by_tensorflow_itself(
    step: str, value: float, trained: RunFolder, typed: Type, tmp_path: Path
) -> None:
    done = typed("r-1", "export", step, "copy of it")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"step {value:.0f} of r-1 is in copy of it: tf.train.load_checkpoint('copy of it')\n"
    checkpoint_folder._remove(f"{trained.checkpoints}/step-{int(value):010}")
    loaded: Any = python(LOAD, str(tmp_path / "copy of it"), "value/.ATTRIBUTES/VARIABLE_VALUE")
    assert float(loaded) == value
    assert (tmp_path / "copy of it" / "position").read_bytes() == b"7"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy of it", "runs"]
