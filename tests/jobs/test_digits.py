"""One Keras 3 program, one process or two: the same global batches, the same result; and not without the reduction."""

import re
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.train import commit
from tests.jobs.conftest import JOBS, RunJob, RunningJob
from tests.launch.conftest import parent

pytestmark = pytest.mark.tensorflow

RANKS = r"^\[worker:\d\] rank (\d): (\d+) variables, checksum (\w+)$"
TESTED = r"^\[worker:\d\] rank (\d): test loss ([\d.]+), test accuracy ([\d.]+)$"


def variables(job: RunningJob) -> dict[str, Any]:
    """Return every value of the job's newest checkpoint, by its name."""
    import tensorflow as tf

    (folder,) = (job.folder / "runs").glob("*/checkpoints")
    reader = tf.train.load_checkpoint(next(commit.complete(str(folder))).prefix)
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert set(one) == set(other)
    return max(float(abs(one[name].astype("float64") - other[name]).max()) for name in one)


def check_as_one_process(run_job: RunJob, folder: Path, many: RunningJob) -> None:
    """Two ranks have ended with the same bits, and as one process does with the same global batches."""
    ranks = many.find(RANKS)
    assert sorted(rank for rank, _, _ in ranks) == ["0", "1"]
    # weights, statistics of BatchNormalization, optimizer: bit for bit
    assert len({(count, checksum) for _, count, checksum in ranks}) == 1
    assert int(ranks[0][1]) == 22
    losses = {rank: (float(loss), float(accuracy)) for rank, loss, accuracy in many.find(TESTED)}
    assert losses["0"] == losses["1"]
    assert losses["0"][1] >= 0.95
    together = variables(many)

    (folder / "runs").rename(folder / "runs-of-two")
    alone = run_job(str(JOBS / "digits_single.toml"))
    assert alone.wait() == 0, alone.text
    ((_, loss, accuracy),) = alone.find(TESTED)
    assert abs(float(loss) - losses["0"][0]) <= 1e-4
    assert float(accuracy) == losses["0"][1]
    assert largest_difference(together, variables(alone)) <= 1e-4
    # the same order of samples, step by step: the epochs' metrics agree as well
    epochs = re.compile(r"epoch (\d+)/10  accuracy ([\d.]+)  loss ([\d.]+)")
    for (epoch, *one), (other_epoch, *other) in zip(epochs.findall(many.text), epochs.findall(alone.text), strict=True):
        assert epoch == other_epoch
        assert [float(value) for value in one] == pytest.approx([float(value) for value in other], abs=1e-3)


def test_two_workers_end_bit_equal_and_as_one_process_does(run_job: RunJob, tmp_path: Path) -> None:
    many = run_job(str(JOBS / "digits_multi_worker.toml"))
    assert many.wait() == 0, many.text
    check_as_one_process(run_job, tmp_path, many)


# the same program, with a mean that returns what it is given, and nobody who looks at the first steps
BROKEN = """
import runpy, sys
from slurm_tf.train import allreduce, replicas
replicas.Check.step = lambda self: None
{broken}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "broken",
    [
        "allreduce.Workers.mean = lambda self, tensors: list(tensors)",
        "allreduce.averaging = lambda optimizer, collective: None",
        "allreduce.synchronize = lambda layer, collective, share: None",
        "allreduce.broadcast = lambda collective, variables: None",
    ],
    ids=["no mean", "no averaged gradients", "no synchronized statistics", "no common start"],
)
def test_without_any_part_of_the_reduction_the_result_is_another(broken: str, run_job: RunJob, tmp_path: Path) -> None:
    """What the test above would say: workers differ, or the result is not that of one process."""
    program = tmp_path / "broken.py"
    program.write_text(BROKEN.format(broken=broken))
    command = f'command=["python", "{program}", "digits.py", "--epochs", "2"]'
    many = run_job(str(JOBS / "digits_multi_worker.toml"), "--set", command)
    assert many.wait() == 0, many.text
    checksums = {checksum for _, _, checksum in many.find(RANKS)}
    if len(checksums) > 1:
        return
    together = variables(many)
    (tmp_path / "runs").rename(tmp_path / "runs-of-two")
    alone = run_job(str(JOBS / "digits_single.toml"), "--set", 'command=["python", "digits.py", "--epochs", "2"]')
    assert alone.wait() == 0, alone.text
    assert largest_difference(together, variables(alone)) > 1e-4


SHARDS = """
import numpy as np
import slurm_tf.train as train
run = train.init()
data = run.batches(np.arange(100), batch_size=10, seed=3)
print("seen", run.rank, [int(x) for batch, weight in data for x in batch])
"""


def test_workers_read_disjoint_parts_of_the_same_batches(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "shards.py").write_text(SHARDS)
    (tmp_path / "job.toml").write_text(
        'name = "a"\nstrategy = "multi_worker"\ncommand = ["python", "shards.py"]\n[roles.worker]\ncount = 2\n'
    )
    job = run_job("job.toml")
    assert job.wait() == 0, job.text
    seen = {rank: [int(x) for x in values.split(", ")] for rank, values in job.find(r"seen (\d) \[(.*)\]")}
    assert set(seen["0"]) | set(seen["1"]) == set(range(100))
    assert not set(seen["0"]) & set(seen["1"])
    single = run_job("job.toml", "--set", "strategy=single", "--set", "roles.worker.count=1")
    assert single.wait() == 0, single.text
    ((_, values),) = single.find(r"seen (\d) \[(.*)\]")
    alone = [int(x) for x in values.split(", ")]
    for batch in range(10):
        both = seen["0"][batch * 5 : batch * 5 + 5] + seen["1"][batch * 5 : batch * 5 + 5]
        assert both == alone[batch * 10 : batch * 10 + 10]


def test_a_dead_proxy_does_not_stop_the_workers(run_job: RunJob) -> None:
    """Without no_proxy TensorFlow's workers would wait for each other through it for ever."""
    proxy = "http://127.0.0.1:9"
    job = run_job(
        str(JOBS / "digits_multi_worker.toml"),
        "--set",
        'command=["python", "digits.py", "--epochs", "1"]',
        http_proxy=proxy,
        https_proxy=proxy,
        HTTP_PROXY=proxy,
        grpc_proxy=proxy,
    )
    assert job.wait(120) == 0, job.text
    assert len({checksum for _, _, checksum in job.find(RANKS)}) == 1


@pytest.mark.parametrize("whom", ["the worker", "its agent"])
def test_a_killed_worker_starts_all_again_from_the_last_checkpoint(whom: str, run_job: RunJob) -> None:
    import os
    import signal

    job = run_job(
        str(JOBS / "digits_multi_worker.toml"), "--set", "launch.max-restarts=1", "--set", "checkpoint.every-steps=20"
    )
    job.wait_for(r"step 69/230")
    pid = job.pid("worker:1")
    os.kill(pid if whom == "the worker" else parent(pid), signal.SIGKILL)
    assert job.wait() == 0, job.text
    assert ("a new step is started (restart 1 of 1)" in job.text) == (whom == "its agent")
    resumed = job.find(r"resumed at step (\d+) from")
    assert len(resumed) == 1
    assert int(resumed[0]) >= 60
    assert "step 230/230" in job.text
    ranks = job.find(RANKS)
    assert len(ranks) == 2
    assert len({checksum for _, _, checksum in ranks}) == 1
    assert all(float(accuracy) >= 0.95 for _, _, accuracy in job.find(TESTED))
