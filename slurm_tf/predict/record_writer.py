"""Writes answers to a TFRecord file, row by row in their order. For Python 3.9; imports TensorFlow."""

import contextlib
import errno
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np
import tensorflow as tf

from slurm_tf.errors import ModelError
from slurm_tf.predict.answers import ERROR, Answers, Output
from slurm_tf.predict.row_writers import kept_lists, text_of

_INT64 = range(-(2**63), 2**63)
# The list of a tf.train.Feature that holds the values of an array, by the kind of its numpy type.
_LISTS = {"f": "float_list", "i": "int64_list", "u": "int64_list", "b": "int64_list", "O": "bytes_list"}


def check(version: str, outputs: Sequence[Output]) -> None:
    """Raise ModelError for outputs that no tf.train.Example holds."""
    for output in outputs:
        if output.dtype == np.uint64:
            found = f"its output {output.name!r} has numbers up to 2**64"
            raise ModelError(found, "at most 2**63, as tf.train.Example has them", "write another format", version)


class RecordWriter:
    """Writes a tf.train.Example for each row, with a feature for what is kept, and for each output or the error.

    Floats have 32 bits there, and arrays are flat.
    """

    def __init__(self, path: str) -> None:
        """Open a file, which is empty. Raises OSError."""
        self._path = path
        with _explained(path):
            self._file = tf.io.TFRecordWriter(path)

    def write(self, answers: Answers) -> None:
        """Write some rows. Raises OSError."""
        kept = [(name, list(map(_feature, column))) for name, column in kept_lists(answers).items()]
        outputs = [(name, _LISTS[array.dtype.kind], _flat(array)) for name, array in answers.outputs.items()]
        for row in range(answers.rows):
            example = tf.train.Example()
            features = example.features.feature
            for name, column in kept:
                kind, values = column[row]
                if values:
                    getattr(features[name], kind).value.extend(values)
            for name, kind, rows in outputs:
                values = getattr(features[name], kind)
                values.SetInParent()  # also for none
                values.value.extend(rows[row])
            if answers.error:
                features[ERROR].bytes_list.value.append(answers.error.encode())
            with _explained(self._path):
                self._file.write(example.SerializeToString(deterministic=True))

    def close(self) -> None:
        """Hand over what was written to the system. Raises OSError."""
        with _explained(self._path):
            self._file.close()


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Raise what TensorFlow says of a file as OSError: a full disk is no other error there."""
    try:
        yield
    except tf.errors.OpError as error:
        number = errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO
        raise OSError(number, error.message, path) from error


def _flat(array: "np.ndarray[Any, Any]") -> List[List[Any]]:
    numbers = array.astype(np.int64) if array.dtype.kind == "b" else array
    rows: List[List[Any]] = numbers.reshape(len(array), -1).tolist() if array.size else [[]] * len(array)
    return rows


def _feature(value: Any) -> "Tuple[str, List[Any]]":
    """Return in which list of a tf.train.Feature the values of one that is kept are, and those; none for None."""
    values = value if isinstance(value, list) else [value]
    if all(isinstance(each, bytes) for each in values):
        return "bytes_list", values
    if all(isinstance(each, int) and each in _INT64 for each in values):
        return "int64_list", list(map(int, values))
    if all(isinstance(each, float) for each in values):
        return "float_list", values
    text = text_of(value)
    return "bytes_list", [] if text is None else [text.encode()]
