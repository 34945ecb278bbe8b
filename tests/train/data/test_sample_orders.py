"""An epoch has every sample once, in whichever order, and the same at any time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from slurm_tf.train.data.sample_orders import BlockOrder, WholeOrder


@settings(max_examples=200)
@given(some.integers(1, 400), some.integers(1, 40), some.integers(1, 5), some.integers(1, 60), some.integers(0, 3))
def test_blocks_have_every_sample_once(samples: int, block: int, window: int, batch: int, epoch: int) -> None:
    order = BlockOrder(samples, 5, block, window)
    batches = [order.part(epoch, first, min(first + batch, samples)) for first in range(0, samples, batch)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(samples))
    again = BlockOrder(samples, 5, block, window)
    for number in reversed(range(len(batches))):
        first = number * batch
        assert again.part(epoch, first, min(first + batch, samples)).tolist() == batches[number].tolist()


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    for make in (lambda seed: WholeOrder(1000, seed), lambda seed: BlockOrder(1000, seed, 10, 4)):
        found = {tuple(make(seed).part(epoch, 0, 1000).tolist()) for seed in (0, 1) for epoch in (0, 1)}
        assert len(found) == 4


def test_a_batch_is_of_the_blocks_of_its_window() -> None:
    order = BlockOrder(10_000, 0, 100, 8)
    for first in range(0, 10_000, 400):
        batch = order.part(2, first, first + 400)
        windows = {order.window(2, first), order.window(2, first + 399)}
        ranges = [each for window in windows for each in order.ranges(2, window, 0, 1)]
        assert all(any(start <= sample < end for start, end in ranges) for sample in batch)
        # not as they are stored
        assert (np.diff(batch) != 1).mean() > 0.8


@pytest.mark.parametrize("size", [2, 4])
def test_tasks_read_different_blocks(size: int) -> None:
    samples, batch = 64 * 100, 640
    order = BlockOrder(samples, 0, 100)
    for rank in range(size):
        own = order.ranges(0, 0, rank, size)
        assert len(own) <= 64 // size + 2
        read = np.concatenate(
            [order.part(0, first, first + batch).reshape(size, -1)[rank] for first in range(0, samples, batch)]
        )
        inside = sum(((read >= start) & (read < end)).sum() for start, end in own)
        assert inside > 0.95 * len(read)
