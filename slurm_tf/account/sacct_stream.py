"""Reads what sacct streams into tables, in parts that end where a job does."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from slurm_tf.account.database import Tables
from slurm_tf.errors import SlurmError
from slurm_tf.slurm.sacct import Printed

# A part's text, which is on disk: each part costs the time to plan its queries.
PART = 192 << 20
# Of a part that is read field by field, so much is in memory.
_BLOCK = 8 << 20


def read(found: Tables, printed: Printed, names: Sequence[str]) -> None:
    """Read all rows. Raises SlurmError if the output is not whole rows, and what sacct raises."""
    path = found.folder / "sacct.txt"
    with path.open("w+b") as file:
        part = _Part(found, printed.separator, names, file, path)
        for chunk in printed.chunks:
            part.add(chunk)
        part.end()
    path.unlink()


class _Part:
    """The text that was not read yet, in a file."""

    def __init__(self, found: Tables, separator: bytes, names: Sequence[str], file: BinaryIO, path: Path) -> None:
        self._found, self._separator, self._names, self._file, self._path = found, separator, names, file, path
        self._size = self._lines = 0
        self._is_odd = False  # whether it has bytes that DuckDB takes for the end of a row or of the text

    def add(self, chunk: bytes) -> None:
        """Add text; read all before the last job in it once there is enough."""
        cut = last_job(chunk, self._separator + b"\n", self._separator) if self._size + len(chunk) >= PART else 0
        if cut:
            self._write(chunk[:cut])
            rest = self._read(is_last=False)
            self._write(rest)
        self._write(chunk[cut:])

    def end(self) -> None:
        """Read the rest. Raises SlurmError if it is not whole rows."""
        if self._read(is_last=True):
            raise SlurmError("sacct's output ends inside a row", "all of it", "run it again")

    def _write(self, text: bytes) -> None:
        self._file.write(text)
        self._size += len(text)
        self._lines += text.count(b"\n")
        self._is_odd = self._is_odd or b"\r" in text or b"\0" in text

    def _read(self, is_last: bool) -> bytes:
        """Read the part, and begin the next one; return the bytes at its end that are no row."""
        if not self._size:
            return b""
        self._file.flush()
        rest = b""
        is_read = not self._is_odd and self._found.read_text(
            self._path, (*self._names, ""), self._separator.decode(), self._lines, is_local=False
        )
        if not is_read:
            rest = self._read_counted(is_last)
        self._file.seek(0)
        self._file.truncate()
        self._size = self._lines = 0
        self._is_odd = False
        return rest

    def _read_counted(self, is_last: bool) -> bytes:
        """Read rows whose fields may hold newlines, as fields are counted; return what is no row."""
        self._file.seek(0)
        rest = b""
        while block := self._file.read(_BLOCK):
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
