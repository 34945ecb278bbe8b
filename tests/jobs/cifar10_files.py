"""Writes a small data set in the format of CIFAR-10, whose classes can be told apart."""

from pathlib import Path

import numpy as np

NAMES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def write(folder: Path, per_file: int) -> None:
    """Write the six files, each with `per_file` noisy images of ten patterns."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    for name in NAMES:
        labels = np.arange(per_file) % 10
        images = (patterns[labels] + random.normal(0, 40, (per_file, 3, 32, 32))).clip(0, 255)
        np.concatenate([labels[:, None], images.reshape(per_file, -1)], axis=1).astype(np.uint8).tofile(folder / name)
