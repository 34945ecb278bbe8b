"""Whether the tasks of one training still have one model: a digest of the variables, exchanged after the first steps.

A program whose gradients are not averaged trains as many models as it has tasks, and looks healthy: losses fall, the
job succeeds. One that has made the same steps everywhere has the same bits everywhere.
"""

from typing import Any, Callable, List, Sequence

import tensorflow as tf

from slurm_tf.errors import ReplicaError
from slurm_tf.train.collectives import allreduce

# What is not averaged shows in the first step; what is not averaged at times (a second optimizer), soon after.
_STEPS = (1, 2, 4, 8)
# Bits travel as integers, by size in bytes: no rounding, no -0.0 that becomes 0.0.
INTEGERS = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


class ReplicaCheck:
    """Compares the variables of all tasks after the steps 1, 2, 4 and 8 that this process makes."""

    def __init__(self, collective: allreduce.Collective, variables: Callable[[], Sequence[Any]]) -> None:
        """`variables`: gives those that training changes, in one order in all tasks; it may give none."""
        self._collective, self._variables = collective, variables
        self._steps = 0

    def step(self) -> None:
        """Count a step; collective after some. Raises ReplicaError."""
        self._steps += 1
        if self._steps in _STEPS:
            compare(self._collective, self._variables(), f"after {self._steps} steps")


def compare(collective: allreduce.Collective, variables: Sequence[Any], when: str = "") -> None:
    """Raise ReplicaError, in every task, unless all have the same bits in `variables`. Collective."""
    if collective.size == 1 or not variables:
        return
    # each task has a place of its own in one sum
    place = tf.one_hot(collective.rank, collective.size, dtype=tf.int64)
    (digests,) = collective.sum([place * _digest(variables)])
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


def shared(tracked: Sequence[Any]) -> List[Any]:
    """Return the numbers in models, optimizers, modules and variables that all tasks are to begin with alike.

    Random seeds are not: dropout is to differ.
    """
    found: List[Any] = []
    for each in tracked:
        variables = [each] if isinstance(each, tf.Variable) else getattr(each, "variables", ())
        # a method in Keras 2's older optimizers
        found += variables() if callable(variables) else variables
    return [variable for variable in found if not is_random(variable) and _is_number(variable)]


def is_random(variable: Any) -> bool:
    """Whether `variable` is the state of a Keras random generator, which is to differ between tasks."""
    return "seed_generator" in getattr(variable, "path", "")


def bits(value: tf.Tensor) -> tf.Tensor:
    """Return the bits of numbers or booleans as integers of 64."""
    return tf.cast(value if value.dtype.is_bool else tf.bitcast(value, INTEGERS[value.dtype.size]), tf.int64)


def trainable(tracked: Sequence[Any]) -> List[Any]:
    """Return the variables that training changes in models, modules and variables; those of optimizers left out."""
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


@tf.function  # type: ignore[untyped-decorator]
def _digests(tensors: List[tf.Tensor]) -> tf.Tensor:
    total = tf.zeros([], tf.int64)
    for number, tensor in enumerate(tensors):
        values = bits(tensor)
        # integers wrap around, in any order of summation to the same
        total += (2 * number + 1) * tf.reduce_sum(values * (values + 31))
    return total


def _digest(variables: Sequence[Any]) -> tf.Tensor:
    return _digests([tf.convert_to_tensor(variable) for variable in variables])
