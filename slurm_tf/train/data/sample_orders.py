"""In which order an epoch goes through the samples. It depends on the seed, the epoch and the data set alone.

So all tasks agree without communication, on any number of tasks, and a resumed run goes on in the same order.
"""

import functools
from typing import List, Tuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
# How many blocks are mixed with each other.
_BLOCKS_IN_WINDOW = 64


class WholeOrder:
    """A new permutation of all samples each epoch. Memory: 8 bytes a sample."""

    def __init__(self, samples: int, seed: int) -> None:
        self._samples, self._seed = samples, seed
        self._of = functools.lru_cache(maxsize=1)(self._permutation)

    def part(self, epoch: int, first: int, end: int) -> Indices:
        """Return the samples at the places from `first` to before `end` of the epoch."""
        return self._of(epoch)[first:end]

    def _permutation(self, epoch: int) -> Indices:
        return np.random.Generator(np.random.PCG64([self._seed, epoch])).permutation(self._samples)


class BlockOrder:
    """The blocks of the data set in a new order each epoch; the samples of each 64 blocks, a window, are mixed.

    A block is `block` samples that are stored one after another, so storage is read in large pieces. Memory: 8 bytes a
    sample of a window, and 24 bytes a block.
    """

    def __init__(self, samples: int, seed: int, block: int, blocks_in_window: int = _BLOCKS_IN_WINDOW) -> None:
        self._samples, self._seed, self._block, self._window_blocks = samples, seed, block, blocks_in_window
        self._blocks = -(-samples // block)
        self.windows = -(-self._blocks // blocks_in_window)
        # a batch may lie in two windows, and the first batch of an epoch follows on the last one of another
        self._of = functools.lru_cache(maxsize=2)(self._block_order)
        self._window = functools.lru_cache(maxsize=2)(self._mixed_window)

    def part(self, epoch: int, first: int, end: int) -> Indices:
        """Return the samples at the places from `first` to before `end` of the epoch, a global batch, sorted by block.

        Each task's part of the batch is then in few blocks, and each task reads other ones.
        """
        blocks, starts = self._of(epoch)
        parts = []
        for window in range(self.window(epoch, first), self.window(epoch, end - 1) + 1):
            start = int(starts[window * self._window_blocks])
            parts.append(self._window(epoch, window)[max(first - start, 0) : end - start])
        samples = np.concatenate(parts)
        places = np.empty_like(blocks)
        places[blocks] = np.arange(len(blocks))
        return samples[np.argsort(places[samples // self._block], kind="stable")]

    def window(self, epoch: int, place: int) -> int:
        """Return the number of the window in which a place of the epoch is."""
        _, starts = self._of(epoch)
        return (int(np.searchsorted(starts, place, side="right")) - 1) // self._window_blocks

    def ranges(self, epoch: int, window: int, rank: int, size: int) -> List[Tuple[int, int]]:
        """Return the first sample, and the one after the last, of each block of a window that task `rank` reads.

        Where batches are small a task may read a few samples of other blocks.
        """
        blocks, _ = self._of(epoch)
        own = blocks[window * self._window_blocks : (window + 1) * self._window_blocks]
        own = own[max(len(own) * rank // size - 1, 0) : -(-len(own) * (rank + 1) // size) + 1]
        return [(first, min(first + self._block, self._samples)) for first in (own * self._block).tolist()]

    def _block_order(self, epoch: int) -> Tuple[Indices, Indices]:
        """Return the blocks in the order of the epoch, and the place of the first sample of each."""
        blocks = np.random.Generator(np.random.PCG64([self._seed, epoch])).permutation(self._blocks)
        sizes = np.minimum(blocks * self._block + self._block, self._samples) - blocks * self._block
        return blocks, np.cumsum(sizes) - sizes

    def _mixed_window(self, epoch: int, window: int) -> Indices:
        ranges = self.ranges(epoch, window, 0, 1)
        samples = np.concatenate([np.arange(first, end) for first, end in ranges])
        return np.random.Generator(np.random.PCG64([self._seed, epoch, window])).permutation(samples)
