"""Measures the own work of a task in each step, without the time in which it waits for the other tasks.

Where every step ends in a reduction, all tasks take equally long for it. A straggler shows in the time from the end of
one reduction to the moment at which all inputs of the next one are computed. The graph itself calls the clock at both
points, with one number of the tensors as an input: copying that waits for a GPU's work. tf.timestamp would fail where
operations must be deterministic (TensorFlow 2.21).
"""

import time
from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.collectives.allreduce import Collective


class StepClock:
    """Adds up the own work of one task. `seconds`: the sum so far; `skipped`: how often a measurement was dropped."""

    def __init__(self) -> None:
        self.seconds, self.skipped = 0.0, 0
        self._started: Optional[float] = None

    def skip(self) -> None:
        """Drop the measurement that runs: it has an evaluation or a checkpoint in it."""
        self.skipped += self._started is not None
        self._started = None

    def before_reduction(self, _number: Any = None) -> None:
        """Add the own work up to now, when the inputs of a reduction are computed."""
        if self._started is not None:
            self.seconds += time.monotonic() - self._started
            self._started = None

    def after_reduction(self, _number: Any = None) -> None:
        """Start a measurement, when the result of a reduction is there."""
        self._started = time.monotonic()


class TimedCollective:
    """Calls another collective, and a clock before and after each reduction."""

    def __init__(self, collective: Collective, clock: StepClock) -> None:
        self.rank, self.size = collective.rank, collective.size
        self._collective, self._clock = collective, clock

    @without_autograph
    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the tasks."""
        return self._timed(self._collective.mean, tensors)

    @without_autograph
    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the tasks."""
        return self._timed(self._collective.sum, tensors)

    def _timed(self, reduce: Callable[[Sequence[Any]], List[tf.Tensor]], tensors: Sequence[Any]) -> List[tf.Tensor]:
        inputs = [tf.convert_to_tensor(tensor) for tensor in tensors]
        if not inputs or tf.distribute.has_strategy():  # in a replica of the program's own
            return reduce(inputs)
        stopped = _call(self._clock.before_reduction, inputs, [])
        outputs = reduce(inputs)
        _call(self._clock.after_reduction, outputs, [stopped])
        return outputs


def _call(function: Callable[[Any], None], tensors: Sequence[tf.Tensor], after: Sequence[Any]) -> Any:
    """Call `function` when all of `tensors` are computed and the operations `after` are done.

    Return the operation that calls it, None in eager mode.
    """
    if tf.executing_eagerly():
        function(None)
        return None
    with tf.control_dependencies([*tensors, *after]):
        number = tf.cast(tf.reshape(tensors[-1], [-1])[:1], tf.float32)
        return tf.numpy_function(function, [number], [])
