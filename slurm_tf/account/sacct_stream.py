"""Reads what sacct streams into tables, in parts that end where a job does."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from slurm_tf.account.database import Tables
from slurm_tf.errors import SlurmError
from slurm_tf.slurm.sacct import Printed

# A part's text, which is on disk: each part costs the time to plan its queries.
PART = 96 << 20
# Of a part that is read field by field, so much is in memory.
_BLOCK = 8 << 20


def read(found: Tables, printed: Printed, names: Sequence[str]) -> None:
    """Read all rows. Raises SlurmError if the output is not whole rows, and what sacct raises."""
    with ThreadPoolExecutor(1) as thread:
        parts = _Parts(found, printed.separator, names, thread)
        for chunk in printed.chunks:
            parts.add(chunk)
        parts.end()


class _Parts:
    """The parts: one is written while the one before it is read, in a thread which alone uses the tables meanwhile."""

    def __init__(self, found: Tables, separator: bytes, names: Sequence[str], thread: ThreadPoolExecutor) -> None:
        self._separator, self._thread, self._folder = separator, thread, found.folder
        self._reader = _Reader(found, separator, names)
        self._pending: list[Future[bytes]] = []  # what each part had at its end that is no row
        self._number = 0
        self._begin()

    def add(self, chunk: bytes) -> None:
        """Add text; begin another part at the last job in it once there is enough."""
        is_full = self._size + len(chunk) >= PART
        cut = last_job(chunk, self._separator + b"\n", self._separator) if is_full else 0
        if cut:
            self._write(chunk[:cut])
            self._hand_over(is_last=False)
        self._write(chunk[cut:])

    def end(self) -> None:
        """Read the rest. Raises SlurmError if it is not whole rows."""
        self._hand_over(is_last=True)
        self._file.close()
        os.unlink(self._path)
        if self._pending[-1].result():
            raise SlurmError("sacct's output ends inside a row", "all of it", "run it again")

    def _begin(self) -> None:
        self._number += 1
        self._path = self._folder / f"sacct-{self._number}.txt"
        self._file = self._path.open("wb")
        self._size = self._lines = 0
        self._is_odd = False  # whether it has bytes that DuckDB takes for the end of a row or of the text

    def _write(self, text: bytes) -> None:
        self._file.write(text)
        self._size += len(text)
        self._lines += text.count(b"\n")
        self._is_odd = self._is_odd or b"\r" in text or b"\0" in text

    def _hand_over(self, is_last: bool) -> None:
        """Have the part read, once the one before it is; wait for that, as two parts are enough on disk."""
        self._file.close()
        rest = self._pending[-1].result() if self._pending else b""
        lines = 0 if self._is_odd or rest else self._lines
        self._pending = [self._thread.submit(self._reader.read, self._path, lines, rest, is_last)]
        self._begin()


class _Reader:
    """Reads parts into tables."""

    def __init__(self, found: Tables, separator: bytes, names: Sequence[str]) -> None:
        self._found, self._separator, self._names = found, separator, names

    def read(self, path: Path, lines: int, rest: bytes, is_last: bool) -> bytes:
        """Read a part, and remove its file; return what is no row at its end.

        `lines`: how many it has, 0 if it is to be read field by field, after `rest`.
        """
        names, separator = (*self._names, ""), self._separator.decode()
        try:
            if lines and self._found.read_text(path, names, separator, lines, is_local=False):
                return b""
            return self._read_counted(path, rest, is_last)
        finally:
            path.unlink()

    def _read_counted(self, path: Path, rest: bytes, is_last: bool) -> bytes:
        """Read rows whose fields may hold newlines, as fields are counted; return what is no row."""
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                rest = self._read_rows(rest + block, is_last=False)
        return self._read_rows(rest, is_last=True) if is_last else rest

    def _read_rows(self, text: bytes, is_last: bool) -> bytes:
        """Read the rows up to the last job; return the rest."""
        separator, width = self._separator, len(self._names)
        fields = text.split(separator)
        count = (len(fields) - 1) // width
        rows = [fields[at * width : (at + 1) * width] for at in range(count)]
        for number, row in enumerate(rows):
            if number and not row[0].startswith(b"\n"):
                raise SlurmError(f"sacct printed {row[0]!r} where a row begins", f"{width} fields in each")
        if not is_last:
            count = next((at for at in range(count - 1, -1, -1) if b"." not in rows[at][0]), 0)
        end = sum(len(field) + len(separator) for row in rows[:count] for field in row)
        self._found.read_rows(
            (
                [field.decode(errors="backslashreplace") for field in (row[0].removeprefix(b"\n"), *row[1:])]
                for row in rows[:count]
            ),
            self._names,
        )
        return text[end:].removeprefix(b"\n")


def last_job(text: bytes, end_of_row: bytes, separator: bytes) -> int:
    """Return where the last row of a job seems to begin, 0 if that is not found."""
    end = len(text)
    while (end := text.rfind(end_of_row, 0, end)) >= 0:
        begin = end + len(end_of_row)
        if b"." not in text[begin : text.find(separator, begin)]:
            return begin
    return 0
