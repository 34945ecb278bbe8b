"""Reads the records of a TFRecord file without TensorFlow, each compared with its checksums."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from slurm_tf.dataset.record_frame import FRAME, HEAD, LENGTH, SUM
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import checksum

# Of the longest record that is read: a length with a sound checksum may still be nonsense.
_LONGEST = 1 << 31


def records(path: str, file: BinaryIO, is_compressed: bool) -> Iterator[bytes]:
    """Yield the records of an open file; `path` is for errors.

    Raises DatasetError, which names the record and its offset, for one that is cut off or not what its checksum says.
    """
    source = gzip.GzipFile(fileobj=file, mode="rb") if is_compressed else file
    offset = number = 0
    try:
        while head := source.read(HEAD):
            length = int.from_bytes(head[:LENGTH], "little")
            where = f"{path}: record {number}, at byte {offset}"
            if _is_wrong(head[:LENGTH], head[LENGTH:]) or length > _LONGEST:
                raise _damaged("the length of the record is damaged or cut off", where)
            record, found = source.read(length), source.read(SUM)
            if len(record) < length or len(found) < SUM:
                raise _damaged("the file ends within the record", where)
            if _is_wrong(record, found):
                raise _damaged("the record is not what its checksum says", where)
            yield record
            offset, number = offset + FRAME + length, number + 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(f"what is compressed cannot be read ({error})", f"{path}: record {number}") from error


def _is_wrong(data: bytes, found: bytes) -> bool:
    return checksum.of_record(data).to_bytes(SUM, "little") != found


def _damaged(found: str, where: str) -> DatasetError:
    return DatasetError(found, "records as they were written", "copy or prepare the data set again", where)
