"""Mean, sum and broadcast over the tasks that train one model in lockstep.

Every task trains an ordinary model on its own device, and averages its gradients with those of the other tasks before
it applies them. The reductions are TensorFlow's (`MultiWorkerCollective`) or Horovod's (horovod_ranks.py). TensorFlow's
strategy is used for its collectives alone, never as the scope of the model, which avoids what fails in Keras 3 under
MultiWorkerMirroredStrategy (keras-team/keras#20585).
"""

import functools
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence

import tensorflow as tf

from slurm_tf.train.autograph import without_autograph


class Collective(Protocol):
    """Reductions over tasks; every task that trains must make the same calls in the same order."""

    rank: int
    size: int

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the tasks."""

    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the tasks."""


class SingleTaskCollective:
    """The collective of one task, which returns its inputs."""

    rank, size = 0, 1

    @without_autograph
    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return `tensors`; inside a replica of MirroredStrategy, their mean over the replicas."""
        return _reduce_in_replica("MEAN", tensors) or [tf.convert_to_tensor(tensor) for tensor in tensors]

    @without_autograph
    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return `tensors`; inside a replica of MirroredStrategy, their sum over the replicas."""
        return _reduce_in_replica("SUM", tensors) or [tf.convert_to_tensor(tensor) for tensor in tensors]


class MultiWorkerCollective:
    """The collective of a MultiWorkerMirroredStrategy whose tasks have one device each."""

    def __init__(
        self, strategy: tf.distribute.MultiWorkerMirroredStrategy, rank: int, size: int, max_bytes: int
    ) -> None:
        """`max_bytes`: a larger tensor is split, and its parts are reduced one after the other; 0: none is split."""
        self.rank, self.size = rank, size
        self._strategy, self._max_bytes = strategy, max_bytes
        self._device = strategy.extended.worker_devices[0]
        self._functions: Dict[Any, Any] = {}

    @without_autograph
    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the tasks."""
        return _reduce_in_replica("MEAN", tensors, self._max_bytes) or self._reduce_by_dtype("MEAN", tensors)

    @without_autograph
    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the tasks."""
        return _reduce_in_replica("SUM", tensors, self._max_bytes) or self._reduce_by_dtype("SUM", tensors)

    def _reduce_by_dtype(self, reduce_op: str, tensors: Sequence[Any]) -> List[tf.Tensor]:
        # TensorFlow warns of every reduction outside of a graph
        reduce = self._reduce_in_graph if tf.executing_eagerly() else self._reduce
        return by_dtype([tf.convert_to_tensor(tensor) for tensor in tensors], functools.partial(reduce, reduce_op))

    def _reduce_in_graph(self, reduce_op: str, tensors: Sequence[tf.Tensor]) -> Any:
        """Reduce by a function for these dtypes and shapes alone: TensorFlow warns of one that is traced often."""
        signature = (reduce_op, *((tensor.dtype, tuple(tensor.shape)) for tensor in tensors))
        if signature not in self._functions:
            # it needs no AutoGraph, which takes most of a second of a program's start
            self._functions[signature] = tf.function(functools.partial(self._reduce, reduce_op), autograph=False)
        return self._functions[signature](tensors)

    def _reduce(self, reduce_op: str, tensors: Sequence[tf.Tensor]) -> Any:
        def reduce(*tensors: tf.Tensor) -> Any:
            # without the copies a graph says "destinations can not be empty" (TensorFlow 2.21)
            with tf.device(self._device):
                copies = [tf.identity(tensor) for tensor in tensors]
            return _all_reduce(reduce_op, self._max_bytes, copies)

        return self._strategy.run(reduce, args=tuple(tensors))


def by_dtype(tensors: Sequence[tf.Tensor], reduce: Callable[[List[tf.Tensor]], Any]) -> List[tf.Tensor]:
    """Call `reduce` once for the tensors of each dtype, as packed tensors must have one; return results in order."""
    reduced: List[tf.Tensor] = list(tensors)
    for dtype in sorted({tensor.dtype.name for tensor in tensors}):
        indices = [index for index, tensor in enumerate(tensors) if tensor.dtype.name == dtype]
        for index, tensor in zip(indices, reduce([tensors[index] for index in indices])):
            reduced[index] = tensor
    return reduced


def _all_reduce(reduce_op: str, max_bytes: int, tensors: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    """Reduce inside a replica. TensorFlow packs small tensors together; large ones are split here."""
    split = [_split(tensor, max_bytes) for tensor in tensors]
    context = tf.distribute.get_replica_context()
    reduced = iter(context.all_reduce(reduce_op, [part for parts in split for part in parts]))
    joined = []
    for tensor, parts in zip(tensors, split):
        results = [next(reduced) for _ in parts]
        joined.append(tf.reshape(tf.concat(results, 0), tensor.shape) if len(results) > 1 else results[0])
    return joined


def _split(tensor: tf.Tensor, max_bytes: int) -> List[tf.Tensor]:
    """Return `tensor` alone, or flat parts of it of at most `max_bytes`."""
    size = tensor.shape.num_elements()
    if not max_bytes or not size or size * tensor.dtype.size <= max_bytes:
        return [tensor]
    part_size = max(1, max_bytes // tensor.dtype.size)
    flat = tf.reshape(tensor, [-1])
    return [flat[start : start + part_size] for start in range(0, size, part_size)]


def _reduce_in_replica(reduce_op: str, tensors: Sequence[Any], max_bytes: int = 0) -> Optional[List[tf.Tensor]]:
    """Reduce with the replica context, where called inside `strategy.run`; return None elsewhere."""
    context = tf.distribute.get_replica_context()
    if context is None or not tf.distribute.has_strategy():
        return None
    reduce = functools.partial(_all_reduce, reduce_op, max_bytes)
    return by_dtype([tf.convert_to_tensor(tensor) for tensor in tensors], reduce)


def broadcast(collective: Collective, variables: Sequence[Any]) -> None:
    """Assign rank 0's values to `variables` in every task. Collective."""
    values = [tf.convert_to_tensor(variable) for variable in variables]
    # collectives support neither booleans nor every integer type
    numbers = [value if value.dtype.is_floating else tf.cast(value, tf.int64) for value in values]
    addends = [number if collective.rank == 0 else tf.zeros_like(number) for number in numbers]
    for variable, value, total in zip(variables, values, collective.sum(addends)):
        variable.assign(tf.cast(total, value.dtype))


def average_floats(collective: Collective, variables: Sequence[Any]) -> None:
    """Assign their mean over the tasks to the floating-point variables, such as moving statistics. Collective."""
    floats = [variable for variable in variables if "float" in str(variable.dtype)]
    for variable, value in zip(floats, collective.mean(floats)):
        variable.assign(value)
