"""Passes of `model.fit` over one iterator of a program's own data set, whose position can be saved.

Keras makes an iterator of its own for each pass, which nobody can save. And two iterators of one data set change each
other's samples: they take the seeds of a shuffle from one generator (TensorFlow 2.21).
"""

from typing import Any, Optional

import tensorflow as tf

from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.data import iterator_positions

_ENDED = "the data set has ended; needed: one without end for steps_per_epoch (HINT: dataset.repeat() has none)"


class Passes:
    """`dataset` has the next so many elements of `iterator`, and in each pass the next ones."""

    def __init__(self, made: tf.data.Dataset, steps_per_epoch: int) -> None:
        self.iterator = iter(made)
        self._position: Optional[bytes] = None
        options = tf.data.Options()
        # an element that is read ahead would not be in the position
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        self.dataset = tf.data.Dataset.range(steps_per_epoch).map(self._next).with_options(options)

    @without_autograph
    def _next(self, _: tf.Tensor) -> Any:
        found = self.iterator.get_next_as_optional()
        with tf.control_dependencies([tf.debugging.Assert(found.has_value(), [_ENDED])]):
            return found.get_value()

    def remember(self) -> None:
        """Remember the position, at which training will begin."""
        self._position = iterator_positions.position(self.iterator)

    def begin(self) -> None:
        """Go back to the position that is remembered: Keras may have read a batch, to learn its shapes."""
        if self._position is not None:
            iterator_positions.set_position(self.iterator, self._position)
        self._position = None
