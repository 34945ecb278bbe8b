"""Cuts training data that is given by index into global batches, and each batch into one part per task.

The order of samples in an epoch depends on the seed and the epoch alone, and the position in it on the step. So all
tasks agree without communication, one process sees the same samples in each global batch as many do, and a resumed run
continues where it was.
"""

import functools
from typing import Any, List, Optional, Protocol, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.data.sample_orders import Indices

_Weights = npt.NDArray[np.float32]
# How much is read at once: each call of Python takes as long as the reading of 1000 small samples.
_SAMPLES_AT_ONCE, _BYTES_AT_ONCE = 4096, 4 << 20
# How often that much is read while batches are decoded.
_READ_AHEAD = 2


class Order(Protocol):
    """In which order an epoch goes through the samples."""

    def part(self, epoch: int, first: int, end: int) -> Indices:
        """Return the samples at the places from `first` to before `end` of the epoch, which are a global batch."""


class Source(Protocol):
    """Samples that are read by index, of which there are `samples`.

    `sample_bytes`: how many of them a sample has when it is read, on average. `has_weights`: each is (x, y, weight).
    `read_types`: of the tensors that `read` returns.
    """

    samples: int
    has_weights: bool
    read_types: Tuple[tf.DType, ...]
    sample_bytes: int

    @property
    def order(self) -> Order:
        """The order of the samples in each epoch."""

    def prepare(self, epoch: int, first: int, rank: int, size: int) -> None:
        """Prepare to read what task `rank` of `size` needs at place `first` of an epoch and after it."""

    def read(self, indices: Indices) -> Tuple[Any, ...]:
        """Return the samples with these indices, in whichever form is fast to read."""

    def elements(self, *read: tf.Tensor) -> tf.Tensor:
        """Return one element for each sample that was read, in the graph."""

    def decode(self, elements: tf.Tensor) -> Any:
        """Return the samples of these elements, in the graph."""


class Batches:
    """The batches of one data set. `dataset` has the parts of this task for one epoch, from the batch of `step` on.

    Every batch has a weight for each sample as its last element, or multiplied into a third one, which Keras takes for
    weights. All weights are 1, except in the last batch of an epoch if samples are left over. That batch is padded with
    samples of weight 0 at the end of each part, and the other weights are larger, so that the weights of the global
    batch have the mean 1. The mean of weight times loss, over equal parts, is then the mean loss of the real samples.
    """

    def __init__(self, source: Source, batch_size: int, rank: int, size: int, replicas: int = 1) -> None:
        """`batch_size`: samples in a global batch.

        `replicas`: into how many pieces MirroredStrategy cuts the part of this task, which is number `rank` of `size`.
        """
        self.samples, self.batch_size, self.has_weights = source.samples, batch_size, source.has_weights
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
        self.step = 0
        self._source, self._rank, self._size, self._replicas = source, rank, size, replicas
        self._part_size = batch_size // size
        samples_at_once = min(_SAMPLES_AT_ONCE, _BYTES_AT_ONCE // max(source.sample_bytes, 1))
        self._steps_at_once = max(samples_at_once // self._part_size, 1)

    def real_samples(self, first: int, end: int) -> int:
        """Return how many samples, without padding, this task's parts have from step `first` to before `end`."""
        padded_steps = end // self.steps_per_epoch - first // self.steps_per_epoch if self.remainder else 0
        in_padded_step = sum(len(piece) for piece in self._own_pieces(np.arange(self.remainder)))
        return (end - first - padded_steps) * self._part_size + padded_steps * in_padded_step

    @functools.cached_property
    def dataset(self) -> tf.data.Dataset:
        """The parts of this task, with the weights of their samples."""

        # not a data set from a generator: of one that is not at its end when the program ends TensorFlow warns
        @without_autograph
        def steps(_: tf.Tensor) -> tf.data.Dataset:
            first = tf.numpy_function(lambda: np.int64(self.step), [], tf.int64)
            return tf.data.Dataset.range(first, first + self.steps_per_epoch)

        @without_autograph
        def read(steps: tf.Tensor) -> Any:
            return tf.numpy_function(self.read, [steps], [*self._source.read_types, tf.float32])

        options = tf.data.Options()
        # MirroredStrategy must cut the batches, not the source
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return (
            tf.data.Dataset.from_tensors(0)
            .flat_map(steps)
            .batch(self._steps_at_once)
            .map(read)
            .prefetch(_READ_AHEAD)
            .map(without_autograph(self.parts))
            .unbatch()
            .map(without_autograph(self.decode), num_parallel_calls=tf.data.AUTOTUNE)
            .apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )

    def read(self, steps: Sequence[int]) -> Tuple[Any, ...]:
        """Return this task's parts of the batches of `steps` as its source reads them, and then their weights."""
        for step in steps:
            epoch, batch = divmod(int(step), self.steps_per_epoch)
            self._source.prepare(epoch, batch * self.batch_size, self._rank, self._size)
        indices, weights = zip(*map(self.part, steps))
        return (*self._source.read(np.concatenate(indices)), np.concatenate(weights))

    def parts(self, *read: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
        """Return what `read` returned in the graph: the elements of the samples, and their weights, [step, sample]."""
        *samples, weights = read
        return tuple(tf.reshape(each, [-1, self._part_size]) for each in (self._source.elements(*samples), weights))

    def decode(self, elements: tf.Tensor, weight: tf.Tensor) -> Any:
        """Return the batch, with its weights, of the elements of one step."""
        batch = self._source.decode(elements)
        for each in tf.nest.flatten(batch, expand_composites=False):
            if each.shape.rank == 0 or each.shape[0] not in (None, self._part_size):
                raise UsageError(f"found a batch with {each.shape}", f"{self._part_size} samples, as there were")
        return _with_weights(batch, weight)

    def part(self, step: int) -> Tuple[Indices, _Weights]:
        """Return the indices and weights of this task's part of the batch of `step`."""
        epoch, batch = divmod(int(step), self.steps_per_epoch)
        start = batch * self.batch_size
        samples = self._source.order.part(epoch, start, min(start + self.batch_size, self.samples))
        if len(samples) < self.batch_size:
            return self._padded_part(epoch, samples)
        first = self._rank * self._part_size
        return samples[first : first + self._part_size], np.ones(self._part_size, np.float32)

    def _padded_part(self, epoch: int, rest: Indices) -> Tuple[Indices, _Weights]:
        """Return this task's part of the last batch, which distributes the samples `rest` evenly over all pieces."""
        # the padding consists of real samples, so that the model computes finite values for it
        first = self._source.order.part(epoch, 0, min(self._part_size, self.samples))
        padding = np.resize(first, self._part_size)
        length = self._part_size // self._replicas
        indices, weights = [], []
        for piece in self._own_pieces(rest):
            indices.append(np.concatenate([piece, padding])[:length])
            weights.append(np.where(np.arange(length) < len(piece), self.batch_size / len(rest), 0.0))
        return np.concatenate(indices), np.concatenate(weights).astype(np.float32)

    def _own_pieces(self, rest: Indices) -> List[Indices]:
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
    given = tf.convert_to_tensor(values[2])
    given = given if given.dtype.is_floating else tf.cast(given, tf.float32)
    # a weight of 0 marks padding
    given = tf.where(given == 0, tf.constant(np.finfo(given.dtype.as_numpy_dtype).tiny, given.dtype), given)
    return (*values[:2], given * tf.cast(tf.reshape(weight, [-1] + [1] * (given.shape.rank - 1)), given.dtype))
