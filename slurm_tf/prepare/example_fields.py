"""Reads features of a serialised tf.train.Example or SequenceExample, without TensorFlow and protobuf."""

import struct
from collections.abc import Collection, Iterator

from slurm_tf.errors import DatasetError
from slurm_tf.prepare import varint

# Tags of fields 1 to 3 that have a length: those of a message, of a map's entry, and the kinds of a Feature.
_FIELD_1, _FIELD_2, _FIELD_3 = 0x0A, 0x12, 0x1A
_SIGN = 1 << 63


def without(message: bytes, names: Collection[bytes]) -> bytes:
    """Return a message without the features and sequences of these names. Raises DatasetError."""
    parts = []
    for tag, features in _fields(message):
        kept = [entry for _, entry in _fields(features) if _value(entry, _FIELD_1) not in names]
        parts.append(_field(tag, b"".join(_field(_FIELD_1, entry) for entry in kept)))
    return b"".join(parts)


def feature(message: bytes, name: bytes) -> bytes | None:
    """Return the serialised Feature of a name, the same bytes for the same values; None if the message has none.

    Sequences are not looked at. It is called for each record: nothing is copied but what is returned. Raises
    DatasetError.
    """
    at, end = 0, len(message)
    try:
        while at < end:
            tag = message[at]
            size, at = varint.decoded(message, at + 1)
            if tag == _FIELD_1:
                return _feature_between(message, name, at, at + size)
            at += size
    except IndexError as error:
        raise _no_example() from error
    return None


def _feature_between(message: bytes, name: bytes, at: int, end: int) -> bytes | None:
    """Return the value of an entry of the map that stands between two places. Raises IndexError and DatasetError."""
    while at < end:
        size, start = varint.decoded(message, at + 1)
        at = start + size
        length, key = varint.decoded(message, start + 1)
        if length == len(name) and message.startswith(name, key):
            size, start = varint.decoded(message, key + length + 1)
            return message[start : start + size]
    if at != end:
        raise _no_example()
    return None


def values(of_feature: bytes) -> list[int] | list[float] | list[bytes]:
    """Return the values of a serialised Feature. Raises DatasetError."""
    for tag, content in _fields(of_feature):
        if tag == _FIELD_1:
            return [value for _, value in _fields(content)]
        packed = _value(content, _FIELD_1)
        if tag == _FIELD_2:
            return [value for (value,) in struct.iter_unpack("<f", packed)]
        return list(_integers(packed))
    return []


def _integers(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        number, at = varint.decoded(packed, at)
        yield number - 2 * _SIGN if number >= _SIGN else number


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a message, all of which have a length."""
    at = 0
    while at < len(message):
        tag = message[at]
        try:
            size, start = varint.decoded(message, at + 1)
        except IndexError:
            size, start = len(message), at
        at = start + size
        if tag not in (_FIELD_1, _FIELD_2, _FIELD_3) or at > len(message):
            raise _no_example()
        yield tag, message[start:at]


def _value(message: bytes, wanted: int) -> bytes:
    return next((content for tag, content in _fields(message) if tag == wanted), b"")


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint.encoded(len(content)) + content


def _no_example() -> DatasetError:
    return DatasetError("a record is no tf.train.Example", "one, or a tf.train.SequenceExample")
