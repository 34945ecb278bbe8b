"""A loop of a program's own under every strategy: the samples that it sees, and its result."""

from pathlib import Path

import pytest

from tests import oracle
from tests.horovod import require
from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import TWO_DEVICES

pytestmark = pytest.mark.tensorflow

# without padding, which ps does not have
EVEN = ("--loop", "own", "--samples", "480", "--epochs", "6")
TASKS = {"mirrored": 1, "multi_worker": 2, "horovod": 2}
PS = '[roles.chief]\ncpus-per-task = 1\nmem-per-cpu = "2G"\n[roles.ps]\ncpus-per-task = 1\nmem-per-cpu = "2G"\n'


def start(run_forked: RunJob, folder: Path, text: str) -> Path:
    """Run a job to its end; return its run's folder."""
    (folder / "job.toml").write_text(text)
    job = run_forked("job.toml")
    assert job.wait() == 0, job.text
    return folder / "runs" / "oracle-1"


@pytest.mark.parametrize(
    "strategy",
    [pytest.param("mirrored", marks=pytest.mark.long), "multi_worker", "horovod"],  # mirrored: test_remainder.py
)
def test_it_equals_one_process(strategy: str, run_forked: RunJob, tmp_path: Path) -> None:
    """Under mirrored, two logical CPU devices replace two GPUs."""
    if strategy == "horovod":
        require()
    changed = tmp_path / "changed.py"
    changed.write_text(oracle.CHANGED.format(change="import tensorflow as tf" + TWO_DEVICES))
    job = oracle.job(strategy, TASKS[strategy], *EVEN, changed=str(changed) if strategy == "mirrored" else "")
    training, single = oracle.read(start(run_forked, tmp_path, job)), oracle.alone(*EVEN)
    oracle.check_starts(training, TASKS[strategy])
    oracle.check_equal(training, TASKS[strategy])
    oracle.check_samples(training, 480, 6)
    oracle.check_curve(training, single)
    assert training.accuracy[0] == single.accuracy[0] >= 0.75


def test_parameter_servers_train_on_as_many_samples(run_forked: RunJob, tmp_path: Path) -> None:
    """Workers do not wait for each other, so the samples of a step, and with them the result, vary; both learn."""
    training = oracle.read(start(run_forked, tmp_path, oracle.job("ps", 2, *EVEN) + PS))
    assert sum(len(oracle.real_samples(step)) for step in training.steps) == 6 * 480
    assert training.accuracy[0] >= oracle.alone(*EVEN).accuracy[0] - 0.2


@pytest.mark.long
def test_shards_that_are_not_disjoint_are_detected(run_forked: RunJob, tmp_path: Path) -> None:
    """Both tasks train one model, on the samples of the first task."""
    changed = tmp_path / "changed.py"
    changed.write_text(oracle.CHANGED.format(change=oracle.NO_SHARDS))
    job = oracle.job("multi_worker", 2, "--loop", "own", changed=str(changed))
    training = oracle.read(start(run_forked, tmp_path, job))
    oracle.check_starts(training, 2)
    oracle.check_equal(training, 2)
    with pytest.raises(AssertionError, match="how often samples were seen that should be once"):
        oracle.check_samples(training)
    with pytest.raises(AssertionError, match=r"^step 0"):
        oracle.check_curve(training, oracle.alone("--loop", "own"))
