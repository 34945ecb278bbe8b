"""Adapts a model of tf_keras for `fit`: Keras 2, kept for TensorFlow 2.16 and later. keras_3 has the same functions."""

import functools
import logging
from typing import Any, Sequence

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.keras import batch_moments
from slurm_tf.train.keras.padding import Padding

# What a train_step of the program's own must do so that its loss is scaled.
SCALE_LOSS = "self.optimizer.minimize(loss, self.trainable_variables, tape=tape)"


def quiet() -> None:
    """Leave out the warning that callbacks take long: that of slurm_tf.train waits for other tasks at times."""
    logging.getLogger("tensorflow").addFilter(_is_no_warning_of_slow_callbacks)


def _is_no_warning_of_slow_callbacks(record: logging.LogRecord) -> bool:
    return "is slow compared to the batch time" not in str(record.msg)


def build_optimizer(model: Any) -> None:
    """Create the optimizer's variables. Raises UsageError."""
    optimizer = _inner_optimizer(model.optimizer)
    if not hasattr(optimizer, "aggregate_gradients"):
        raise UsageError(f"found an optimizer {type(optimizer).__module__}", "one of tf_keras.optimizers")
    optimizer.build(model.trainable_variables)


def accumulate(_optimizer: Any, steps: int) -> None:
    """Raise UsageError unless `steps` is 1."""
    if steps > 1:
        raise UsageError(f"found train.accumulate={steps} and a model of tf_keras", "one of Keras 3 for it")


def steps_per_execution(model: Any) -> Any:
    """Return the steps_per_execution that the model was compiled with."""
    return "auto" if model._autotune_steps_per_execution else int(model._steps_per_execution)


def check_class_weight(weight: tf.Tensor) -> None:
    """Have the step fail where `fit` has multiplied class_weight into weights that only mark padding."""
    nonzero = tf.boolean_mask(weight, weight != 0)
    message = "found class_weight= beside run.batches((x, y), ...); needed run.batches((x, y, weight_of_class[y]), ...)"
    tf.debugging.assert_equal(nonzero, tf.ones_like(nonzero) * tf.reduce_max(weight), message)


def scale_and_average(model: Any, collective: allreduce.Collective, padding: Padding) -> None:
    """Make the model's optimizer scale its loss by the share of the part, and average gradients over the tasks.

    It scales the loss, not the gradients: synchronized statistics mix the gradients of one task into those of others.
    """
    optimizer = model.optimizer
    compute = getattr(optimizer.compute_gradients, "unwrapped", optimizer.compute_gradients)

    def compute_scaled(loss: Any, var_list: Any, tape: Any = None) -> Any:
        tape = tf.GradientTape() if tape is None else tape
        with tape:
            loss = padding.scale_loss(loss() if callable(loss) else loss)
        return compute(loss, var_list, tape)

    compute_scaled.unwrapped = compute  # type: ignore[attr-defined]
    optimizer.compute_gradients = compute_scaled
    if collective.size > 1:
        # with mixed precision the method of the inner optimizer is called, before the check for infinite gradients
        _inner_optimizer(optimizer).aggregate_gradients = functools.partial(_mean_gradients, collective)


def _mean_gradients(collective: allreduce.Collective, grads_and_vars: Sequence[Any]) -> Any:
    present = [(gradient, variable) for gradient, variable in grads_and_vars if gradient is not None]
    means = collective.mean([gradient for gradient, _ in present])
    return list(zip(means, [variable for _, variable in present]))


def synchronize_statistics(layer: Any, collective: allreduce.Collective, padding: Padding) -> None:
    """Make a layer BatchNormalization(synchronized=True) use the statistics of all tasks."""

    def moments(inputs: tf.Tensor, axes: Sequence[int], keep_dims: bool, mask: Any = None) -> Any:
        return batch_moments.moments(collective, inputs, axes, mask, padding.share, keep_dims)

    layer._calculate_mean_and_var = moments


def set_initial_epoch(model: Any, epoch: int) -> None:
    """Have the `fit` that has just begun start with `epoch`, in place of Keras' own lookup in a checkpoint."""
    model._maybe_load_initial_counters_from_ckpt = lambda _steps, _first: (epoch, 0)


def _inner_optimizer(optimizer: Any) -> Any:
    """Return the optimizer that mixed precision has wrapped, or `optimizer` itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
