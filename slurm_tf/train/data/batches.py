"""Cuts training data that is given by index into global batches, and each batch into one part per task.

The order of samples in an epoch depends on the seed and the epoch alone, and the position in it on the step. So all
tasks agree without communication, one process sees the same samples in each global batch as many do, and a resumed run
continues where it was.
"""

import functools
from typing import Any, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.autograph import without_autograph

_Indices = npt.NDArray[np.int64]
_Weights = npt.NDArray[np.float32]


class Batches:
    """The batches of one data set. `dataset` has the parts of this task for one epoch, from the batch of `step` on.

    Every batch has a weight for each sample as its last element, or multiplied into a third one, which Keras takes for
    weights. All weights are 1, except in the last batch of an epoch if samples are left over. That batch is padded with
    samples of weight 0 at the end of each part, and the other weights are larger, so that the weights of the global
    batch have the mean 1. The mean of weight times loss, over equal parts, is then the mean loss of the real samples.
    """

    def __init__(self, arrays: Any, batch_size: int, seed: int, rank: int, size: int, replicas: int = 1) -> None:
        """`arrays`: an array, or a structure of arrays of one length. `batch_size`: samples in a global batch.

        `replicas`: into how many pieces MirroredStrategy cuts the part of this task, which is number `rank` of `size`.
        """
        lengths = {len(array) for array in tf.nest.flatten(arrays)}
        if len(lengths) != 1:
            raise UsageError(f"found arrays of {sorted(lengths)} samples", "arrays of one length")
        self.samples, self.batch_size, self.seed = lengths.pop(), batch_size, seed
        self.pieces = size * replicas
        if batch_size < 1 or batch_size % self.pieces:
            holders = "tasks" if replicas == 1 else "replicas"
            raise UsageError(
                f"found batch_size={batch_size} for {self.pieces} {holders}", f"a multiple of {self.pieces}"
            )
        if not self.samples:
            raise UsageError("found no samples", "at least one")
        self.steps_per_epoch = -(-self.samples // batch_size)
        self.remainder = self.samples % batch_size
        self.has_weights = isinstance(arrays, (tuple, list)) and len(arrays) == 3
        self.step = 0
        self._rank, self._replicas = rank, replicas
        self._part_size = batch_size // size
        self._order_of = functools.lru_cache(maxsize=1)(self.order)
        self._arrays = _without_zero_weights(arrays) if self.has_weights else arrays

    def order(self, epoch: int) -> _Indices:
        """Return the samples' indices in the order of `epoch`."""
        return np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(self.samples)

    def real_samples(self, first: int, end: int) -> int:
        """Return how many samples, without padding, this task's parts have from step `first` to before `end`."""
        padded_steps = end // self.steps_per_epoch - first // self.steps_per_epoch if self.remainder else 0
        in_padded_step = sum(len(piece) for piece in self._own_pieces(np.arange(self.remainder)))
        return (end - first - padded_steps) * self._part_size + padded_steps * in_padded_step

    @functools.cached_property
    def dataset(self) -> tf.data.Dataset:
        """The parts of this task, with the weights of their samples."""
        tensors = tf.nest.map_structure(tf.convert_to_tensor, self._arrays)

        # not a data set from a generator: of one that is not at its end when the program ends TensorFlow warns
        @without_autograph
        def steps(_: tf.Tensor) -> tf.data.Dataset:
            first = tf.numpy_function(lambda: np.int64(self.step), [], tf.int64)
            return tf.data.Dataset.range(first, first + self.steps_per_epoch)

        @without_autograph
        def batch(step: tf.Tensor) -> Any:
            index, weight = tf.numpy_function(self.part, [step], [tf.int64, tf.float32])
            for each in (index, weight):
                each.set_shape([self._part_size])
            return _with_weights(tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), tensors), weight)

        options = tf.data.Options()
        # MirroredStrategy must cut the batches, not the source
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return (
            tf.data.Dataset.from_tensors(0)
            .flat_map(steps)
            .map(batch)
            .apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )

    def part(self, step: int) -> Tuple[_Indices, _Weights]:
        """Return the indices and weights of this task's part of the batch of `step`."""
        epoch, batch = divmod(int(step), self.steps_per_epoch)
        order, start = self._order_of(epoch), batch * self.batch_size
        if start + self.batch_size > self.samples:
            return self._padded_part(order, order[start:])
        first = start + self._rank * self._part_size
        return order[first : first + self._part_size], np.ones(self._part_size, np.float32)

    def _padded_part(self, order: _Indices, rest: _Indices) -> Tuple[_Indices, _Weights]:
        """Return this task's part of the last batch, which distributes the samples `rest` evenly over all pieces."""
        # the padding consists of real samples, so that the model computes finite values for it
        padding = np.resize(order, self._part_size)
        length = self._part_size // self._replicas
        indices, weights = [], []
        for piece in self._own_pieces(rest):
            indices.append(np.concatenate([piece, padding])[:length])
            weights.append(np.where(np.arange(length) < len(piece), self.batch_size / len(rest), 0.0))
        return np.concatenate(indices), np.concatenate(weights).astype(np.float32)

    def _own_pieces(self, rest: _Indices) -> List[_Indices]:
        """Return the samples of `rest` that each replica of this task gets."""
        own = range(self._rank * self._replicas, (self._rank + 1) * self._replicas)
        return [rest[len(rest) * piece // self.pieces : len(rest) * (piece + 1) // self.pieces] for piece in own]


def inputs_of(data: Any) -> Optional[Any]:
    """Return the specs of what a model gets of a data set of batches, for any number of samples; None if unknown.

    Of (x, y) and (x, y, weight), as Keras reads them, that is x.
    """
    spec = getattr(data, "element_spec", None)
    spec = spec[0] if isinstance(spec, tuple) else spec
    specs = tf.nest.flatten(spec)
    if not all(isinstance(each, tf.TensorSpec) and each.shape.rank for each in specs):
        return None
    return tf.nest.map_structure(lambda each: tf.TensorSpec([None, *each.shape[1:]], each.dtype), spec)


def repeated_batches(arrays: Any, batch_size: int, seed: int) -> tf.data.Dataset:
    """Return full batches of the same structure, without end, that go through all samples again and again."""
    samples = tf.data.Dataset.from_tensor_slices(arrays).shuffle(len(tf.nest.flatten(arrays)[0]), seed=seed)
    return samples.repeat().batch(batch_size).map(lambda *values: _with_weights(values, tf.ones([batch_size])))


def _with_weights(values: Any, weight: tf.Tensor) -> Any:
    """Return a batch with `weight` as its last element, or multiplied into its third one."""
    if not isinstance(values, (tuple, list)):
        return values, weight
    if len(values) != 3:
        return (*values, weight)
    given = values[2]
    return (*values[:2], given * tf.cast(tf.reshape(weight, [-1] + [1] * (given.shape.rank - 1)), given.dtype))


def _without_zero_weights(arrays: Any) -> Any:
    """Replace weights of 0, which mark padding, by the smallest positive number. Raises UsageError."""
    if tf.nest.is_nested(arrays[2]):
        raise UsageError("found a structure of weights", "one array of weights as the third of (x, y, weights)")
    weights = np.asarray(arrays[2])
    weights = weights if weights.dtype.kind == "f" else weights.astype(np.float32)
    return (*arrays[:2], np.where(weights == 0, np.finfo(weights.dtype).tiny, weights))
