"""The positions of iterators of a program's own tf.data pipelines: each task has its own, and a checkpoint all of them.

TensorFlow writes what an iterator has done and holds: where it is in its source, the buffer of a shuffle, elements that
were fetched ahead. They are gathered into one file beside TensorFlow's, as one task writes the checkpoint.
"""

import io
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from slurm_tf.errors import CheckpointError, UsageError
from slurm_tf.train.collectives import allreduce

FILE = "data_positions.npz"
# Of all tasks together: they go through memory and, eight bytes as one number, through the collective.
_MOST_BYTES = 256 << 20
_WORD = 8
# Of ExternalStatePolicy: a state that is not in the position is an error.
_FAIL = 2
# The inputs of operations that are the two parts of a seed; both are 0 if the program states none.
_SEEDS = {"ShuffleDataset": (2, 3), "RandomDataset": (0, 1)}
_DO = "or leave the iterator out of run.checkpoint: then a run that goes on starts the data anew"


def separated(tracked: Mapping[str, Any], strategy: str) -> Tuple[Dict[str, Any], List[Any]]:
    """Return what TensorFlow's checkpoint keeps of `tracked`, and the iterators. Raises UsageError.

    An iterator is refused whose position cannot be saved, so that a resumed run would have other samples.
    """
    iterators = {name: each for name, each in tracked.items() if isinstance(each, tf.data.Iterator)}
    others = {name: each for name, each in tracked.items() if name not in iterators}
    if any(isinstance(each, tf.data.Iterator) for each in tf.nest.flatten(others)):
        raise UsageError("found an iterator inside of a structure", "run.checkpoint(..., data=iterator)")
    for name, iterator in iterators.items():
        if strategy in ("mirrored", "ps"):
            needed = "run.records or run.batches, whose position is the step"
            raise UsageError(f"found the iterator {name} under strategy {strategy}", needed, _DO)
        _check(name, iterator)
    return others, list(iterators.values())


def gather(collective: allreduce.Collective, iterators: Sequence[Any]) -> bytes:
    """Return the positions in all tasks as the contents of a file. Collective. Raises UsageError for large ones."""
    arrays = {}
    for number, iterator in enumerate(iterators):
        data = position(iterator)
        own = tf.one_hot(collective.rank, collective.size, dtype=tf.int64)
        (lengths,) = collective.sum([own * len(data)])
        longest = int(tf.reduce_max(lengths))
        if longest * collective.size > _MOST_BYTES:
            found = f"the position in the data has {longest / 2**20:.0f} MiB"
            needed = (
                f"at most {_MOST_BYTES // collective.size / 2**20:.0f} MiB a task: shuffle's buffer is a part of it"
            )
            raise UsageError(found, needed, f"shuffle in a smaller buffer, {_DO}")
        # few different widths, as a function is built for each shape
        width = 1 << max(-(-longest // _WORD) - 1, 0).bit_length()
        words = tf.constant(np.frombuffer(data.ljust(width * _WORD, b"\0"), np.int64))
        (rows,) = collective.sum([own[:, tf.newaxis] * words])
        arrays[f"lengths_{number}"], arrays[f"rows_{number}"] = lengths.numpy(), rows.numpy()
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def restore(collective: allreduce.Collective, data: Optional[bytes], iterators: Sequence[Any]) -> bool:
    """Set the iterators to the positions that `gather` saved in `data`; return whether they are there. Collective.

    Rank 0 alone has `data`; None: there is no file. Positions of another number of tasks or of iterators are not used.
    Raises CheckpointError for those of another pipeline.
    """
    saved = _saved(data, collective, len(iterators))
    if not iterators:
        return False
    (widths,) = collective.sum([tf.constant([rows.shape[1] for _, rows in saved] or [0] * len(iterators), tf.int64)])
    if not int(tf.reduce_max(widths)):
        return False
    for number, (iterator, width) in enumerate(zip(iterators, widths.numpy().tolist())):
        lengths, rows = saved[number] if saved else _nothing(collective.size, width)
        lengths, rows = (each.numpy() for each in collective.sum([tf.constant(lengths), tf.constant(rows)]))
        set_position(iterator, rows[collective.rank].tobytes()[: int(lengths[collective.rank])])
    return True


_Saved = List[Tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def _saved(data: Optional[bytes], collective: allreduce.Collective, count: int) -> _Saved:
    """Return the lengths and rows of each iterator; none if they do not fit, or this task does not have them."""
    if data is None or collective.rank != 0:
        return []
    with np.load(io.BytesIO(data)) as file:
        found = [(file[f"lengths_{number}"], file[f"rows_{number}"]) for number in range(len(file.files) // 2)]
    return found if len(found) == count and all(len(each) == collective.size for each, _ in found) else []


def _nothing(size: int, width: int) -> Tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return np.zeros(size, np.int64), np.zeros((size, width), np.int64)


def _check(name: str, iterator: Any) -> None:
    """Raise UsageError for an iterator whose position TensorFlow cannot save, or not all of it."""
    try:
        position(iterator)
        operation = _unseeded(iterator)
    except tf.errors.OpError as error:
        why = error.message.rpartition("}} ")[2].partition(" [")[0]
        found = f"found the iterator {name}, whose position TensorFlow cannot save ({why})"
        needed = "TensorFlow's operations without a state: no Python code, no tf.random, no Variable, no inner shuffle"
        raise UsageError(found, needed, f"use tf.random.stateless_uniform and the like, {_DO}") from error
    # TensorFlow saves where an unseeded shuffle is, but not how it goes on
    if operation:
        found = f"found {operation} without a seed in the iterator {name}"
        raise UsageError(found, "a seed, as in shuffle(n, seed=1)", _DO)


def _unseeded(iterator: Any) -> str:
    """Return an operation of the data set that is random and has no seed, "" if there is none."""
    variant = tf.data.experimental.to_variant(iterator._dataset)
    graph = graph_pb2.GraphDef.FromString(tf.raw_ops.DatasetToGraphV2(input_dataset=variant).numpy())
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    for node in graph.node:
        seeds = [constants.get(node.input[place]) for place in _SEEDS.get(node.op.rstrip("V0123456789"), ())]
        if seeds and all(seed is not None and not tf.make_ndarray(seed).any() for seed in seeds):
            return str(node.op)
    return ""


def position(iterator: Any) -> bytes:
    """Return the position of an iterator. Raises OpError."""
    resource = iterator._iterator_resource
    state = tf.raw_ops.SerializeIterator(resource_handle=resource, external_state_policy=_FAIL)
    data: bytes = tf.io.serialize_tensor(state).numpy()
    return data


def set_position(iterator: Any, data: bytes) -> None:
    """Set an iterator to a position. Raises CheckpointError for that of another pipeline."""
    state = tf.io.parse_tensor(data, tf.variant)
    try:
        tf.raw_ops.DeserializeIterator(resource_handle=iterator._iterator_resource, serialized=state)
    except tf.errors.OpError as error:
        raise CheckpointError(
            f"the position in the data does not fit the data set of the program: {error.message}",
            "the data set that it was saved with",
            "use another --name for a changed program",
        ) from error
