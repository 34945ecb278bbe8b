"""What a replica and the process beside it say to each other of calls, and where arrays are in their shared memory."""

import math
import mmap
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import numpy as np

_ALIGNMENT = 64  # TensorFlow copies an input that is aligned to less


@dataclass(frozen=True)
class SharedArray:
    """An array in the shared memory, from the byte `offset` on."""

    dtype: np.dtype
    shape: Tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """Return the first byte after it."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def view(self, memory: mmap.mmap) -> np.ndarray:
        """Return the array itself, not a copy."""
        return np.ndarray(self.shape, self.dtype, memory, self.offset)


def place(
    arrays: Sequence[Tuple[np.dtype, Tuple[int, ...]]], begin: int, end: int
) -> Optional[Tuple[SharedArray, ...]]:
    """Return where arrays of these types and shapes are between two bytes, None if they do not fit."""
    placed = []
    for dtype, shape in arrays:
        placed.append(SharedArray(dtype, shape, -(-begin // _ALIGNMENT) * _ALIGNMENT))
        begin = placed[-1].end
    return tuple(placed) if begin <= end else None


@dataclass(frozen=True)
class Load:
    """Load the SavedModel of a folder, and warm it up; it is the version `number` of later calls."""

    number: int
    path: str


@dataclass(frozen=True)
class Unload:
    """Free the memory of a version."""

    number: int
    version: int


@dataclass(frozen=True)
class Call:
    """Call a signature of a loaded version; the outputs go between its inputs and the byte `end`."""

    number: int
    version: int
    signature: str
    outputs: Tuple[str, ...]
    inputs: Tuple[SharedArray, ...]
    end: int


@dataclass(frozen=True)
class Answer:
    """What the message with this number led to. `error`: why it failed. `seconds`: of TensorFlow, for a Call."""

    number: int
    error: str = ""
    outputs: Tuple[SharedArray, ...] = ()
    seconds: float = 0.0
