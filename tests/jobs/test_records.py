"""Training on records of a prepared data set: which samples each step sees, and its result."""

import re
from pathlib import Path

import pytest

from tests import oracle
from tests.jobs.conftest import RunJob
from tests.jobs.test_oracle import PS
from tests.jobs.test_programs import TWO_DEVICES

pytestmark = pytest.mark.tensorflow


def job(folder: Path, strategy: str, tasks: int, *options: str, more: str = "", changed: str = "") -> str:
    """Write a job that trains on a data set; return its path."""
    data = folder / "data"
    if not data.exists():
        oracle.digits(data)
    text = oracle.job(strategy, tasks, "--records", str(data), *options, changed=changed)
    (folder / "job.toml").write_text(text + more)
    return str(folder / "job.toml")


@pytest.mark.parametrize("die", [(), pytest.param(("--die", "1", "17"), marks=pytest.mark.long)], ids=["", "killed"])
def test_model_fit_sees_what_it_would_see_of_arrays(die: tuple[str, ...], run_forked: RunJob, tmp_path: Path) -> None:
    options = ("--epochs", "2")
    running = run_forked(job(tmp_path, "multi_worker", 2, *options, *die, more="[launch]\nmax-restarts = 1\n"))
    assert running.wait() == 0, running.text
    training = oracle.read(tmp_path / "runs" / "oracle-1")
    assert (max(process.first for process in training.processes) in range(10, 18)) is bool(die)
    oracle.check_samples(training, epochs=2)
    # of the same samples as arrays, in the same order
    oracle.check_curve(training, oracle.alone(*options))


def test_under_ps_every_sample_comes_once_an_epoch(run_forked: RunJob, tmp_path: Path) -> None:
    running = run_forked(job(tmp_path, "ps", 2, "--loop", "own", "--epochs", "6", more=PS))
    assert running.wait() == 0, running.text
    training = oracle.read(tmp_path / "runs" / "oracle-1")
    assert oracle.counts(training.steps) == dict.fromkeys(range(oracle.SAMPLES), 6)


@pytest.mark.long
def test_a_training_under_ps_goes_on_at_the_same_sample(run_forked: RunJob, tmp_path: Path) -> None:
    """It ends within an epoch, as it is trained for fewer steps."""
    for epochs, resumed in (("3", []), ("7", ["33"])):
        arguments = (job(tmp_path, "ps", 2, "--loop", "own", "--epochs", epochs, more=PS), "--name", "oracle-1")
        running = run_forked(*arguments)
        assert running.wait() == 0, running.text
        assert re.findall(r"resumed at step (\d+) ", running.text) == resumed
        assert "starts anew" not in running.text
    training = oracle.read(tmp_path / "runs" / "oracle-1")
    assert oracle.counts(training.steps) == dict.fromkeys(range(oracle.SAMPLES), 7)


@pytest.mark.long
@pytest.mark.parametrize("shuffle", ["records", "blocks"])
@pytest.mark.parametrize("loop", ["fit", "own"])
def test_another_number_of_workers_goes_on_at_the_same_sample(
    loop: str, shuffle: str, run_forked: RunJob, tmp_path: Path
) -> None:
    options = ("--loop", loop, "--shuffle", shuffle)
    interrupted = run_forked(job(tmp_path, "multi_worker", 2, *options, "--die", "0", "27"), "--name", "oracle-1")
    assert interrupted.wait() != 0
    running = run_forked(job(tmp_path, "multi_worker", 3, *options), "--name", "oracle-1")
    assert running.wait() == 0, running.text
    processes = oracle.processes(tmp_path / "runs" / "oracle-1")
    two, three = ([each for each in processes if each.size == size] for size in (2, 3))
    (first,) = {each.first for each in three}
    assert 20 <= first <= 30
    steps = [dict(enumerate(parts)) for parts in zip(*(each.steps[:first] for each in two), strict=True)]
    steps += [dict(enumerate(parts)) for parts in zip(*(each.steps for each in three), strict=True)]
    length = -(-oracle.SAMPLES // oracle.BATCH_SIZE)
    epochs = [oracle.counts(steps[epoch * length : (epoch + 1) * length]) for epoch in range(oracle.EPOCHS)]
    assert epochs == [oracle.ONCE] * oracle.EPOCHS


@pytest.mark.long
def test_replicas_of_one_task_share_the_records(run_forked: RunJob, tmp_path: Path) -> None:
    changed = tmp_path / "changed.py"
    changed.write_text(oracle.CHANGED.format(change="import tensorflow as tf" + TWO_DEVICES))
    running = run_forked(job(tmp_path, "mirrored", 1, "--loop", "own", "--epochs", "2", changed=str(changed)))
    assert running.wait() == 0, running.text
    training = oracle.read(tmp_path / "runs" / "oracle-1")
    assert [oracle.counts(training.steps[epoch * 11 : epoch * 11 + 11]) for epoch in range(2)] == [
        oracle.ONCE,
        oracle.ONCE,
    ]
