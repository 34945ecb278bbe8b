"""What tasks that train alike do together: mean, sum, broadcast. And how a Keras 3 model uses it.

Every task trains an ordinary model on its own device; only the optimizer knows about the others: it averages the
gradients before it applies them. The collectives are TensorFlow's (`Workers`) or Horovod's
(train/collectives/horovod_ranks.py). TensorFlow's strategy is used for its collectives alone, never as the scope of the
model, so none of what fails in Keras 3 under MultiWorkerMirroredStrategy is met (keras-team/keras#20585).
"""

import functools
from typing import Any, Callable, List, Optional, Protocol, Sequence, Tuple

import tensorflow as tf

from slurm_tf.errors import UsageError


class Collective(Protocol):
    """The same call, in the same order, in every task that trains."""

    rank: int
    size: int

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the tasks."""

    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the tasks."""


class SingleTask:
    """One task: everything is already what it would be together."""

    rank, size = 0, 1

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return `tensors`, reduced over the replicas of MirroredStrategy where called in one of them."""
        return _in_replica("MEAN", tensors) or [tf.convert_to_tensor(tensor) for tensor in tensors]

    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return `tensors`, reduced over the replicas of MirroredStrategy where called in one of them."""
        return _in_replica("SUM", tensors) or [tf.convert_to_tensor(tensor) for tensor in tensors]


class Workers:
    """The tasks of a MultiWorkerMirroredStrategy, each with one device."""

    def __init__(self, strategy: tf.distribute.MultiWorkerMirroredStrategy, rank: int, size: int, largest: int) -> None:
        """`largest`: the bytes above which a tensor is cut and its parts reduced one after the other; 0: none is."""
        self.rank, self.size = rank, size
        self._strategy, self._largest = strategy, largest
        self._device = strategy.extended.worker_devices[0]
        self._functions = {how: tf.function(functools.partial(self._reduce, how)) for how in ("MEAN", "SUM")}

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the tasks."""
        return _in_replica("MEAN", tensors, self._largest) or self._together("MEAN", tensors)

    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the tasks."""
        return _in_replica("SUM", tensors, self._largest) or self._together("SUM", tensors)

    def _together(self, how: str, tensors: Sequence[Any]) -> List[tf.Tensor]:
        # TensorFlow warns of every reduction outside of a graph
        reduce = self._functions[how] if tf.executing_eagerly() else functools.partial(self._reduce, how)
        return by_type([tf.convert_to_tensor(tensor) for tensor in tensors], reduce)

    def _reduce(self, how: str, tensors: Sequence[tf.Tensor]) -> Any:
        def reduce(*tensors: tf.Tensor) -> Any:
            # without the copies a graph says "destinations can not be empty" (TensorFlow 2.21)
            with tf.device(self._device):
                copies = [tf.identity(tensor) for tensor in tensors]
            return _all_reduce(how, self._largest, copies)

        return self._strategy.run(reduce, args=tuple(tensors))


def by_type(tensors: Sequence[tf.Tensor], reduce: Callable[[List[tf.Tensor]], Any]) -> List[tf.Tensor]:
    """Return `tensors` after one call of `reduce` for each type: what travels packed together must be of one."""
    reduced: List[tf.Tensor] = list(tensors)
    for dtype in sorted({tensor.dtype.name for tensor in tensors}):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype.name == dtype]
        for place, tensor in zip(places, reduce([tensors[place] for place in places])):
            reduced[place] = tensor
    return reduced


def _all_reduce(how: str, largest: int, tensors: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    """Reduce in a replica; TensorFlow packs small tensors together, and large ones are cut here."""
    parts = [_cut(tensor, largest) for tensor in tensors]
    reduced = iter(tf.distribute.get_replica_context().all_reduce(how, [part for own in parts for part in own]))
    whole = []
    for tensor, own in zip(tensors, parts):
        each = [next(reduced) for _ in own]
        whole.append(tf.reshape(tf.concat(each, 0), tensor.shape) if len(each) > 1 else each[0])
    return whole


def _cut(tensor: tf.Tensor, largest: int) -> List[tf.Tensor]:
    """Return `tensor`, or parts of it, flat, of `largest` bytes at most."""
    size = tensor.shape.num_elements()
    if not largest or not size or size * tensor.dtype.size <= largest:
        return [tensor]
    each = max(1, largest // tensor.dtype.size)
    flat = tf.reshape(tensor, [-1])
    return [flat[start : start + each] for start in range(0, size, each)]


def _in_replica(how: str, tensors: Sequence[Any], largest: int = 0) -> Optional[List[tf.Tensor]]:
    """Reduce with the replica context of a strategy's own `run`, None outside of one."""
    context = tf.distribute.get_replica_context()
    if context is None or not tf.distribute.has_strategy():
        return None
    reduce = functools.partial(_all_reduce, how, largest)
    return by_type([tf.convert_to_tensor(tensor) for tensor in tensors], reduce)


def broadcast(collective: Collective, variables: Sequence[Any]) -> None:
    """Give `variables` the values that they have in the task of rank 0."""
    values = [tf.convert_to_tensor(variable) for variable in variables]
    # collectives know neither booleans nor every kind of integer
    numbers = [value if value.dtype.is_floating else tf.cast(value, tf.int64) for value in values]
    ours = [number if collective.rank == 0 else tf.zeros_like(number) for number in numbers]
    for variable, value, total in zip(variables, values, collective.sum(ours)):
        variable.assign(tf.cast(total, value.dtype))


def inner(variable: Any) -> tf.Variable:
    """Return TensorFlow's variable, which Keras 3 puts into one of its own."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def average_floats(collective: Collective, variables: Sequence[Any]) -> None:
    """Give the floating-point ones of `variables` their mean over the tasks: moving statistics, for one."""
    floats = [variable for variable in variables if "float" in str(variable.dtype)]
    for variable, value in zip(floats, collective.mean(floats)):
        variable.assign(value)


def averaging(optimizer: Any, collective: Collective) -> None:
    """Make a Keras optimizer average its gradients over the tasks before it does anything else with them.

    Gradients that are not dense (of embeddings) are made so: every task must bring the same shapes.
    """
    apply = getattr(optimizer.apply, "alone", optimizer.apply)

    def apply_mean(grads: Sequence[Any], trainable_variables: Optional[Sequence[Any]] = None) -> Any:
        present = [index for index, gradient in enumerate(grads) if gradient is not None]
        averaged: List[Any] = list(grads)
        for index, value in zip(present, collective.mean([grads[index] for index in present])):
            averaged[index] = value
        return apply(averaged, trainable_variables)

    apply_mean.alone = apply  # type: ignore[attr-defined]
    optimizer.apply = apply_mean


def synchronize(layer: Any, collective: Collective, share: Callable[[], Optional[tf.Tensor]]) -> None:
    """Make BatchNormalization(synchronized=True) use the statistics of all tasks, which is what that option means.

    Keras asks the current tf.distribute replica for them, and here there is none. `share`: see `moments`.
    """
    if not hasattr(layer, "_moments"):
        raise UsageError("this Keras has another BatchNormalization", "Keras 3.0 to 3.15", "set synchronized=False")

    def moments_of(inputs: tf.Tensor, mask: Optional[tf.Tensor]) -> Any:
        axes = [axis for axis in range(inputs.shape.rank) if axis != layer.axis % inputs.shape.rank]
        return moments(collective, inputs, axes, mask, share())

    layer._moments = moments_of


def moments(
    collective: Collective, inputs: tf.Tensor, axes: Sequence[int], mask: Any, part: Any, keepdims: bool = False
) -> Tuple[tf.Tensor, tf.Tensor]:
    """Return the mean and the variance of `inputs` over `axes` and all tasks; a task whose `part` is 0 adds nothing.

    As Keras does, the variance is E(x^2) - E(x)^2; sums, squares and count travel in one reduction.
    """
    if mask is not None:
        raise UsageError("BatchNormalization(synchronized=True) got a mask", "inputs without one")

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def total(tensor: tf.Tensor) -> Any:
        return collective.sum([tensor])[0], lambda gradient: collective.sum([gradient])[0]

    values = tf.cast(inputs, tf.float32)
    sums, squares = (tf.reduce_sum(each, axes, keepdims) for each in (values, tf.square(values)))
    width = tf.size(sums)
    count = tf.cast(tf.size(values) // width, tf.float32)
    own = tf.concat([tf.reshape(sums, [-1]), tf.reshape(squares, [-1]), [count]], 0)
    all_of_it = total(own if part is None else own * tf.sign(part))
    mean = all_of_it[:width] / all_of_it[-1]
    variance = tf.maximum(all_of_it[width : 2 * width] / all_of_it[-1] - tf.square(mean), 0.0)
    mean, variance = (tf.cast(tf.reshape(each, sums.shape), inputs.dtype) for each in (mean, variance))
    return mean, variance
