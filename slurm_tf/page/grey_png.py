"""Writes pixels as a PNG file (RFC 2083), which a browser shows: no library for images is needed."""

import struct
import zlib
from collections.abc import Sequence

_GREY, _RGB = 0, 2
_START = b"\x89PNG\r\n\x1a\n"


def encode(values: Sequence[float], shape: Sequence[int], low: float, high: float) -> bytes:
    """Return the PNG of an array of `shape`, rows x columns or rows x columns x channels (1 or 3), row by row.

    `low` becomes black and `high` white.
    """
    rows, columns, channels = (*shape, 1)[:3]
    scale = 255.0 / (high - low) if high > low else 0.0
    pixels = bytes(min(255, max(0, round((value - low) * scale))) for value in values)
    width = columns * channels
    lines = b"".join(b"\0" + pixels[row * width : (row + 1) * width].ljust(width, b"\0") for row in range(rows))
    header = struct.pack(">IIBBBBB", columns, rows, 8, _RGB if channels == 3 else _GREY, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return _START + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
