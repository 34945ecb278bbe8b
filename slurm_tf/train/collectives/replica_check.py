"""Checks that all tasks of a training have the same variables, by a digest that they exchange after the first steps.

A program whose gradients are not averaged trains one model per task and looks healthy: losses fall, and the job
succeeds. Tasks that have made the same updates have the same bits.
"""

from typing import Any, Callable, List, Sequence

import tensorflow as tf

from slurm_tf.errors import ReplicaError
from slurm_tf.train.collectives import allreduce

# Gradients that are never averaged show after the first step; those that are left out at times (a second optimizer),
# after a few more.
_CHECKED_STEPS = (1, 2, 4, 8)
# The integer type of each size in bytes. Bits are exchanged as integers: nothing is rounded, and -0.0 stays -0.0.
INTEGER_TYPES = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


class ReplicaCheck:
    """Compares the variables of all tasks after the steps 1, 2, 4 and 8 of this process."""

    def __init__(self, collective: allreduce.Collective, variables: Callable[[], Sequence[Any]]) -> None:
        """`variables` returns what training changes, in the same order in all tasks; it may be empty."""
        self._collective, self._variables = collective, variables
        self._steps = 0

    def after_step(self) -> None:
        """Count a step, and compare after some of them, which is collective. Raises ReplicaError."""
        self._steps += 1
        if self._steps in _CHECKED_STEPS:
            compare(self._collective, self._variables(), f"after {self._steps} steps")


def compare(collective: allreduce.Collective, variables: Sequence[Any], when: str = "") -> None:
    """Raise ReplicaError in every task unless `variables` have the same bits in all of them. Collective."""
    if collective.size == 1 or not variables:
        return
    # the sum of one-hot vectors, each times its task's digest, is the vector of all digests
    one_hot = tf.one_hot(collective.rank, collective.size, dtype=tf.int64)
    (digests,) = collective.sum([one_hot * _digest(variables)])
    first, *others = digests.numpy().tolist()
    differing = [rank for rank, digest in enumerate(others, 1) if digest != first]
    if not differing:
        return
    ranks = ", ".join(map(str, differing))
    raise ReplicaError(
        f"the variables of rank {ranks} are not those of rank 0{f' {when}' if when else ''}: "
        "each of them trains a model of its own",
        "gradients that are averaged over all tasks",
        "compile the model before run.callbacks(model), or use run.mean(gradients) in a loop of your own; "
        "hvd.DistributedOptimizer does nothing in model.fit of Keras 3",
    )


def shared_variables(tracked: Sequence[Any]) -> List[Any]:
    """Return the numeric variables of models, optimizers and modules that must start equal in all tasks.

    The states of random generators are left out: dropout must differ between tasks.
    """
    found: List[Any] = []
    for each in tracked:
        variables = [each] if isinstance(each, tf.Variable) else getattr(each, "variables", ())
        # a method in Keras 2's older optimizers
        found += variables() if callable(variables) else variables
    return [variable for variable in found if not is_random_state(variable) and _is_number(variable)]


def is_random_state(variable: Any) -> bool:
    """Return whether `variable` is the state of a Keras random generator, which differs between tasks."""
    return "seed_generator" in getattr(variable, "path", "")


def bits(value: tf.Tensor) -> tf.Tensor:
    """Return the bits of a tensor of numbers or booleans as int64."""
    return tf.cast(value if value.dtype.is_bool else tf.bitcast(value, INTEGER_TYPES[value.dtype.size]), tf.int64)


def trainable_variables(tracked: Sequence[Any]) -> List[Any]:
    """Return the numeric variables of models and modules that training changes; those of optimizers are left out."""
    found: List[Any] = []
    for each in tracked:
        if isinstance(each, tf.Variable):
            found += [each] if each.trainable else []
        elif not hasattr(each, "apply_gradients"):
            found += getattr(each, "trainable_variables", ())
    return [variable for variable in found if _is_number(variable)]


def _is_number(variable: Any) -> bool:
    dtype = tf.as_dtype(variable.dtype)
    return bool(dtype.is_floating or dtype.is_integer or dtype.is_bool)


@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def _digest_tensors(tensors: List[tf.Tensor]) -> tf.Tensor:
    total = tf.zeros([], tf.int64)
    for number, tensor in enumerate(tensors):
        values = bits(tensor)
        # integers wrap around, so their sum is the same in any order of summation
        total += (2 * number + 1) * tf.reduce_sum(values * (values + 31))
    return total


def _digest(variables: Sequence[Any]) -> tf.Tensor:
    return _digest_tensors([tf.convert_to_tensor(variable) for variable in variables])
