"""Finds images that were cut off or changed, from their structure alone: no pixel is decoded.

PNG (ISO/IEC 15948) is chunks, each with its length and its CRC-32. JPEG (ITU-T T.81) is segments with a length, scans
of compressed data between them, and a marker at its end; it has no checksum, so that a changed byte of a scan is not
found.
"""

import struct
import zlib
from collections.abc import Callable

from slurm_tf.errors import DatasetError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_SCAN, _END = 0xDA, 0xD9
# Markers without a length: of a restart, and TEM.
_ALONE = frozenset((*range(0xD0, 0xD8), 0x01))
SUFFIXES = (".png", ".jpg", ".jpeg")


def check(path: str) -> None:
    """Raise DatasetError for a file that is no whole image of the kind that its name says."""
    with open(path, "rb") as file:
        data = file.read()
    kind, damage = ("PNG", _png_damage) if path.lower().endswith(".png") else ("JPEG", _jpeg_damage)
    found = _damage(data, damage)
    if found:
        raise DatasetError(f"the file is no whole image: {found}", f"a {kind} file", where=path)


def _damage(data: bytes, of_kind: Callable[[bytes], str]) -> str:
    try:
        return of_kind(data)
    except (struct.error, IndexError):
        return f"it ends after {len(data)} bytes"


def _png_damage(data: bytes) -> str:
    """Return what is wrong with the bytes of a PNG file, "" if nothing is.

    Raises struct.error if they end too early.
    """
    if not data.startswith(_PNG):
        return "it does not begin as PNG does"
    names: list[bytes] = []
    at = len(_PNG)
    while names[-1:] != [b"IEND"]:
        length, name = struct.unpack_from(">I4s", data, at)
        (stated,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(data[at + 4 : at + 8 + length]) != stated:
            return f"the bytes from {at} on are not those that were written"
        names.append(name)
        at += 12 + length
    return "" if names[0] == b"IHDR" and b"IDAT" in names else "it has no pixels"


def _jpeg_damage(data: bytes) -> str:
    """Return what is wrong with the bytes of a JPEG file, "" if nothing is.

    Raises struct.error and IndexError if they end too early.
    """
    if not data.startswith(_JPEG):
        return "it does not begin as JPEG does"
    at, has_scan = len(_JPEG), False
    while True:
        if data[at] != 0xFF:
            return f"there is no marker at byte {at}"
        marker = data[at + 1]
        if marker == _END:
            return "" if has_scan else "it has no pixels"
        if marker == 0xFF:  # a byte that fills
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + length
            if marker == _SCAN:
                has_scan, at = True, _after_scan(data, at)


def _after_scan(data: bytes, at: int) -> int:
    """Return where the next marker is after compressed data. Raises IndexError if there is none."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise IndexError(at)
        if data[at + 1] != 0 and data[at + 1] not in _ALONE:  # 0 follows on a byte of the data that is 0xFF
            return at
        at += 2
