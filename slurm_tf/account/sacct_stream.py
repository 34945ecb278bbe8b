"""Reads what sacct streams into tables, in parts that end where a job does."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from slurm_tf.account.database import Tables
from slurm_tf.account.text_part import TextPart
from slurm_tf.errors import SlurmError
from slurm_tf.slurm.sacct import Printed

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
        self._number = 0
        self._part = self._next()
        self._pending: Future[bytes] | None = None  # what the part before has at its end that is no row

    def add(self, chunk: bytes) -> None:
        """Add text; begin another part at the last job in it once there is enough."""
        cut = self._part.cut(chunk, self._separator + b"\n", self._separator)
        if cut:
            self._part.write(chunk[:cut])
            self._pending = self._read(is_last=False)
            self._part = self._next()
        self._part.write(chunk[cut:])

    def end(self) -> None:
        """Read the rest. Raises SlurmError if it is not whole rows."""
        if self._read(is_last=True).result():
            raise SlurmError("sacct's output ends inside a row", "all of it", "run it again")

    def _next(self) -> TextPart:
        self._number += 1
        return TextPart(self._folder / f"sacct-{self._number}.txt")

    def _read(self, is_last: bool) -> "Future[bytes]":
        """Have the part read, once the one before it is; wait for that, as two parts are enough on disk."""
        self._part.close()
        rest = self._pending.result() if self._pending else b""
        return self._thread.submit(self._reader.read, self._part, rest, is_last)


class _Reader:
    """Reads parts into tables."""

    def __init__(self, found: Tables, separator: bytes, names: Sequence[str]) -> None:
        self._found, self._separator, self._names = found, separator, names

    def read(self, part: TextPart, rest: bytes, is_last: bool) -> bytes:
        """Read a part that comes after `rest`, and remove its file; return what is no row at its end."""
        names, separator = (*self._names, ""), self._separator.decode()
        is_plain = part.size and not part.is_odd and not rest
        try:
            if is_plain and self._found.read_text(part.path, names, separator, part.lines, is_local=False):
                return b""
            return self._read_counted(part.path, rest, is_last)
        finally:
            part.path.unlink()

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
