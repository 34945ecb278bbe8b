"""What `keras_fit` does otherwise with a model of tf_keras: Keras 2, kept for TensorFlow 2.16 and later."""

import functools
from typing import Any, Sequence

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.data import padding

WEIGHS = "self.optimizer.minimize(loss, self.trainable_variables, tape=tape)"


def build(model: Any) -> None:
    """Make the optimizer's variables. Raises UsageError."""
    optimizer = _inner(model.optimizer)
    if not hasattr(optimizer, "aggregate_gradients"):
        raise UsageError(f"found an optimizer {type(optimizer).__module__}", "one of tf_keras.optimizers")
    optimizer.build(model.trainable_variables)


def accumulate(_optimizer: Any, steps: int) -> None:
    """Raise UsageError unless `steps` is 1."""
    if steps > 1:
        raise UsageError(f"found train.accumulate={steps} and a model of tf_keras", "one of Keras 3 for it")


def steps_per_execution(model: Any) -> Any:
    """Return what the model was compiled with."""
    return "auto" if model._autotune_steps_per_execution else int(model._steps_per_execution)


def look_at(weight: tf.Tensor) -> None:
    """Have the step fail where `fit` has multiplied class_weight into weights that only mark padding."""
    real = tf.boolean_mask(weight, weight != 0)
    message = "found class_weight= beside run.batches((x, y), ...); needed run.batches((x, y, weight_of_class[y]), ...)"
    tf.debugging.assert_equal(real, tf.ones_like(real) * tf.reduce_max(weight), message)


def average(model: Any, collective: allreduce.Collective, left_out: padding.Padding) -> None:
    """Make the optimizer weigh its loss, and average its gradients over the tasks.

    The loss, not the gradients: statistics of all tasks carry the gradients of one into those of another.
    """
    outer = model.optimizer
    compute = getattr(outer.compute_gradients, "alone", outer.compute_gradients)

    def compute_weighed(loss: Any, var_list: Any, tape: Any = None) -> Any:
        tape = tf.GradientTape() if tape is None else tape
        with tape:
            loss = left_out.weigh(loss() if callable(loss) else loss)
        return compute(loss, var_list, tape)

    compute_weighed.alone = compute  # type: ignore[attr-defined]
    outer.compute_gradients = compute_weighed
    if collective.size > 1:
        # with mixed precision that of the inner optimizer is called, before anybody looks for infinity
        _inner(outer).aggregate_gradients = functools.partial(_mean, collective)


def _mean(collective: allreduce.Collective, grads_and_vars: Sequence[Any]) -> Any:
    present = [(gradient, variable) for gradient, variable in grads_and_vars if gradient is not None]
    means = collective.mean([gradient for gradient, _ in present])
    return list(zip(means, [variable for _, variable in present]))


def synchronize(layer: Any, collective: allreduce.Collective, left_out: padding.Padding) -> None:
    """Make BatchNormalization(synchronized=True) use the statistics of all tasks."""

    def moments(inputs: tf.Tensor, axes: Sequence[int], keep_dims: bool, mask: Any = None) -> Any:
        return allreduce.moments(collective, inputs, axes, mask, left_out.share, keep_dims)

    layer._calculate_mean_and_var = moments


def begin(model: Any, epoch: int) -> None:
    """Have the `fit` that has just begun start with `epoch`: where Keras would ask a checkpoint of its own."""
    model._maybe_load_initial_counters_from_ckpt = lambda _steps, _first: (epoch, 0)


def _inner(optimizer: Any) -> Any:
    """Return the optimizer that is inside the one of mixed precision."""
    return getattr(optimizer, "inner_optimizer", optimizer)
