"""Arrays as the samples of batches."""

from typing import Any, Tuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.data.sample_orders import WholeOrder


class Arrays:
    """An array, or a structure of arrays of one length. Raises UsageError."""

    read_types = (tf.int64,)
    sample_bytes = 8

    def __init__(self, arrays: Any, seed: int) -> None:
        lengths = {len(array) for array in tf.nest.flatten(arrays)}
        if len(lengths) != 1:
            raise UsageError(f"found arrays of {sorted(lengths)} samples", "arrays of one length")
        self.samples = lengths.pop()
        self.order = WholeOrder(self.samples, seed)
        self.has_weights = isinstance(arrays, (tuple, list)) and len(arrays) == 3
        if self.has_weights and tf.nest.is_nested(arrays[2]):
            raise UsageError("found a structure of weights", "one array of weights as the third of (x, y, weights)")
        self._tensors = tf.nest.map_structure(tf.convert_to_tensor, arrays)

    def prepare(self, epoch: int, first: int, rank: int, size: int) -> None:
        """Do nothing, as arrays are in memory."""

    def read(self, indices: npt.NDArray[np.int64]) -> Tuple[npt.NDArray[np.int64]]:
        """Return the indices, by which `decode` takes the samples."""
        return (indices,)

    def elements(self, indices: tf.Tensor) -> tf.Tensor:
        """Return the indices."""
        return indices

    def decode(self, elements: tf.Tensor) -> Any:
        """Return the samples with these indices."""
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, elements), self._tensors)
