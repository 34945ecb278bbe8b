"""Training data given by index: every task takes its own part of the same global batches.

The order of an epoch depends on the seed and the epoch alone, and the place in it on the step: so all tasks agree
without speaking, one process sees the same samples in each global batch as many do, and a resumed run goes on where
it was.
"""

import functools
from typing import Any, Iterator, List, Tuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slurm_tf.errors import UsageError

_Indices = npt.NDArray[np.int64]
_Weights = npt.NDArray[np.float32]


class Batches:
    """One data set. `dataset` is this task's part, an epoch an iteration, from the batch that `step` is at.

    Every batch has a weight for each sample as its last element, or multiplied into a third one, which Keras takes for
    weights. All are 1, but in the last batch of an epoch: what is missing there is filled up with samples of weight 0,
    the last ones of each part, and the others weigh so much more that the weights of the global batch have the mean 1.
    So the mean of weight times loss, over equal parts, is the mean loss of the samples that are really there.
    """

    def __init__(self, arrays: Any, batch_size: int, seed: int, rank: int, size: int, replicas: int = 1) -> None:
        """`arrays`: an array or a structure of arrays of one length; `batch_size`: samples in a global batch.

        `replicas`: into how many pieces MirroredStrategy cuts the part of this task, which is number `rank` of `size`.
        """
        lengths = {len(array) for array in tf.nest.flatten(arrays)}
        if len(lengths) != 1:
            raise UsageError(f"found arrays of {sorted(lengths)} samples", "arrays of one length")
        self.samples, self.batch_size, self.seed = lengths.pop(), batch_size, seed
        self.pieces = size * replicas
        if batch_size < 1 or batch_size % self.pieces:
            what = "tasks" if replicas == 1 else "replicas"
            raise UsageError(f"found batch_size={batch_size} for {self.pieces} {what}", f"a multiple of {self.pieces}")
        if not self.samples:
            raise UsageError("found no samples", "at least one")
        self.steps_per_epoch = -(-self.samples // batch_size)
        self.remainder = self.samples % batch_size
        self.weighted = isinstance(arrays, (tuple, list)) and len(arrays) == 3
        self.step = 0
        self._rank, self._replicas = rank, replicas
        self._part = batch_size // size
        self._arrays = _nonzero(arrays) if self.weighted else arrays

    def order(self, epoch: int) -> _Indices:
        """Return the samples' indices in the order of `epoch`."""
        return np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(self.samples)

    def real(self, first: int, last: int) -> int:
        """Return how many samples this task sees from step `first` to before step `last`, padding not counted."""
        short = last // self.steps_per_epoch - first // self.steps_per_epoch if self.remainder else 0
        left = sum(len(piece) for piece in self._split(np.arange(self.remainder)))
        return (last - first - short) * self._part + short * left

    @functools.cached_property
    def dataset(self) -> tf.data.Dataset:
        """The part of this task, with the weights of its samples."""
        tensors = tf.nest.map_structure(tf.convert_to_tensor, self._arrays)

        def batch(index: tf.Tensor, weight: tf.Tensor) -> Any:
            return _with_weights(tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), tensors), weight)

        options = tf.data.Options()
        # under MirroredStrategy the batches are cut, not the source
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        signature = (tf.TensorSpec([self._part], tf.int64), tf.TensorSpec([self._part], tf.float32))
        return (
            tf.data.Dataset.from_generator(self._parts, output_signature=signature)
            .map(batch)
            .apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )

    def _parts(self) -> Iterator[Tuple[_Indices, _Weights]]:
        """Yield the indices and weights of this task's part of as many batches as an epoch has, from `step` on."""
        ones = np.ones(self._part, np.float32)
        known, order = -1, np.empty(0, np.int64)
        for step in range(self.step, self.step + self.steps_per_epoch):
            epoch, batch = divmod(step, self.steps_per_epoch)
            if epoch != known:
                known, order = epoch, self.order(epoch)
            start = batch * self.batch_size
            if start + self.batch_size <= self.samples:
                first = start + self._rank * self._part
                yield order[first : first + self._part], ones
            else:
                yield self._padded(order, order[start:])

    def _padded(self, order: _Indices, left: _Indices) -> Tuple[_Indices, _Weights]:
        """Return this task's part of the last batch, in which every piece gets as many of the samples `left`."""
        # samples that exist, so that whatever a model does with them is finite
        filling = np.resize(order, self._part)
        length = self._part // self._replicas
        indices, weights = [], []
        for piece in self._split(left):
            indices.append(np.concatenate([piece, filling])[:length])
            weights.append(np.where(np.arange(length) < len(piece), self.batch_size / len(left), 0.0))
        return np.concatenate(indices), np.concatenate(weights).astype(np.float32)

    def _split(self, left: _Indices) -> List[_Indices]:
        own = range(self._rank * self._replicas, (self._rank + 1) * self._replicas)
        return [left[len(left) * piece // self.pieces : len(left) * (piece + 1) // self.pieces] for piece in own]


def endless(arrays: Any, batch_size: int, seed: int) -> tf.data.Dataset:
    """Return batches of the same structure, all full, that go through all samples again and again."""
    samples = tf.data.Dataset.from_tensor_slices(arrays).shuffle(len(tf.nest.flatten(arrays)[0]), seed=seed)
    return samples.repeat().batch(batch_size).map(lambda *values: _with_weights(values, tf.ones([batch_size])))


def _with_weights(values: Any, weight: tf.Tensor) -> Any:
    """Return a batch with its weights as the last element, or in the third one."""
    if not isinstance(values, (tuple, list)):
        return values, weight
    if len(values) != 3:
        return (*values, weight)
    own = values[2]
    return (*values[:2], own * tf.cast(tf.reshape(weight, [-1] + [1] * (own.shape.rank - 1)), own.dtype))


def _nonzero(arrays: Any) -> Any:
    """Make weights of 0, which only padding may have, as small as can be. Raises UsageError."""
    if tf.nest.is_nested(arrays[2]):
        raise UsageError("found a structure of weights", "one array of weights as the third of (x, y, weights)")
    weights = np.asarray(arrays[2])
    weights = weights if weights.dtype.kind == "f" else weights.astype(np.float32)
    return (*arrays[:2], np.where(weights == 0, np.finfo(weights.dtype).tiny, weights))
