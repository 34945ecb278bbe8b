"""What prepared.py and recorded.py have in common: steps that record their samples, and the values they end with."""

import hashlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Is given the labels of a batch and their weights, in the graph of the step.
Record = Callable[[Any, Any], None]


def record_steps_of_fit(model: Any, record: Record) -> None:
    """Have each step of `model.fit` record its batch. To be called after `run.callbacks`."""
    train_step = model.train_step  # ours, which leaves the padding out

    def with_record(batch: Any) -> Any:
        _, labels, weight = batch
        record(labels, weight)
        return train_step(batch)

    model.train_step = with_record


def step_of_loop(run: Any, model: Any, losses_of: Callable[[Any, Any], Any], record: Record) -> Callable[[Any], Any]:
    """Return a step for `run.loop`, of gradient descent, which records its batch."""
    variables = [variable.value for variable in model.trainable_variables]

    def step(batch: Any) -> dict[str, Any]:
        inputs, labels, weight = batch
        record(labels, weight)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(weight * losses_of(labels, model(inputs, training=True)))
        # in place, as parameter servers need it
        for variable, gradient in zip(variables, run.mean(tape.gradient(loss, variables)), strict=True):
            variable.assign_sub(0.1 * gradient)
        return {"loss": loss}

    return step


def values_of(model: Any) -> dict[str, Any]:
    """Return the values of the variables of a model, and of its optimizer where it has one."""
    variables = [*model.variables, *(model.optimizer.variables if model.compiled else ())]
    return {f"{number} {each.path}": tf.convert_to_tensor(each).numpy() for number, each in enumerate(variables)}


def bits_of(model: Any) -> str:
    """Return a checksum of these values."""
    return hashlib.sha256(b"".join(value.tobytes() for value in values_of(model).values())).hexdigest()
