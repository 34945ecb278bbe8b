"""Reads the checksums that TensorFlow keeps in a checkpoint's index file.

The index is a table of the LevelDB format (tensorflow/core/lib/io/format.h), uncompressed. Its values are
BundleEntryProto (tensorflow/core/protobuf/tensor_bundle.proto), whose crc32c covers the tensor's bytes in the data
files.
"""

import struct
from typing import Dict, Iterator, Tuple

from tensorflow.core.protobuf import tensor_bundle_pb2

from slurm_tf.errors import CheckpointError

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57


def checksums(prefix: str) -> Dict[str, int]:
    """Return the masked crc32c of every tensor of the checkpoint at `prefix`. Raises CheckpointError or OSError."""
    with open(f"{prefix}.index", "rb") as file:
        data = file.read()
    try:
        return {
            key.decode(): int(tensor_bundle_pb2.BundleEntryProto.FromString(value).crc32c)
            for handle in _entries(data, _index_handle(data))
            for key, value in _entries(data, _block_handle(handle[1], 0)[0])
            if key  # the empty key holds the header
        }
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(f"{prefix}.index is no index of a checkpoint ({error})") from error


def _index_handle(data: bytes) -> Tuple[int, int]:
    footer = data[-_FOOTER_BYTES:]
    if len(footer) != _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("no table")
    _, position = _block_handle(footer, 0)
    return _block_handle(footer, position)[0]


def _block_handle(data: bytes, position: int) -> Tuple[Tuple[int, int], int]:
    """Return (offset, size) of a block, and the position after the handle."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _entries(data: bytes, handle: Tuple[int, int]) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the keys and values of one block.

    A key is stored as the length of the prefix that it shares with the one before, and the rest of it.
    """
    offset, size = handle
    if data[offset + size] != 0:
        raise ValueError("a compressed block")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end, position, key = len(block) - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> Tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position
