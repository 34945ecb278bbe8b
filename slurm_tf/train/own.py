"""What each task has its own values of while all train one model: states of random generators, moving statistics.

A checkpoint holds them for every task, so that a resumed run goes on with the same bits; beside TensorFlow's files, as
one array a variable, a row a task.
"""

import io
from typing import Any, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from slurm_tf.train import allreduce

FILE = "own.npz"
# their bits travel as integers: no rounding, no -0.0 that becomes 0.0
_BITS = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


def variables(tracked: Sequence[Any], size: int) -> List[Any]:
    """Return the variables in `tracked` that each of `size` tasks has its own values of.

    Of one task alone, what TensorFlow leaves out of its checkpoints: the states of Keras' random generators (3.15).
    """
    found: List[Any] = []
    for each in tracked:
        if isinstance(each, tf.random.Generator):
            found.append(each.state)
        elif not hasattr(each, "apply_gradients"):
            found += getattr(each, "non_trainable_variables", ())
    return [variable for variable in found if size > 1 or is_random(variable)]


def common(tracked: Sequence[Any]) -> List[Any]:
    """Return the variables in `tracked` that all tasks are to start with the same values of."""
    found: List[Any] = []
    for each in tracked:
        every = getattr(each, "variables", [each] if isinstance(each, tf.Variable) else [])
        found += [variable for variable in (every() if callable(every) else every) if not is_random(variable)]
    return found


def is_random(variable: Any) -> bool:
    """Whether `variable` is the state of a Keras random generator, which is to differ between tasks."""
    return "seed_generator" in getattr(variable, "path", "")


def gather(collective: allreduce.Collective, own: Sequence[Any]) -> bytes:
    """Return the values of all tasks as a file. Collective."""
    rows = []
    for variable in own:
        value = tf.convert_to_tensor(variable)
        bits = tf.cast(value if value.dtype == tf.bool else tf.bitcast(value, _BITS[value.dtype.size]), tf.int64)
        place = tf.reshape(tf.one_hot(collective.rank, collective.size, dtype=tf.int64), [-1] + [1] * bits.shape.rank)
        rows.append(place * bits[tf.newaxis])
    file = io.BytesIO()
    np.savez(file, *[total.numpy() for total in collective.sum(rows)])
    return file.getvalue()


def restore(data: Optional[bytes], rank: int, size: int, own: Sequence[Any]) -> bool:
    """Set `own` to what `gather` kept for task `rank` of `size`; False if it was for others, or other variables."""
    if data is None:
        return False
    with np.load(io.BytesIO(data)) as file:
        arrays = [file[f"arr_{number}"] for number in range(len(file.files))]
    shapes = [(size, *tf.convert_to_tensor(variable).shape) for variable in own]
    if [array.shape for array in arrays] != shapes:
        return False
    for variable, array in zip(own, arrays):
        dtype = tf.convert_to_tensor(variable).dtype
        row = tf.convert_to_tensor(array[rank])
        wide = row if dtype == tf.bool else tf.cast(row, _BITS[dtype.size])
        variable.assign(tf.cast(wide, dtype) if dtype == tf.bool else tf.bitcast(wide, dtype))
    return True
