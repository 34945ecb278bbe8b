"""Training data given by index: every task takes its own part of the same global batches.

The order of an epoch depends on the seed and the epoch alone, and the place in it on the step: so all tasks agree
without speaking, one process sees the same global batches as many do, and a resumed run goes on where it was.
"""

from typing import Any, Iterator

import numpy as np
import tensorflow as tf

from slurm_tf.errors import UsageError


class Batches:
    """One data set. `dataset` is this task's part, an epoch an iteration, from the batch that `step` is at.

    Batches are whole: what is left at the end of an epoch is left out of it, and each epoch leaves out others.
    """

    def __init__(self, arrays: Any, batch_size: int, seed: int, rank: int, size: int) -> None:
        """`arrays`: an array or a structure of arrays of one length; `batch_size`: samples in a global batch."""
        lengths = {len(array) for array in tf.nest.flatten(arrays)}
        if len(lengths) != 1:
            raise UsageError(f"found arrays of {sorted(lengths)} samples", "arrays of one length")
        self.samples, self.batch_size, self.seed = lengths.pop(), batch_size, seed
        self.steps_per_epoch = self.samples // batch_size
        if batch_size % size:
            raise UsageError(f"found batch_size={batch_size} for {size} tasks", f"a multiple of {size}")
        if not self.steps_per_epoch:
            raise UsageError(
                f"found batch_size={batch_size} for {self.samples} samples", "at most the samples there are"
            )
        self.step = 0
        self._part = batch_size // size
        self._first = rank * self._part
        tensors = tf.nest.map_structure(tf.convert_to_tensor, arrays)
        options = tf.data.Options()
        # under MirroredStrategy the batches are cut, not the source
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        self.dataset = (
            tf.data.Dataset.from_generator(self._indices, output_signature=tf.TensorSpec([self._part], tf.int64))
            .map(lambda index: tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), tensors))
            .apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )

    def order(self, epoch: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Return the samples' indices in the order of `epoch`."""
        return np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(self.samples)

    def _indices(self) -> Iterator["np.ndarray[Any, np.dtype[np.int64]]"]:
        order, known = self.order(0), 0
        for step in range(self.step, self.step + self.steps_per_epoch):
            epoch, batch = divmod(step, self.steps_per_epoch)
            if epoch != known:
                order, known = self.order(epoch), epoch
            start = batch * self.batch_size + self._first
            yield order[start : start + self._part]
