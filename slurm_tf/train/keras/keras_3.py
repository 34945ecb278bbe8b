"""What `keras_fit` does otherwise with a model of Keras 3."""

from typing import Any

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.data import padding

WEIGHS = "loss = self.optimizer.scale_loss(loss)"


def build(model: Any) -> None:
    """Make the optimizer's variables."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def accumulate(optimizer: Any, steps: int) -> None:
    """Have `optimizer` apply the mean gradient of each `steps` steps. Raises UsageError."""
    # with mixed precision Keras puts one optimizer into another, which accumulates
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
    """Return what the model was compiled with."""
    return model.steps_per_execution


def look_at(_weight: Any) -> None:
    """Nothing: its `fit` takes no class_weight beside weights."""


def average(model: Any, collective: allreduce.Collective, left_out: padding.Padding) -> None:
    """Make the optimizer weigh its loss, and average its gradients over the tasks."""
    optimizer = model.optimizer
    scale_loss = getattr(optimizer.scale_loss, "alone", optimizer.scale_loss)

    def weighed(loss: Any) -> Any:
        return scale_loss(left_out.weigh(loss))

    weighed.alone = scale_loss  # type: ignore[attr-defined]
    optimizer.scale_loss = weighed
    if collective.size > 1:
        allreduce.averaging(optimizer, collective)


def synchronize(layer: Any, collective: allreduce.Collective, left_out: padding.Padding) -> None:
    """Make BatchNormalization(synchronized=True) use the statistics of all tasks."""
    allreduce.synchronize(layer, collective, lambda: left_out.share)


def begin(model: Any, epoch: int) -> None:
    """Have the `fit` that has just begun start with `epoch`, as keras.callbacks.BackupAndRestore does it."""
    model._initial_epoch = epoch
