"""Checks that several tasks trained one model, on every sample once an epoch, as one process does.

tests/programs/recorded.py records what it trains on; the checks here count and compare, and raise AssertionError.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slurm_tf.run import checkpoint_folder
from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT

PROGRAM = ROOT / "tests" / "programs" / "recorded.py"
SAMPLES, BATCH_SIZE, EPOCHS = 482, 48, 4  # the program's defaults: two samples are left for the last batch
ONCE = dict.fromkeys(range(SAMPLES), 1)
JOB = """
name = "oracle"
strategy = "{strategy}"
command = {command}
time = "00:10:00"
[roles.worker]
count = {tasks}
cpus-per-task = 1
mem-per-cpu = "2G"
[checkpoint]
every-steps = 5
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
# Open MPI polls while it waits, on processors that other ranks need
OMPI_MCA_mpi_yield_when_idle = "1"
"""
# Runs a program after a change to slurm_tf. The replica check is off, as it would end a program whose ranks differ.
CHANGED = """
import runpy, sys
from slurm_tf.train.collectives import allreduce, replica_check
from slurm_tf.train.keras import keras_3
replica_check.ReplicaCheck.after_step = lambda self: None
{change}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NO_REDUCTION = {
    "horovod": "from slurm_tf.train.collectives.horovod_ranks import HorovodCollective\n"
    "HorovodCollective.mean = lambda self, tensors: list(tensors)",
    "multi_worker": "allreduce.MultiWorkerCollective.mean = lambda self, tensors: list(tensors)",
}
# has every rank train on the samples of rank 0
NO_SHARDS = """
from slurm_tf.train.data import batches
make = batches.Batches.__init__
def first_shard(self, source, batch_size, rank, size, *more):
    make(self, source, batch_size, 0, size, *more)
batches.Batches.__init__ = first_shard
"""


def digits(folder: Path, samples: int = SAMPLES) -> str:
    """Write the program's samples as a prepared data set; return its folder."""
    from sklearn.datasets import load_digits

    from slurm_tf.dataset.schema import Feature, Kind, Schema
    from tests.prepare.data_sets import write_data_set

    schema = Schema(
        (Feature("image", Kind.FLOAT, (8, 8, 1)), Feature("label", Kind.INT64), Feature("number", Kind.INT64))
    )
    images, labels = load_digits(return_X_y=True)
    rows = [
        {"image": (images[number] / 16).tolist(), "label": int(labels[number]), "number": number}
        for number in range(samples)
    ]
    return str(write_data_set(folder, schema, {"train": rows}, count=1))


class Sample(NamedTuple):
    """One sample in one step. The weight of padding is 0."""

    number: int
    weight: float
    loss: float


@dataclass(frozen=True)
class RankProcess:
    """One process of one rank, until it ended or was killed. `first`: its first step; `steps`: the samples of each."""

    rank: int
    size: int
    first: int
    untrained: str
    steps: list[list[Sample]]


@dataclass(frozen=True)
class Training:
    """What all ranks did. `steps`: the samples of each rank, in each step that was not undone by a restart."""

    processes: list[RankProcess]
    steps: list[dict[int, list[Sample]]]
    variables: dict[int, dict[str, Any]]
    losses: dict[int, dict[str, float]]  # of each epoch, as model.fit or run.loop returned it in each rank
    accuracy: dict[int, float]


def read(run: Path) -> Training:
    """Return what the program recorded in a run's folder, in processes that were killed too."""
    starts = _starts(run)
    processes = [_process(path) for path in starts]
    ended = {
        process.rank: path for process, path in zip(processes, starts, strict=True) if path.with_suffix(".end").exists()
    }
    ends = {rank: json.loads(path.with_suffix(".end").read_text()) for rank, path in ended.items()}
    return Training(
        processes,
        _steps(processes),
        {rank: dict(np.load(path.with_suffix(".npz"))) for rank, path in ended.items()},
        {rank: end["losses"] for rank, end in ends.items()},
        {rank: end["accuracy"] for rank, end in ends.items()},
    )


def processes(run: Path) -> list[RankProcess]:
    """Return all processes of a run, where their ranks are not the same ones after a restart."""
    return [_process(path) for path in _starts(run)]


def _starts(run: Path) -> list[Path]:
    return sorted((run / "oracle").glob("*.begin"))


def _process(path: Path) -> RankProcess:
    start = json.loads(path.read_text())
    lines = [line.split(" ") for line in path.with_suffix(".steps").read_text().splitlines()]
    each = [list(_samples(lines, replica)) for replica in sorted({replica for _, replica, *_ in lines})]
    # replicas wait for each other in each step; a killed one may have recorded less of the last
    steps = [[sample for part in parts for sample in part] for parts in zip(*each, strict=False)]
    return RankProcess(start["rank"], start["size"], start["first"], start["variables"], steps)


def _samples(lines: list[list[str]], one: str) -> Iterator[list[Sample]]:
    """Yield the samples of each step of one replica."""
    samples, losses = (
        [values for what, replica, *values in lines if (what, replica) == (kind, one)] for kind in ("samples", "losses")
    )
    for numbers, of_step in zip(samples, losses, strict=False):
        # model.fit has no loss for the padding, unless a part is padding alone
        padded = of_step + ["nan"] * (len(numbers) - len(of_step))
        every = ((*text.split("*"), loss) for text, loss in zip(numbers, padded, strict=True))
        yield [Sample(int(float(number)), float(weight), float(loss)) for number, weight, loss in every]


def _steps(processes: list[RankProcess]) -> list[dict[int, list[Sample]]]:
    """Join the processes of each rank, without the steps after the checkpoint that the next process restored."""
    joined: dict[int, list[list[Sample]]] = {}
    for process in processes:
        before = joined.get(process.rank, [])[: process.first]
        assert len(before) == process.first, f"rank {process.rank} continues at {process.first} after {len(before)}"
        joined[process.rank] = before + process.steps
    lengths = {rank: len(steps) for rank, steps in joined.items()}
    assert len(set(lengths.values())) == 1, f"steps of each rank: {lengths}"
    return [dict(zip(joined, parts, strict=True)) for parts in zip(*joined.values(), strict=True)]


@functools.cache
def alone(*options: str) -> Training:
    """Return the training of one process on this machine, with the program's `options`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.toml").write_text(job("single", 1, *options))
        subprocess.run(
            [sys.executable, "-m", "slurm_tf", "run", "job.toml"],
            cwd=folder, check=True, timeout=240, env={**os.environ, **forkserver.environ(), "PYTHONPATH": PYTHONPATH},
        )  # fmt: skip
        return read(Path(folder, "runs", "oracle-1"))


def job(strategy: str, tasks: int, *options: str, changed: str = "", program: str = str(PROGRAM)) -> str:
    """Return a job file for the program. `changed`: the path of a program made from CHANGED."""
    command = json.dumps(["python", *([changed] if changed else []), program, *options])
    return JOB.format(strategy=strategy, command=command, tasks=tasks)


def check(training: Training, single: Training, size: int) -> None:
    """Check that `size` tasks had the same training as one process."""
    check_starts(training, size)
    check_equal(training, size)
    check_samples(training)
    check_curve(training, single)


def check_starts(training: Training, size: int) -> None:
    """Check that the ranks started with different variables, which only the training made equal."""
    assert {process.size for process in training.processes} == {size}
    starts = {process.rank: process.untrained for process in training.processes}
    assert sorted(starts) == list(range(size))
    assert len(set(starts.values())) == size, f"ranks that started with equal variables: {starts}"


def check_equal(training: Training, size: int) -> None:
    """Check that all ranks ended with the same bits and the same losses."""
    assert sorted(training.variables) == list(range(size)), f"only ranks {sorted(training.variables)} ended"
    for rank, variables in sorted(training.variables.items()):
        assert list(variables) == list(training.variables[0])
        differing = [name for name in variables if variables[name].tobytes() != training.variables[0][name].tobytes()]
        assert not differing, f"rank {rank} has not rank 0's bits in {differing}"
    assert len({str(losses) for losses in training.losses.values()}) == 1
    assert len(set(training.accuracy.values())) == 1


def check_samples(training: Training, samples: int = SAMPLES, epochs: int = EPOCHS) -> None:
    """Check that every sample was trained on once an epoch, in equal parts, and that padding had the weight 0."""
    length = -(-samples // BATCH_SIZE)
    assert len(training.steps) == epochs * length, f"{len(training.steps)} steps"
    for epoch in range(epochs):
        steps = training.steps[epoch * length : (epoch + 1) * length]
        seen = counts(steps)
        wrong = {number: seen[number] for number in {*range(samples), *seen} if seen[number] != (number < samples)}
        assert not wrong, f"epoch {epoch}: how often samples were seen that should be once: {wrong}"
    for number, step in enumerate(training.steps):
        assert {len(part) for part in step.values()} == {BATCH_SIZE // len(step)}
        padding = BATCH_SIZE * length - samples if (number + 1) % length == 0 else 0
        assert len(real_samples(step)) == BATCH_SIZE - padding
        weights = sum(sample.weight for part in step.values() for sample in part)
        assert abs(weights - BATCH_SIZE) <= 1e-3, f"step {number}: weights of {weights}"


def check_curve(training: Training, single: Training, tolerance: float = 1e-4) -> None:
    """Check samples and loss of each step, the metric of each epoch and the final variables against one process."""
    assert len(training.steps) == len(single.steps)
    for number, (step, other) in enumerate(zip(training.steps, single.steps, strict=True)):
        numbers, expected_numbers = ({sample.number for sample in real_samples(each)} for each in (step, other))
        assert numbers == expected_numbers, f"step {number}"
        assert abs(loss(step) - loss(other)) <= tolerance, f"step {number}: loss {loss(step)}, not {loss(other)}"
    length = len(single.steps) // len(single.losses[0])
    first = max(process.first for process in training.processes)
    # after a resume within an epoch, the epochs of Keras are not those of the data
    for epoch in [epoch for epoch in training.losses[0] if first % length == 0 and int(epoch) * length >= first]:
        found, expected = training.losses[0][epoch], single.losses[0][epoch]
        assert abs(found - expected) <= tolerance, f"epoch {epoch}: loss {found}, not {expected}"
    assert largest_difference(training.variables[0], single.variables[0]) <= tolerance


def real_samples(step: dict[int, list[Sample]]) -> list[Sample]:
    """Return the samples of a step without padding."""
    return [sample for part in step.values() for sample in part if sample.weight]


def counts(steps: Iterable[dict[int, list[Sample]]]) -> Counter[int]:
    """Return how often each sample was trained on."""
    return Counter(sample.number for step in steps for sample in real_samples(step))


def loss(step: dict[int, list[Sample]]) -> float:
    """Return the mean loss of the samples of a step."""
    losses = [sample.loss for sample in real_samples(step)]
    return sum(losses) / len(losses)


def checkpointed(run: Path) -> dict[str, Any]:
    """Return every value of a run's newest checkpoint, by its name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(next(checkpoint_folder.complete(str(run / "checkpoints"))).prefix)
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference between any two values of the same name."""
    assert set(one) == set(other)
    return max(float(np.max(np.abs(one[name].astype("float64") - other[name]))) for name in one)
