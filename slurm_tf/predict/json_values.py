"""Reads and writes JSON: numbers, text, and bytes as TensorFlow Serving writes them. For Python 3.9.

msgspec does it, several times faster than the module json, where the Python of the job has it; the values are the same.
"""

import base64
import datetime
import json
import math
from typing import Any, Callable, List, Mapping, Sequence

import numpy as np

_PLAIN = (str, int, bool, type(None))


def loads(line: bytes) -> Any:
    """Return the value of a line of JSON, in which NaN and Infinity may stand. Raises ValueError."""
    try:
        return _decode(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        return json.loads(line)  # whose message is the usual one


def of_array(array: "np.ndarray[Any, Any]") -> List[Any]:
    """Return an array as lists, of a value for each row: numbers, and text for bytes."""
    values: List[Any] = array.tolist()
    return list(map(_text, values)) if array.dtype == object else values


def lines(rows: Sequence[Mapping[str, Any]], are_plain: bool) -> bytes:
    """Return a line of JSON for each row. `are_plain`: no value is a NaN or infinite, which msgspec makes null."""
    if are_plain:
        try:
            return b"".join([_encode(row) + b"\n" for row in rows])
        except (UnicodeEncodeError, OverflowError):  # half of a character, or an integer of more than 64 bits
            pass
    return b"".join([text(row).encode() + b"\n" for row in rows])


def plain_text(value: Any) -> str:
    """Return the JSON of lists of numbers that are finite, and of text that is UTF-8."""
    return _encode(value).decode()


def text(value: Any) -> str:
    """Return the JSON of a value; NaN and infinity are as Python and TensorFlow Serving write them."""
    return json.dumps(value, separators=(",", ":"), default=_other)


def is_plain(value: Any) -> bool:
    """Whether msgspec writes a value as `text` does."""
    return isinstance(value, _PLAIN) or (isinstance(value, float) and math.isfinite(value))


def _text(value: Any) -> Any:
    return list(map(_text, value)) if isinstance(value, list) else of_bytes(value)


def of_bytes(value: bytes) -> Any:
    """Return bytes as text, or as TensorFlow Serving writes those that are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _other(value: Any) -> Any:
    """Return a value of Parquet that JSON has no type for."""
    if isinstance(value, bytes):
        return of_bytes(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def _text_bytes(value: Any) -> bytes:
    return text(value).encode()


try:
    import msgspec
except ImportError:  # a Python with TensorFlow alone
    _decode: Callable[[bytes], Any] = json.loads
    _encode: Callable[[Any], bytes] = _text_bytes
else:
    _decode, _encode = msgspec.json.decode, msgspec.json.encode
