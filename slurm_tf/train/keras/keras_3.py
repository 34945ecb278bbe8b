"""Adapts a model of Keras 3 for `fit`. keras_2 has the same functions for tf_keras."""

import warnings
from typing import Any, List, Optional, Sequence

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.keras import batch_moments
from slurm_tf.train.keras.padding import Padding

# What a train_step of the program's own must do so that its loss is scaled.
SCALE_LOSS = "loss = self.optimizer.scale_loss(loss)"


def quiet() -> None:
    """Leave out a warning that is of no use here: run.batches has shuffled the samples (Keras 3.15)."""
    warnings.filterwarnings("ignore", message="`shuffle=True` was passed", category=UserWarning)


def build_optimizer(model: Any) -> None:
    """Create the optimizer's variables."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def accumulate(optimizer: Any, steps: int) -> None:
    """Have `optimizer` apply the mean gradient of each `steps` steps. Raises UsageError."""
    # with mixed precision Keras wraps the optimizer that accumulates
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if steps == 1 or optimizer.gradient_accumulation_steps == steps:
        return
    if optimizer.gradient_accumulation_steps or optimizer.built:
        raise UsageError(
            f"found train.accumulate={steps} and an optimizer that is built, or accumulates by itself",
            "one that model.compile(...) has just been given",
        )
    optimizer.gradient_accumulation_steps = steps


def steps_per_execution(model: Any) -> Any:
    """Return the steps_per_execution that the model was compiled with."""
    return model.steps_per_execution


def check_class_weight(_weight: Any) -> None:
    """Check nothing: `fit` of Keras 3 itself refuses class_weight beside weights."""


def scale_and_average(model: Any, collective: allreduce.Collective, padding: Padding) -> None:
    """Make the model's optimizer scale its loss by the share of the part, and average gradients over the tasks."""
    optimizer = model.optimizer
    scale_loss = getattr(optimizer.scale_loss, "unwrapped", optimizer.scale_loss)

    def scale_by_share(loss: Any) -> Any:
        return scale_loss(padding.scale_loss(loss))

    scale_by_share.unwrapped = scale_loss  # type: ignore[attr-defined]
    optimizer.scale_loss = scale_by_share
    if collective.size > 1:
        average_gradients(optimizer, collective)


def average_gradients(optimizer: Any, collective: allreduce.Collective) -> None:
    """Make an optimizer average its gradients over the tasks before it does anything else with them.

    Gradients that are not dense (of embeddings) are made dense: every task must have the same shapes.
    """
    apply = getattr(optimizer.apply, "unwrapped", optimizer.apply)

    def apply_mean(grads: Sequence[Any], trainable_variables: Optional[Sequence[Any]] = None) -> Any:
        present = [index for index, gradient in enumerate(grads) if gradient is not None]
        averaged: List[Any] = list(grads)
        for index, value in zip(present, collective.mean([grads[index] for index in present])):
            averaged[index] = value
        return apply(averaged, trainable_variables)

    apply_mean.unwrapped = apply  # type: ignore[attr-defined]
    optimizer.apply = apply_mean


def synchronize_statistics(layer: Any, collective: allreduce.Collective, padding: Padding) -> None:
    """Make a layer BatchNormalization(synchronized=True) use the statistics of all tasks.

    Keras would ask the replica context of a tf.distribute strategy for them, and there is none here.
    """
    if not hasattr(layer, "_moments"):
        raise UsageError("this Keras has another BatchNormalization", "Keras 3.0 to 3.15", "set synchronized=False")

    def moments(inputs: tf.Tensor, mask: Optional[tf.Tensor]) -> Any:
        axes = [axis for axis in range(inputs.shape.rank) if axis != layer.axis % inputs.shape.rank]
        return batch_moments.moments(collective, inputs, axes, mask, padding.share)

    layer._moments = moments


def set_initial_epoch(model: Any, epoch: int) -> None:
    """Have the `fit` that has just begun start with `epoch`, as keras.callbacks.BackupAndRestore does it."""
    model._initial_epoch = epoch
