"""What each task has its own values of while all train one model: states of random generators, moving statistics.

A checkpoint holds them for every task, so that a resumed run goes on with the same bits; beside TensorFlow's files, as
one array a variable, a row a task.
"""

import io
from typing import Any, List, Optional, Sequence, Set

import numpy as np
import tensorflow as tf

from slurm_tf.train.collectives import allreduce, replica_check

FILE = "own.npz"


def variables(tracked: Sequence[Any], size: int) -> List[Any]:
    """Return the variables in `tracked` that each of `size` tasks has its own values of.

    Of one task alone, what TensorFlow leaves out of its checkpoints: the states of Keras' random generators (3.15).
    """
    found: List[Any] = []
    alike: Set[int] = set()
    for each in tracked:
        if isinstance(each, tf.random.Generator):
            found.append(each.state)
        elif not hasattr(each, "apply_gradients"):
            found += getattr(each, "non_trainable_variables", ())
            alike |= _to_be_trained(each)
    own = [variable for variable in found if id(variable) not in alike]
    return [variable for variable in own if size > 1 or replica_check.is_random(variable)]


def _to_be_trained(model: Any) -> Set[int]:
    """Return the ids of what the layers of a Keras model were made to train: while frozen it is alike in all tasks.

    It may be most of the model, and `gather` takes eight bytes a value for each task.
    """
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()
    names = ("_trainable_variables", "_trainable_weights")  # Keras 3, tf_keras
    return {id(variable) for layer in layers for name in names for variable in getattr(layer, name, ())}


def gather(collective: allreduce.Collective, own: Sequence[Any]) -> bytes:
    """Return the values of all tasks as a file. Collective."""
    rows = []
    for variable in own:
        bits = _bits(variable)
        place = tf.reshape(tf.one_hot(collective.rank, collective.size, dtype=tf.int64), [-1] + [1] * bits.shape.rank)
        rows.append(place * bits[tf.newaxis])
    file = io.BytesIO()
    np.savez(file, *[total.numpy() for total in collective.sum(rows)])
    return file.getvalue()


def restore(collective: allreduce.Collective, data: Optional[bytes], own: Sequence[Any]) -> None:
    """Set `own` to what `gather` kept, as rank 0 has read it: `data`, None in other tasks and where there is none.

    What was kept for another number of tasks, or for other variables, is left. Collective.
    """
    shapes = [(collective.size, *_bits(variable).shape) for variable in own]
    arrays = [np.zeros(shape, np.int64) for shape in shapes]
    usable = False
    if data is not None and collective.rank == 0:
        with np.load(io.BytesIO(data)) as file:
            kept = [file[f"arr_{number}"] for number in range(len(file.files))]
        usable = [array.shape for array in kept] == shapes
        arrays = kept if usable else arrays
    if not own or not int(collective.sum([tf.constant(int(usable), tf.int64)])[0]):
        return
    for variable, array in zip(own, collective.sum([tf.convert_to_tensor(array) for array in arrays])):
        variable.assign(_value(array[collective.rank], tf.as_dtype(variable.dtype)))


def _bits(variable: Any) -> tf.Tensor:
    return replica_check.bits(tf.convert_to_tensor(variable))


def _value(bits: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return (
        tf.cast(bits, dtype) if dtype.is_bool else tf.bitcast(tf.cast(bits, replica_check.INTEGERS[dtype.size]), dtype)
    )
