"""Horovod's collectives, as `allreduce` wants them. Imported only under strategy horovod."""

import functools
import os
from typing import Any, List, Sequence

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.collectives import allreduce

try:
    import horovod.tensorflow as hvd
except (ImportError, tf.errors.NotFoundError) as error:
    # of another TensorFlow, it does not load
    raise UsageError(
        f"found no Horovod for TensorFlow {tf.__version__} ({str(error).splitlines()[0]})",
        "one that was built for it",
        "slurm-tf plugin horovod --python THIS_PYTHON",
    ) from error

# Horovod 0.28.1 has no sum of these on CPUs
_AS_FLOAT = (tf.bfloat16,)


class HorovodRanks:
    """The processes that Horovod joins, each with one device."""

    def __init__(self, rank: int, size: int) -> None:
        """Meet the others; `rank` and `size` are what Horovod must find as well. Raises UsageError."""
        controller = os.environ.get("HOROVOD_CONTROLLER", "gloo")
        if controller == "mpi" and not hvd.mpi_built():
            found = "this Horovod was built without MPI"
            raise UsageError(found, "MPI for horovod.controller = mpi", "slurm-tf plugin horovod --mpi")
        hvd.init()
        if (hvd.rank(), hvd.size()) != (rank, size):
            raise UsageError(
                f"Horovod's {controller} controller finds rank {hvd.rank()} of {hvd.size()}",
                f"rank {rank} of {size}, as Slurm has it",
                "is it the MPI of srun's --mpi that Horovod was built with?" if controller == "mpi" else "",
            )
        self.rank, self.size = rank, size

    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the processes."""
        return self._reduce(hvd.Average, tensors)

    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the processes."""
        return self._reduce(hvd.Sum, tensors)

    def _reduce(self, how: Any, tensors: Sequence[Any]) -> List[tf.Tensor]:
        dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
        wide = [tf.cast(tensor, tf.float32) if tensor.dtype in _AS_FLOAT else tensor for tensor in dense]
        reduced = allreduce.by_type(wide, functools.partial(hvd.grouped_allreduce, op=how))
        return [tf.cast(tensor, given.dtype) for tensor, given in zip(reduced, dense)]
