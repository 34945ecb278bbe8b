"""Mean and sum over the ranks of Horovod. Imported under strategy horovod only."""

import functools
import os
from typing import Any, List, Sequence

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.collectives import allreduce

try:
    import horovod.tensorflow as hvd
except (ImportError, tf.errors.NotFoundError) as error:
    # NotFoundError: this Horovod was built for another TensorFlow, so its library does not load.
    raise UsageError(
        f"found no Horovod for TensorFlow {tf.__version__} ({str(error).splitlines()[0]})",
        "one that was built for it",
        "slurm-tf plugin horovod --python THIS_PYTHON",
    ) from error

# Horovod 0.28.1 cannot sum these on CPUs.
_REDUCED_AS_FLOAT32 = (tf.bfloat16,)


class HorovodCollective:
    """The collective of Horovod's ranks, each with one device."""

    def __init__(self, rank: int, size: int) -> None:
        """Initialize Horovod. Raises UsageError unless it finds the same `rank` and `size`."""
        controller = os.environ.get("HOROVOD_CONTROLLER", "gloo")
        if controller == "mpi" and not hvd.mpi_built():
            found = "this Horovod was built without MPI"
            raise UsageError(found, "MPI for horovod.controller = mpi", "slurm-tf plugin horovod --mpi")
        hvd.init()
        if (hvd.rank(), hvd.size()) != (rank, size):
            raise UsageError(
                f"Horovod's {controller} controller finds rank {hvd.rank()} of {hvd.size()}",
                f"rank {rank} of {size}, as Slurm has it",
                "check that Horovod was built with the MPI of srun's --mpi" if controller == "mpi" else "",
            )
        self.rank, self.size = rank, size

    @without_autograph
    def mean(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the mean of each tensor over the ranks."""
        return self._reduce(hvd.Average, tensors)

    @without_autograph
    def sum(self, tensors: Sequence[Any]) -> List[tf.Tensor]:
        """Return the sum of each tensor over the ranks."""
        return self._reduce(hvd.Sum, tensors)

    def _reduce(self, reduce_op: Any, tensors: Sequence[Any]) -> List[tf.Tensor]:
        dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
        wide = [tf.cast(tensor, tf.float32) if tensor.dtype in _REDUCED_AS_FLOAT32 else tensor for tensor in dense]
        reduced = allreduce.by_dtype(wide, functools.partial(hvd.grouped_allreduce, op=reduce_op))
        return [tf.cast(tensor, original.dtype) for tensor, original in zip(reduced, dense)]
