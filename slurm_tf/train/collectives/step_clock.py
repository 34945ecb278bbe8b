"""How long a task works by itself in each step, when all wait for each other in each.

Steps that end in a reduction take all tasks the same time: a slow one is seen by what it does between the end of one
reduction and the moment at which it has all that it brings to the next. The graph itself calls the clock there, with
one number of what is reduced: a GPU's work is waited for by copying that. Not tf.timestamp, which fails where
operations are to be deterministic (TensorFlow 2.21).
"""

import time
from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from slurm_tf.train.collectives.allreduce import Collective


class Clock:
    """The time of one task's own work. `seconds`: all that was measured so far; `skipped`: how often it was not."""

    def __init__(self) -> None:
        self.seconds, self.skipped = 0.0, 0
        self._since: Optional[float] = None

    def skip(self) -> None:
        """Leave out what is done before the next reduction: an evaluation, a checkpoint."""
        self.skipped += self._since is not None
        self._since = None

    def arrive(self, _number: Any = None) -> None:
        """Take in that this task has what it brings to a reduction."""
        if self._since is not None:
            self.seconds += time.monotonic() - self._since
            self._since = None

    def go_on(self, _number: Any = None) -> None:
        """Take in that it has got the result."""
        self._since = time.monotonic()


class Clocked:
    """A collective by which a clock is read."""

    def __init__(self, collective: Collective, clock: Clock) -> None:
        self.rank, self.size = collective.rank, collective.size
        self._collective, self._clock = collective, clock

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the tasks."""
        return self._timed(self._collective.mean, tensors)

    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the tasks."""
        return self._timed(self._collective.sum, tensors)

    def _timed(self, reduce: Callable[[Sequence[Any]], List[tf.Tensor]], tensors: Sequence[Any]) -> List[tf.Tensor]:
        given = [tf.convert_to_tensor(tensor) for tensor in tensors]
        if not given or tf.distribute.has_strategy():  # in a replica of the program's own
            return reduce(given)
        arrived = _call(self._clock.arrive, given, [])
        reduced = reduce(given)
        _call(self._clock.go_on, reduced, [arrived])
        return reduced


def _call(function: Callable[[Any], None], tensors: Sequence[tf.Tensor], after: Sequence[Any]) -> Any:
    """Call `function` when all of `tensors` are there, and `after` is done; return what others may come after."""
    if tf.executing_eagerly():
        function(None)
        return None
    with tf.control_dependencies([*tensors, *after]):
        number = tf.cast(tf.reshape(tensors[-1], [-1])[:1], tf.float32)
        return tf.numpy_function(function, [number], [])
