"""Writes answers to a file, row by row in their order. For Python 3.9."""

import base64
import json
from typing import Any, List

import msgspec
import numpy as np

from slurm_tf.predict.answers import ERROR, Answers


class JsonLinesWriter:
    """Writes a line of JSON for each row: an object with the outputs by their names, or with the error."""

    def __init__(self, path: str) -> None:
        """Open a file, which is empty. Raises OSError."""
        self._file = open(path, "wb")  # noqa: SIM115 - close() is for it

    def write(self, answers: Answers) -> None:
        """Write some rows. Raises OSError."""
        self._file.write(_json_lines(answers))

    def close(self) -> None:
        """Hand over what was written to the system. Raises OSError."""
        self._file.close()


_FAST = msgspec.json.Encoder()


def _json_lines(answers: Answers) -> bytes:
    if answers.error:
        return _FAST.encode({ERROR: answers.error}) + b"\n"
    names = list(answers.outputs)
    rows = (dict(zip(names, values)) for values in zip(*map(_values, answers.outputs.values())))
    if all(map(_is_finite, answers.outputs.values())):
        return b"".join([_FAST.encode(row) + b"\n" for row in rows])
    # NaN and infinity as Python, JavaScript's JSON5 and TensorFlow Serving write them: msgspec makes them null
    return "".join([json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]).encode()


def _is_finite(array: "np.ndarray[Any, Any]") -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _values(array: "np.ndarray[Any, Any]") -> List[Any]:
    """Return an array as lists, of a value for each row: numbers, and text for bytes."""
    values: List[Any] = array.tolist()
    return list(map(_text, values)) if array.dtype == object else values


def _text(value: Any) -> Any:
    """Return bytes as text, or as TensorFlow Serving writes those that are none."""
    if isinstance(value, list):
        return [_text(each) for each in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
