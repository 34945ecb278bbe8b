"""TensorFlow's checkpoints under the commit protocol: complete, checked, asynchronous."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.run import checkpoint_folder
from tests import forkserver

pytestmark = [pytest.mark.tensorflow, pytest.mark.matrix]

ENVIRON = {**os.environ, **forkserver.VARIABLES, "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    return tensorflow


def opened(folder: Path, **more: Any) -> Any:
    from slurm_tf.train.checkpoint.checkpoints import Checkpoints

    return Checkpoints(str(folder), 3, **more)


def saved(tf: Any, folder: Path, steps: range) -> Any:
    """Save a variable that holds its step at each of `steps`; return the variable."""
    variable = tf.Variable(tf.zeros([1000]))
    checkpoint, checkpoints = tf.train.Checkpoint(v=variable), opened(folder)
    for step in steps:
        variable.assign(tf.fill([1000], float(step)))
        checkpoints.save(checkpoint, step)
        variable.assign(tf.fill([1000], -1.0))  # a change after the save is not in it
    checkpoints.wait()
    return variable


def test_a_save_holds_the_values_of_its_step_and_old_ones_are_pruned(tf: Any, tmp_path: Path) -> None:
    variable = saved(tf, tmp_path, range(1, 6))
    assert [found.step for found in checkpoint_folder.complete(str(tmp_path))] == [5, 4, 3]
    found = opened(tmp_path).restore(tf.train.Checkpoint(v=variable))
    assert found.step == 5
    assert set(variable.numpy()) == {5.0}
    assert sorted(os.listdir(tmp_path)) == ["latest", *(f"step-000000000{n}" for n in (3, 4, 5))]


def test_extra_files_come_back_and_a_checkpoint_with_a_damaged_one_is_passed_over(tf: Any, tmp_path: Path) -> None:
    checkpoint, checkpoints = tf.train.Checkpoint(v=tf.Variable(1.0)), opened(tmp_path)
    for step in (1, 2):
        checkpoints.save(checkpoint, step, {"position": b"%d" % step})
    checkpoints.wait()
    assert opened(tmp_path).restore(checkpoint).read("position") == b"2"
    (tmp_path / "step-0000000002" / "position").write_bytes(b"3")
    found = opened(tmp_path).restore(checkpoint)
    assert (found.step, found.read("position"), found.read("other")) == (1, b"1", None)


def test_the_cost_of_a_save_is_reported_when_it_is_on_storage(tf: Any, tmp_path: Path) -> None:
    reported: list[tuple[int, float, float, int]] = []

    def on_commit(step: int, seconds: float, blocked: float, size: int) -> None:
        assert next(checkpoint_folder.complete(str(tmp_path))).step == step
        assert threading.current_thread() is not threading.main_thread()
        reported.append((step, seconds, blocked, size))

    go = threading.Event()

    def flush(aside: str) -> None:
        assert go.wait(60)
        checkpoint_folder.flush_files(aside)

    checkpoints = opened(tmp_path, flush=flush, on_commit=on_commit)
    checkpoints.save(tf.train.Checkpoint(v=tf.Variable(tf.zeros([1000]))), 7, {"position": b"x" * 5})
    assert reported == []
    go.set()
    checkpoints.wait()
    ((step, seconds, blocked, size),) = reported
    assert step == 7
    assert 0 < blocked < seconds
    assert size == sum(
        path.stat().st_size for path in tmp_path.glob("step-*/*") if path.name != checkpoint_folder.MANIFEST
    )
    assert size > 4005


def test_a_synchronous_save_returns_when_tensorflow_has_written(tf: Any, tmp_path: Path) -> None:
    """Only the flush and the commit are left for the background thread, nothing of TensorFlow."""
    flushing, go = threading.Event(), threading.Event()

    def flush(aside: str) -> None:
        flushing.set()
        assert go.wait(60)
        checkpoint_folder.flush_files(aside)

    checkpoints = opened(tmp_path, flush=flush, asynchronous=False)
    checkpoints.save(tf.train.Checkpoint(v=tf.Variable(tf.zeros([1_000_000]))), 1)
    aside = next(tmp_path.glob("*_temp"))
    assert sorted(os.listdir(aside)) == ["checkpoint.data-00000-of-00001", "checkpoint.index"]
    assert flushing.wait(60)
    go.set()
    checkpoints.wait()
    assert next(checkpoint_folder.complete(str(tmp_path))).step == 1


def test_keras_models_and_optimizers_are_saved_again_and_again(tf: Any, tmp_path: Path) -> None:
    import keras
    import numpy as np

    def build(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        model.optimizer.build(model.trainable_variables)
        return model

    model, other = build(1), build(2)
    checkpoint, checkpoints = tf.train.Checkpoint(model=model, optimizer=model.optimizer), opened(tmp_path)
    for step in range(1, 5):
        model.train_on_batch(np.ones((8, 4), "f"), np.ones((8, 3), "f"))
        checkpoints.save(checkpoint, step)
    wanted = [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]
    checkpoints.wait()
    opened(tmp_path).restore(tf.train.Checkpoint(model=other, optimizer=other.optimizer))
    for variable, value in zip([*other.variables, *other.optimizer.variables], wanted, strict=True):
        assert np.asarray(variable).tobytes() == value.tobytes()
    assert int(other.optimizer.iterations) == 4


def test_the_manifest_has_tensorflows_own_checksums(tf: Any, tmp_path: Path) -> None:
    from slurm_tf.train.checkpoint import checkpoints, tensor_bundle

    saved(tf, tmp_path, range(1, 2))
    found = next(checkpoint_folder.complete(str(tmp_path)))
    assert found.manifest["crc32c"] == tensor_bundle.checksums(found.prefix)
    assert "v/.ATTRIBUTES/VARIABLE_VALUE" in found.manifest["crc32c"]
    assert all(crc > 0 for crc in found.manifest["crc32c"].values())
    checkpoints.verify(found)


def damage(path: Path) -> None:
    """Change one byte in the middle; the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damage_that_keeps_the_size_is_found_and_an_older_checkpoint_restored(
    tf: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from slurm_tf.errors import CheckpointError
    from slurm_tf.train.checkpoint import checkpoints

    variable = saved(tf, tmp_path, range(1, 4))
    newest = next(checkpoint_folder.complete(str(tmp_path)))
    damage(Path(f"{newest.prefix}.data-00000-of-00001"))
    with pytest.raises(CheckpointError, match=r"v/.ATTRIBUTES/VARIABLE_VALUE of .*step-0000000003 is damaged"):
        checkpoints.verify(newest)
    assert opened(tmp_path).restore(tf.train.Checkpoint(v=variable)).step == 2
    assert set(variable.numpy()) == {2.0}
    assert "step-0000000003 is passed over" in capsys.readouterr().err


def test_another_index_is_found(tf: Any, tmp_path: Path) -> None:
    from slurm_tf.errors import CheckpointError
    from slurm_tf.train.checkpoint import checkpoints, tensor_bundle

    saved(tf, tmp_path, range(1, 3))
    newest, older = checkpoint_folder.complete(str(tmp_path))
    Path(f"{newest.prefix}.index").write_bytes(Path(f"{older.prefix}.index").read_bytes())
    with pytest.raises(CheckpointError, match="not the one that was committed"):
        checkpoints.verify(newest)
    Path(f"{newest.prefix}.index").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="no index of a checkpoint"):
        tensor_bundle.checksums(newest.prefix)


def test_a_changed_program_is_refused(tf: Any, tmp_path: Path) -> None:
    from slurm_tf.errors import CheckpointError

    saved(tf, tmp_path, range(1, 2))
    for changed in ({"v": tf.Variable(tf.zeros([999]))}, {"v": tf.Variable(tf.zeros([1000])), "w": tf.Variable(1.0)}):
        with pytest.raises(
            CheckpointError, match=r"does not fit what the program has built(.|\n)*HINT: use another --name"
        ):
            opened(tmp_path).restore(tf.train.Checkpoint(**changed))


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_refused(mode: int, tmp_path: Path) -> None:
    from slurm_tf.errors import RunError

    tmp_path.chmod(mode)
    with pytest.raises(RunError, match=f"has mode {mode:o}: others can change it"):
        opened(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    from slurm_tf.errors import RunError

    os.chown(tmp_path, 12345, -1)
    with pytest.raises(RunError, match="belongs to user id 12345"):
        opened(tmp_path)


def test_the_writer_warns_if_all_users_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened(tmp_path).remove_unfinished()
    assert capsys.readouterr().err == ""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        opened(Path(folder)).remove_unfinished()
        assert f"all users can read the checkpoints; `chmod o-rwx {folder}`" in capsys.readouterr().err


def test_when_a_save_is_due(tmp_path: Path) -> None:
    by_steps = opened(tmp_path, every_steps=10)
    assert [step for step in range(1, 31) if by_steps.due(step)][:2] == [10, 11]
    by_steps._saved_step = 12
    assert next(step for step in range(13, 31) if by_steps.due(step)) == 20
    by_time = opened(tmp_path, every=0.2)
    assert not by_time.due(1)
    time.sleep(0.25)
    assert by_time.due(1)
    assert not opened(tmp_path).due(10**9)


def test_the_interval_follows_from_what_saves_cost(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slurm_tf.train.checkpoint import save_interval

    checkpoints, now, ahead = opened(tmp_path, mtbf=86400.0), time.monotonic(), [save_interval.FIRST_SECONDS - 1]
    with monkeypatch.context() as later:
        later.setattr(time, "monotonic", lambda: now + ahead[0])
        assert not checkpoints.due(1)
        ahead[0] += 2
        assert checkpoints.due(1)
    checkpoints.save(tf.train.Checkpoint(v=tf.Variable(1.0)), 1)
    checkpoints.wait()
    errors = capsys.readouterr().err
    match = re.search(r"slurm_tf.train: a checkpoint every (\d+) s: one of 0 MB costs [\d.]+ s of training", errors)
    assert match is not None, errors
    assert round(checkpoints._interval.seconds) == int(match[1]) >= save_interval.MIN_SECONDS
    assert not checkpoints.due(2)


def test_a_save_that_failed_is_tried_again_soon(tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = opened(tmp_path, every=3600.0, flush=lambda _: os.stat("/no/such/file"))
    checkpoints.save(tf.train.Checkpoint(v=tf.Variable(1.0)), 1)
    checkpoints._join()
    assert os.listdir(tmp_path) == []
    untouched = opened(tmp_path, every=3600.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert checkpoints.due(2)
    assert not untouched.due(2)


SAVER = """
import sys
import tensorflow as tf
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
variables = [tf.Variable(tf.zeros([200_000])) for _ in range(10)]
checkpoint, checkpoints = tf.train.Checkpoint(v=variables), Checkpoints(sys.argv[1], 2)
found = checkpoints.restore(checkpoint)
values = {float(x) for v in variables for x in (tf.reduce_min(v), tf.reduce_max(v))}
print("restored", found.step if found else 0, sorted(values), flush=True)
checkpoints.remove_unfinished()
step = found.step if found else 0
while True:
    step += 1
    for variable in variables:
        variable.assign(tf.fill([200_000], float(step)))
    checkpoints.save(checkpoint, step)
    print("saving", step, flush=True)
"""


def test_kill_9_at_any_time_loses_no_committed_step(tmp_path: Path) -> None:
    """Each process restores what the last one committed, with every tensor of the same step."""
    committed = 0
    for number in range(5):
        saver = subprocess.Popen(
            [forkserver.python(), "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=ENVIRON
        )
        assert saver.stdout is not None
        _, step, values = saver.stdout.readline().split(maxsplit=2)
        assert int(step) >= committed
        assert values.strip() == f"[{float(step)}]"
        for line in saver.stdout:
            if int(line.split()[1]) >= int(step) + 3:
                break
        time.sleep(0.013 * number)
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        committed = next(checkpoint_folder.complete(str(tmp_path))).step
    assert committed >= 10


FULL = """
import resource, sys
import tensorflow as tf
from slurm_tf.errors import CheckpointError
from slurm_tf.train.checkpoint.checkpoints import Checkpoints
variable = tf.Variable(tf.zeros([500_000]))
checkpoint, checkpoints = tf.train.Checkpoint(v=variable), Checkpoints(sys.argv[1], 3)
checkpoints.save(checkpoint, 1)
checkpoints.wait()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
checkpoints.save(checkpoint, 2)
try:
    checkpoints.wait()
    print("not refused")
except CheckpointError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
checkpoints.save(checkpoint, 3)
checkpoints.wait()
print("saved again")
"""


def test_after_a_save_that_cannot_be_written_older_ones_are_kept_and_the_next_works(tmp_path: Path) -> None:
    """With a file size limit the kernel refuses the write, as on a full disk."""
    done = subprocess.run(
        [forkserver.python(), "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRON,
        check=False,
    )
    assert "refused the last checkpoint was not written" in done.stdout, done.stderr[-3000:]
    assert "saved again" in done.stdout, done.stderr[-3000:]
    assert "checkpoint of step 2 was not written, older ones are kept" in done.stderr
    assert [found.step for found in checkpoint_folder.complete(str(tmp_path))] == [3, 1]


def test_saving_returns_before_the_bytes_are_on_storage(tf: Any, tmp_path: Path) -> None:
    from slurm_tf.train.checkpoint.checkpoints import Checkpoints

    flushing: list[float] = []

    def slow(folder: str) -> None:
        flushing.append(time.monotonic())
        time.sleep(1.0)
        checkpoint_folder.flush_files(folder)

    checkpoints = Checkpoints(str(tmp_path), 3, flush=slow)
    variable = tf.Variable(tf.zeros([1000]))
    checkpoint = tf.train.Checkpoint(v=variable)
    checkpoints.save(checkpoint, 1)
    returned = time.monotonic()
    assert list(checkpoint_folder.complete(str(tmp_path))) == []
    checkpoints.wait()
    assert returned < flushing[0] + 1.0
    assert [found.step for found in checkpoint_folder.complete(str(tmp_path))] == [1]
