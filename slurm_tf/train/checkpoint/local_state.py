"""Saves and restores the variables that differ between tasks: random generator states and moving statistics.

A checkpoint holds them for every task, in one file beside TensorFlow's, so that a resumed run continues with the same
bits. The file has one array per variable, with one row per task.
"""

import io
from typing import Any, List, Optional, Sequence, Set

import numpy as np
import tensorflow as tf

from slurm_tf.train.collectives import allreduce, replica_check

FILE = "local_state.npz"


def variables(tracked: Sequence[Any], size: int) -> List[Any]:
    """Return the variables in `tracked` that differ between `size` tasks.

    With one task: those that TensorFlow leaves out of its checkpoints, the states of Keras' random generators (3.15).
    """
    candidates: List[Any] = []
    trained: Set[int] = set()
    for each in tracked:
        if isinstance(each, tf.random.Generator):
            candidates.append(each.state)
        elif not hasattr(each, "apply_gradients"):
            candidates += getattr(each, "non_trainable_variables", ())
            trained |= _trained_ids(each)
    local = [variable for variable in candidates if id(variable) not in trained]
    return [variable for variable in local if size > 1 or replica_check.is_random_state(variable)]


def _trained_ids(model: Any) -> Set[int]:
    """Return the ids of the weights that the layers of a Keras model train unless they are frozen.

    Frozen ones are equal in all tasks. They may be most of the model, and `gather` takes eight bytes a value and task.
    """
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()
    names = ("_trainable_variables", "_trainable_weights")  # Keras 3, tf_keras
    return {id(variable) for layer in layers for name in names for variable in getattr(layer, name, ())}


def gather(collective: allreduce.Collective, local_variables: Sequence[Any]) -> bytes:
    """Return the values of `local_variables` in all tasks as the contents of a file. Collective."""
    rows = []
    for variable in local_variables:
        bits = _bits(variable)
        one_hot = tf.one_hot(collective.rank, collective.size, dtype=tf.int64)
        rows.append(tf.reshape(one_hot, [-1] + [1] * bits.shape.rank) * bits[tf.newaxis])
    file = io.BytesIO()
    np.savez(file, *[total.numpy() for total in collective.sum(rows)])
    return file.getvalue()


def restore(collective: allreduce.Collective, data: Optional[bytes], local_variables: Sequence[Any]) -> None:
    """Assign to `local_variables` the values that `gather` saved in `data`. Collective.

    Rank 0 alone has `data`; None: there is no file. Data of another number of tasks, or of other variables, is ignored.
    """
    shapes = [(collective.size, *_bits(variable).shape) for variable in local_variables]
    arrays = [np.zeros(shape, np.int64) for shape in shapes]
    usable = False
    if data is not None and collective.rank == 0:
        with np.load(io.BytesIO(data)) as file:
            saved = [file[f"arr_{number}"] for number in range(len(file.files))]
        usable = [array.shape for array in saved] == shapes
        arrays = saved if usable else arrays
    if not local_variables or not int(collective.sum([tf.constant(int(usable), tf.int64)])[0]):
        return
    for variable, array in zip(local_variables, collective.sum([tf.convert_to_tensor(array) for array in arrays])):
        variable.assign(_value(array[collective.rank], tf.as_dtype(variable.dtype)))


def _bits(variable: Any) -> tf.Tensor:
    return replica_check.bits(tf.convert_to_tensor(variable))


def _value(bits: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    if dtype.is_bool:
        return tf.cast(bits, dtype)
    return tf.bitcast(tf.cast(bits, replica_check.INTEGER_TYPES[dtype.size]), dtype)
