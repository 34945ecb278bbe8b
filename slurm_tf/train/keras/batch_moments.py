"""Computes the moments of a batch over all tasks, for BatchNormalization(synchronized=True)."""

from typing import Any, Optional, Sequence, Tuple

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives.allreduce import Collective


def moments(
    collective: Collective,
    inputs: tf.Tensor,
    axes: Sequence[int],
    mask: Any,
    share: Optional[tf.Tensor],
    keepdims: bool = False,
) -> Tuple[tf.Tensor, tf.Tensor]:
    """Return the mean and the variance of `inputs` over `axes` and all tasks. Collective.

    A task whose `share` (see `Padding`) is 0 adds nothing. As in Keras the variance is E(x^2) - E(x)^2; sums, squares
    and counts are reduced in one tensor.
    """
    if mask is not None:
        raise UsageError("BatchNormalization(synchronized=True) got a mask", "inputs without one")

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sum_over_tasks(tensor: tf.Tensor) -> Any:
        return collective.sum([tensor])[0], lambda gradient: collective.sum([gradient])[0]

    values = tf.cast(inputs, tf.float32)
    sums, squares = (tf.reduce_sum(each, axes, keepdims) for each in (values, tf.square(values)))
    width = tf.size(sums)
    count = tf.cast(tf.size(values) // width, tf.float32)
    packed = tf.concat([tf.reshape(sums, [-1]), tf.reshape(squares, [-1]), [count]], 0)
    total = sum_over_tasks(packed if share is None else packed * tf.sign(share))
    mean = total[:width] / total[-1]
    variance = tf.maximum(total[width : 2 * width] / total[-1] - tf.square(mean), 0.0)
    mean, variance = (tf.cast(tf.reshape(each, sums.shape), inputs.dtype) for each in (mean, variance))
    return mean, variance
