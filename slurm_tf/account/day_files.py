"""The files of a ledger: Parquet files of one day each, which are written aside, renamed and never changed.

    2026-11-03.jobs.2026-10-20.5f3a9c12.parquet

has the rows of `jobs` that ended on 3 November (UTC), the first of which began on 20 October; the last word is a
checksum. Beside it may be a file of their steps, and one of rows that were open when the day was closed. A file
`.some.` has some rows of a day that is not closed. An empty file

    2026-11-04.none

says that no row ended on a day that is closed.
"""

import os
import re
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from slurm_tf.errors import LedgerError

DAY = 86400
_NAME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)\.(?P<table>jobs|steps|open)\.(?P<some>some\.)?(?P<first>\d{4}-\d\d-\d\d)\."
    r"(?P<checksum>[0-9a-f]{8})\.parquet",
    re.ASCII,
)
_NAME_OF_NONE = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)\.none", re.ASCII)
NONE = "none"  # the table of a file without rows
_CHECKSUM_OF_NOTHING = "00000000"
_BLOCK = 1 << 20
_ASIDE = ".aside-"
_OLD = DAY  # seconds after which a file that was not renamed is of a process that was killed


class DayFile(NamedTuple):
    """One file: its path, its day and that on which the first of its rows began, as days since the epoch."""

    path: Path
    table: str
    day: int
    first: int
    is_closed: bool
    checksum: str

    @property
    def is_sound(self) -> bool:
        """Whether the file has the bytes that were written."""
        if self.table == NONE:
            return True  # its name says all
        try:
            return _checksum(self.path) == self.checksum
        except OSError:
            return False


def listed(folder: Path) -> list[DayFile]:
    """Return the files in a folder, in the order of their names; none if it is not there."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LedgerError(f"it cannot be read: {error.strerror}", where=str(folder)) from error
    return [file for name in names if (file := _named(folder, name))]


def _named(folder: Path, name: str) -> DayFile | None:
    if match := _NAME_OF_NONE.fullmatch(name):
        return _none(folder, number(match["day"]))
    match = _NAME.fullmatch(name)
    return match and DayFile(
        folder / name, match["table"], number(match["day"]), number(match["first"]), not match["some"],
        match["checksum"],
    )  # fmt: skip


def _none(folder: Path, day: int) -> DayFile:
    return DayFile(folder / f"{text(day)}.none", NONE, day, day, True, _CHECKSUM_OF_NOTHING)


class Writing:
    """Files of a folder that are being written: `files` once they have their names."""

    def __init__(self, folder: Path) -> None:
        self.files: list[DayFile] = []
        self._folder = folder
        self._paths: list[Path] = []

    def path(self) -> Path:
        """Return the path to write one file at. Threads may call this."""
        path = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
        self._paths.append(path)
        return path

    def add(self, path: Path, table: str, day: int, first: int, is_closed: bool) -> None:
        """Add a file that was written."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self.files.append(DayFile(path, table, day, first, is_closed, _checksum(path)))

    def add_none(self, day: int) -> None:
        """Add that no row ended on a day."""
        path = self.path()
        path.touch(mode=0o600)
        self.files.append(_none(self._folder, day)._replace(path=path))

    def keep(self) -> None:
        """Give the files their names, in the order in which they were added."""
        self.files = [self._kept(each) for each in self.files]

    def remove(self) -> None:
        """Remove what has no name."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _kept(self, file: DayFile) -> DayFile:
        if file.table == NONE:
            return file._replace(path=file.path.rename(_none(self._folder, file.day).path))
        some = "" if file.is_closed else "some."
        name = f"{text(file.day)}.{file.table}.{some}{text(file.first)}.{file.checksum}.parquet"
        return file._replace(path=file.path.rename(self._folder / name))


@contextmanager
def written(folder: Path) -> Iterator[Writing]:
    """Yield what to write files with; all get their names at the end, or none if it fails. Raises LedgerError."""
    writing = Writing(folder)
    try:
        yield writing
        writing.keep()
    except OSError as error:
        raise LedgerError(f"it cannot be written: {error.strerror}", where=str(folder)) from error
    finally:
        writing.remove()


def remove(folder: Path, files: Iterable[DayFile], now: float) -> None:
    """Remove files, and what processes left behind that were killed while they wrote."""
    for file in files:
        file.path.unlink(missing_ok=True)
    for path in folder.glob(f"{_ASIDE}*"):
        try:
            if now - path.stat().st_mtime > _OLD:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


def text(day: int) -> str:
    """Return a day as in a file's name."""
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")


def number(day: str) -> int:
    """Return the days since the epoch."""
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) // DAY


def _checksum(path: Path) -> str:
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return f"{found:08x}"
