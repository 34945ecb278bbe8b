"""Reads what a program reports while it trains: what was added to progress.jsonl since the last time."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from slurm_tf.run import progress
from slurm_tf.run.progress import StepReport

# So many bytes before a position tell whether a file is still the one that was read up to there.
_TAIL = 256


@dataclass(frozen=True, slots=True)
class FilePosition:
    """Up to which byte a file was read; `checksum`: CRC-32 of the last bytes before it, as the file may be replaced."""

    offset: int = 0
    checksum: int = 0

    def __str__(self) -> str:
        return f"{self.offset}-{self.checksum}"

    @classmethod
    def parse(cls, text: str) -> "FilePosition":
        """Return the position that `str` gave; the start of the file for any other text."""
        offset, _, checksum = text.partition("-")
        is_position = all(each.isascii() and each.isdigit() and len(each) < 16 for each in (offset, checksum))
        return cls(int(offset), int(checksum)) if is_position else cls()


@dataclass(frozen=True, slots=True)
class NewReports:
    """What was added to a file up to `position`. `is_whole`: it is all that the file has, in the place of any before.

    A file is replaced where steps are done again, and where it has become long: see run/progress.py.
    """

    reports: Sequence[StepReport]
    position: FilePosition
    is_whole: bool


def read_new(path: str, since: FilePosition) -> NewReports | None:
    """Return what a file has after the position `since`; None for nothing, and where there is no file. Raises OSError.

    A line that is not yet written to its end is left for the next time.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            is_same = since.offset <= size and _position(file, since.offset) == since
            start = since.offset if is_same else 0
            if is_same and size == start:
                return None
            file.seek(start)
            data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            if is_same and not whole:
                return None
            return NewReports(progress.parse(whole), _position(file, start + len(whole)), start == 0)
    except FileNotFoundError:
        return None


def _position(file: BinaryIO, offset: int) -> FilePosition:
    start = max(0, offset - _TAIL)
    file.seek(start)
    return FilePosition(offset, zlib.crc32(file.read(offset - start)))
