"""What was learned from the rows of train, as files in the folder assets of a data set. For Python 3.9.

A vocabulary is text: a word a line, the most frequent one first, as `tf.keras.layers.StringLookup(vocabulary=FILE,
mask_token="")` reads it. The first word is number 2, as 0 is padding and 1 any other word.
"""

import os
from dataclasses import dataclass
from typing import Sequence, Tuple

from slurm_tf import files
from slurm_tf.dataset import format_json
from slurm_tf.dataset.dataset_manifest import ASSETS

# The numbers of padding, which is the empty text, of words that no vocabulary has, and of its first word.
PADDING, UNKNOWN, FIRST = 0, 1, 2


@dataclass(frozen=True)
class Buckets:
    """Edges of buckets: below all of them is bucket 0; from edge i, counted from 0, to the next one is bucket i + 1."""

    edges: Tuple[float, ...]


@dataclass(frozen=True)
class Normalization:
    """The mean and the variance of a feature in train, as tf.keras.layers.Normalization takes them."""

    mean: float
    variance: float


def vocabulary_name(feature: str) -> str:
    """Return the name of the file with the vocabulary of a feature."""
    return f"{feature}.vocab.txt"


def buckets_name(feature: str) -> str:
    """Return the name of the file with the buckets of a feature."""
    return f"{feature}.buckets.json"


def normalization_name(feature: str) -> str:
    """Return the name of the file with the mean and the variance of a feature."""
    return f"{feature}.normalization.json"


def path(folder: str, name: str) -> str:
    """Return the path of an asset of the data set in `folder`."""
    return os.path.join(folder, ASSETS, name)


def write_vocabulary(folder: str, feature: str, words: Sequence[str]) -> None:
    """Write the vocabulary of a feature. Raises OSError."""
    files.write_whole(path(folder, vocabulary_name(feature)), "".join(f"{word}\n" for word in words).encode())


def read_vocabulary(folder: str, feature: str) -> Tuple[str, ...]:
    """Return the words of a feature, of which the first has the number FIRST. Raises OSError."""
    with open(path(folder, vocabulary_name(feature)), encoding="utf-8", newline="\n") as file:
        return tuple(line[:-1] for line in file)


def write_buckets(folder: str, feature: str, buckets: Buckets) -> None:
    """Write the buckets of a feature. Raises OSError."""
    format_json.write(path(folder, buckets_name(feature)), buckets)


def read_buckets(folder: str, feature: str) -> Buckets:
    """Return the buckets of a feature. Raises DatasetError and OSError."""
    return format_json.read(path(folder, buckets_name(feature)), Buckets)


def write_normalization(folder: str, feature: str, normalization: Normalization) -> None:
    """Write the mean and the variance of a feature. Raises OSError."""
    format_json.write(path(folder, normalization_name(feature)), normalization)


def read_normalization(folder: str, feature: str) -> Normalization:
    """Return the mean and the variance of a feature. Raises DatasetError and OSError."""
    return format_json.read(path(folder, normalization_name(feature)), Normalization)
