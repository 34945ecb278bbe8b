"""Every sample is seen once an epoch, for all sizes; the padding of the last batch has the weight 0."""

import collections
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

pytestmark = pytest.mark.tensorflow
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = some.tuples(
    some.integers(1, 60), some.integers(1, 6), some.integers(1, 4), some.integers(1, 3), some.integers(1, 3)
)


def of_each_task(samples: int, times: int, size: int, replicas: int, arrays: Any = None) -> list[Any]:
    import numpy as np

    from slurm_tf.train.data.arrays import Arrays
    from slurm_tf.train.data.batches import Batches

    batch_size = times * size * replicas
    arrays = np.arange(samples) if arrays is None else arrays
    return [Batches(Arrays(arrays, 7), batch_size, rank, size, replicas) for rank in range(size)]


def parts(task: Any, step: int) -> list[Any]:
    return [task.part(each) for each in range(step, step + task.steps_per_epoch)]


@settings(max_examples=200)
@given(SIZES)
def test_every_sample_is_seen_once_an_epoch(numbers: tuple[int, int, int, int, int]) -> None:
    import numpy as np

    from slurm_tf.train.data.sample_orders import WholeOrder

    samples, times, size, replicas, epochs = numbers
    tasks = of_each_task(samples, times, size, replicas)
    batch_size, steps = tasks[0].batch_size, tasks[0].steps_per_epoch
    assert steps == -(-samples // batch_size)
    order = WholeOrder(samples, 7)
    for epoch in range(epochs):
        epochs_parts = [parts(task, epoch * steps) for task in tasks]
        assert {len(each) for each in epochs_parts} == {steps}
        seen: collections.Counter[int] = collections.Counter()
        for batch in range(steps):
            index = np.concatenate([each[batch][0] for each in epochs_parts])
            weight = np.concatenate([each[batch][1] for each in epochs_parts])
            assert index.shape == weight.shape == (batch_size,)
            assert weight.mean() == pytest.approx(1.0)
            real = index[weight > 0]
            seen.update(real.tolist())
            # for any number of tasks, a global batch has the same samples with the same weights
            expected = order.part(epoch, batch * batch_size, (batch + 1) * batch_size)
            assert set(real) == set(expected)
            assert np.allclose(weight[weight > 0], batch_size / len(expected))
            # the samples are spread evenly over the pieces, and the padding is at the end of each
            counts = (weight.reshape(size * replicas, -1) > 0).sum(axis=1)
            assert counts.max() - counts.min() <= 1
            assert (np.diff(weight.reshape(size * replicas, -1), axis=1) <= 0).all()
        assert seen == dict.fromkeys(range(samples), 1)


@settings(max_examples=100)
@given(SIZES, some.data())
def test_a_resumed_run_continues_in_the_middle_of_an_epoch(numbers: Any, data: some.DataObject) -> None:
    samples, times, size, replicas, epochs = numbers
    for task in of_each_task(samples, times, size, replicas):
        steps = task.steps_per_epoch
        step = data.draw(some.integers(0, epochs * steps))
        whole = parts(task, step - step % steps)[step % steps :]
        resumed = parts(task, step)
        assert len(resumed) == steps
        assert [index.tolist() for index, _ in resumed[: len(whole)]] == [index.tolist() for index, _ in whole]
        last = data.draw(some.integers(step, step - step % steps + steps))
        seen = resumed[: last - step]
        assert task.real_samples(step, last) == sum((weight > 0).sum() for _, weight in seen)


@pytest.mark.parametrize("kind", ["array", "pair", "weights", "inputs"])
def test_weights_come_last_in_every_batch(kind: str) -> None:
    import numpy as np

    x = np.arange(10, dtype="float32")
    arrays, shape = {
        "array": (x, "(x, weight)"),
        "pair": ((x, x), "(x, y, weight)"),
        "weights": ((x, x, np.stack([x, x], 1)), "(x, y, weight)"),
        "inputs": (({"a": x, "b": x}, x), "({}, y, weight)"),
    }[kind]
    (task,) = of_each_task(10, 4, 1, 1, arrays)
    batches = list(task.dataset)
    assert len(batches) == task.dataset.cardinality().numpy() == 3
    assert {len(batch) for batch in batches} == {shape.count(",") + 1}
    for batch, step in zip(batches, range(3), strict=True):
        expected = parts(task, step)[0][1]
        if kind == "weights":
            index = parts(task, step)[0][0]
            assert np.allclose(batch[-1], (expected * index)[:, None] * np.ones(2))
            # a weight of 0 of the program does not mark padding
            assert ((batch[-1].numpy() != 0).all(axis=1) == (expected > 0)).all()
        else:
            assert batch[-1].numpy().tolist() == expected.tolist()
    if kind == "inputs":
        assert batches[0][0]["a"].numpy().tolist() == batches[0][1].numpy().tolist()


@pytest.mark.parametrize(
    ("samples", "batch_size", "message"),
    [(0, 4, "no samples"), (10, 3, "a multiple of 2"), (10, 0, "a multiple of 2")],
)
def test_a_batch_size_that_cannot_be_divided_is_refused(samples: int, batch_size: int, message: str) -> None:
    import numpy as np

    from slurm_tf.errors import UsageError
    from slurm_tf.train.data.arrays import Arrays
    from slurm_tf.train.data.batches import Batches

    with pytest.raises(UsageError, match=message):
        Batches(Arrays(np.zeros(samples), 0), batch_size, 0, 2)
