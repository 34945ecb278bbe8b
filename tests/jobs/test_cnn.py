"""One Keras 3 program has the same samples and the same result under any strategy, but not without the reduction."""

import functools
import os
import signal
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomllib

from tests import forkserver
from tests.conftest import CHECKSUM
from tests.horovod import require
from tests.jobs.conftest import JOBS, RunJob, RunningJob, through
from tests.jobs.test_programs import TWO_DEVICES
from tests.launch.conftest import parent
from tests.oracle import CHANGED, NO_REDUCTION, checkpointed, largest_difference

pytestmark = pytest.mark.tensorflow

RANKS = r"^\[worker:\d\] rank (\d): (\d+) variables, checksum (\w+)$"
EPOCHS = 2
TESTED = r"^\[worker:\d\] rank (\d): test loss ([\d.]+), test accuracy ([\d.]+)$"


def job_file(strategy: str) -> Path:
    """Return the job of the CNN under a strategy."""
    return JOBS / ("cnn.toml" if strategy == "multi_worker" else f"cnn_{strategy}.toml")


def test_the_jobs_differ_in_nothing_but_the_strategy() -> None:
    for name in ("cnn_horovod", "cnn_horovod_mpi", "cnn_mirrored", "cnn_single"):
        own = tomllib.loads((JOBS / f"{name}.toml").read_text())
        worker = own.pop("roles", {"worker": {"count": 2}})
        assert worker == {"worker": {"count": 1 if own.get("strategy") in ("single", "mirrored") else 2}}
        assert {*own} - {"horovod"} <= {"extends", "description", "name", "strategy"}


# counts the samples in the loss of each training step
COUNT = """
import os, keras, tensorflow as tf
compute_loss = keras.Model.compute_loss
def counted(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
    if training:
        tf.print(tf.shape(y)[0], output_stream="file://" + os.environ["SLURM_TF_RUN_FOLDER"] + "/counted")
    return compute_loss(self, x, y, y_pred, sample_weight, training)
keras.Model.compute_loss = counted
"""


class Trained(NamedTuple):
    """The result of a job of the CNN. `tested`: test loss and accuracy of each rank; `epochs`: accuracy and loss."""

    tested: list[tuple[float, float]]
    epochs: list[tuple[float, float]]
    samples: int
    variables: dict[str, Any]


def trained(folder: Path, strategy: str, change: str) -> Trained:
    """Run the strategy's job in `folder`, with the program and COUNT; return its result."""
    (folder / "counting.py").write_text(CHANGED.format(change=COUNT + change))
    words = [str(job_file(strategy)), f"epochs={EPOCHS}", *through(f"{folder}/counting.py", CHECKSUM)]
    job = RunningJob(folder, words, forkserver.environ())
    try:
        assert job.wait() == 0, job.text
    finally:
        job.stop()
    ranks = job.find(RANKS)
    # weights, statistics of BatchNormalization, optimizer: bit for bit
    assert len({(count, checksum) for _, count, checksum in ranks}) == 1
    assert len(ranks) == (2 if strategy in ("multi_worker", "horovod") else 1)
    assert len(job.find(r"the model is in (\S+)")) == 1
    (run,) = (folder / "runs").iterdir()
    return Trained(
        [(float(loss), float(accuracy)) for _, loss, accuracy in job.find(TESTED)],
        [
            (float(accuracy), float(loss))
            for accuracy, loss in job.find(r"epoch \d+/\d+  accuracy ([\d.]+)  loss ([\d.]+)")
        ],
        sum(int(line) for line in (run / "counted").read_text().split()),
        checkpointed(run),
    )


@functools.cache
def single() -> Trained:
    with tempfile.TemporaryDirectory() as folder:
        return trained(Path(folder), "single", "")


@pytest.mark.matrix
@pytest.mark.parametrize(
    "strategy",
    [
        # each strategy against one process in `make test`: test_oracle.py and test_remainder.py
        pytest.param("multi_worker", marks=pytest.mark.long),
        pytest.param("horovod", marks=pytest.mark.long),
        pytest.param("mirrored", marks=pytest.mark.long),
    ],
)
def test_the_result_is_the_same_under_any_strategy(strategy: str, tmp_path: Path) -> None:
    """Under mirrored, two logical CPU devices replace two GPUs."""
    if strategy == "horovod":
        require()
    many = trained(tmp_path, strategy, TWO_DEVICES if strategy == "mirrored" else "")
    alone = single()
    assert alone.samples == many.samples == EPOCHS * 1437
    assert len({*many.tested}) == 1
    (loss, accuracy), ((expected, same),) = many.tested[0], alone.tested
    assert accuracy == same >= 0.8
    assert abs(loss - expected) <= 1e-4
    assert largest_difference(many.variables, alone.variables) <= 1e-4
    # the order of samples is the same, so the metrics of each epoch agree as well
    assert len(many.epochs) == EPOCHS
    for one, other in zip(many.epochs, alone.epochs, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    "broken",
    [
        NO_REDUCTION["multi_worker"],
        "keras_3.average_gradients = lambda optimizer, collective: None",
        "keras_3.synchronize_statistics = lambda layer, collective, padding: None",
        "allreduce.broadcast = lambda collective, variables: None",
    ],
    ids=["no mean", "no averaged gradients", "no synchronized statistics", "no common start"],
)
def test_without_one_part_of_the_reduction_the_result_differs(broken: str, run_forked: RunJob, tmp_path: Path) -> None:
    """Workers differ, or the result is not that of one process: the test above would fail."""
    program = tmp_path / "broken.py"
    program.write_text(CHANGED.format(change=broken))
    many = run_forked(str(job_file("multi_worker")), "epochs=2", *through(str(program), CHECKSUM))
    assert many.wait() == 0, many.text
    checksums = {checksum for _, _, checksum in many.find(RANKS)}
    if len(checksums) > 1:
        return
    many_values = checkpointed(tmp_path / "runs" / "cnn-1")
    alone = run_forked(str(job_file("single")), "epochs=2")
    assert alone.wait() == 0, alone.text
    assert largest_difference(many_values, checkpointed(tmp_path / "runs" / "cnn-single-1")) > 1e-4


@pytest.mark.matrix
@pytest.mark.long  # in `make test`: a killed chief in tests/faults, a killed agent in tests/cluster/test_new_step.py
@pytest.mark.parametrize("killed", ["the worker", "its agent"])
def test_a_killed_worker_starts_all_again_from_the_last_checkpoint(killed: str, run_job: RunJob) -> None:
    job = run_job(
        str(job_file("multi_worker")), "epochs=5", "--set", "launch.max-restarts=1",
        "--set", "checkpoint.every-steps=20", *through(CHECKSUM),
    )  # fmt: skip
    job.wait_for(r"step 46/115")
    pid = job.pid("worker:1")
    os.kill(pid if killed == "the worker" else parent(pid), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert ("a new step is started (restart 1 of 1)" in job.text) == (killed == "its agent")
    resumed = job.find(r"resumed at step (\d+) from")
    assert len(resumed) == 1
    assert int(resumed[0]) >= 40
    assert "step 115/115" in job.text
    ranks = job.find(RANKS)
    assert len(ranks) == 2
    assert len({checksum for _, _, checksum in ranks}) == 1
    assert all(float(accuracy) >= 0.95 for _, _, accuracy in job.find(TESTED))
