"""The checksum of TFRecord: a masked CRC32C, as tensorflow/core/lib/hash/crc32c.h has it."""

from collections.abc import Iterable

import google_crc32c

_MASK_DELTA, _LOW = 0xA282EAD8, 0xFFFFFFFF


def of_record(data: bytes) -> int:
    """Return the checksum of `data`: its CRC32C turned by 15 bits, and a constant added."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _LOW


def of_records(records: Iterable[bytes]) -> list[int]:
    """Return the checksum of each record; it is faster than one after the other."""
    value = google_crc32c.value
    sums = [value(record) for record in records]
    return [((crc >> 15 | crc << 17) + _MASK_DELTA) & _LOW for crc in sums]
