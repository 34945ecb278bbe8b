"""The frame of a record in a TFRecord file: its length, a checksum of that, the record, and its checksum.

Source: tensorflow/core/lib/io/record_writer.h. For Python 3.9.
"""

import gzip
import os
from typing import Iterator

from slurm_tf.errors import DatasetError

# Bytes of a record's length, and of each checksum; of what is before and behind a record, and of both.
LENGTH, SUM = 8, 4
HEAD, FOOT = LENGTH + SUM, SUM
FRAME = HEAD + FOOT


def lengths(path: str) -> Iterator[int]:
    """Yield the length of each record of a file, plain or compressed; no record is read. Raises DatasetError."""
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        while head := file.read(HEAD):
            length = int.from_bytes(head[:LENGTH], "little")
            file.seek(length + FOOT - 1, os.SEEK_CUR)
            if len(head) < HEAD or len(file.read(1)) < 1:
                raise DatasetError("the file ends within a record", "whole records", where=path)
            yield length
