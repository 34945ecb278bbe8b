"""Whether one thread computes a call of a model, or TensorFlow divides its operations among all cores.

To wake other threads and wait for them takes longer than a small model's call: one of a convolution of 28 x 28 pixels
takes 43 us by one thread, 150 to 230 by two (TensorFlow 2.21 with oneDNN on two cores).
"""

import os

# A row of a call that takes longer by one thread is worth dividing.
ROW_SECONDS = 0.0002
# A million weights: a row of more takes about that long, and to load such a model twice takes time.
_MOST_BYTES = 4 << 20


def is_small(path: str) -> bool:
    """Return whether one thread may do for the SavedModel in a folder, by the size of its weights."""
    folder = os.path.join(path, "variables")
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries) <= _MOST_BYTES
    except FileNotFoundError:
        return True  # a SavedModel without variables has no such folder


def one_suffices(row_seconds: float) -> bool:
    """Return whether one thread does for a model, by how long a row takes it."""
    return row_seconds <= ROW_SECONDS
