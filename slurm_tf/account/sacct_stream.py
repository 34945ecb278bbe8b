"""Reads what sacct streams into tables, in parts that end where a job does."""

from collections.abc import Iterator, Sequence

from slurm_tf.account.database import Tables
from slurm_tf.errors import SlurmError
from slurm_tf.slurm.sacct import Printed

# A part's text; DuckDB needs some times its size.
_PART = 24 << 20


def read(found: Tables, printed: Printed, names: Sequence[str]) -> None:
    """Read all rows. Raises SlurmError if the output is not whole rows, and what sacct raises."""
    rest = b""
    for text in _parts(printed.chunks):
        rest = _read(found, rest + text, printed.separator, names, is_last=False)
    rest = _read(found, rest, printed.separator, names, is_last=True)
    if rest:
        raise SlurmError("sacct's output ends inside a row", "all of it", "run it again")


def _parts(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks, put together."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _PART:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _read(found: Tables, text: bytes, separator: bytes, names: Sequence[str], is_last: bool) -> bytes:
    """Read the whole rows at the beginning of `text`, up to the last job; return the rest."""
    end = len(text) if is_last else _last_job(text, separator)
    rows, more = divmod(text.count(separator, 0, end), len(names))
    part = text[:end]
    # Fields are counted, as any may have newlines: where there are as many as rows, each ends a row.
    is_plain = not more and part.count(b"\n") == rows == part.count(separator + b"\n") and b"\r" not in part
    if is_plain and part.count(b"\x1f") == rows * len(names):
        plain = part.replace(separator + b"\n", b"\n").replace(separator, b"\x1f")
        if not plain.isascii():
            plain = plain.decode(errors="backslashreplace").encode()
        if not rows or found.read_text(plain, names, rows, is_local=False):
            return text[end:]
    return _read_counted(found, text, separator, names, is_last)


def _last_job(text: bytes, separator: bytes) -> int:
    """Return where the last row of a job seems to begin, 0 if that is not found."""
    mark = separator + b"\n"
    end = len(text)
    while (end := text.rfind(mark, 0, end)) >= 0:
        begin = end + len(mark)
        if b"." not in text[begin : text.find(separator, begin)]:
            return begin
    return 0


def _read_counted(found: Tables, text: bytes, separator: bytes, names: Sequence[str], is_last: bool) -> bytes:
    """Read rows whose fields may hold newlines and the byte 1f, up to the last job; return the rest."""
    width = len(names)
    fields = text.split(separator)
    count = (len(fields) - 1) // width
    rows = [fields[at * width : (at + 1) * width] for at in range(count)]
    for number, row in enumerate(rows):
        if number and not row[0].startswith(b"\n"):
            raise SlurmError(f"sacct printed {row[0]!r} where a row begins", f"{width} fields in each")
    if not is_last:
        count = next((at for at in range(count - 1, -1, -1) if b"." not in rows[at][0]), 0)
    end = sum(len(field) + len(separator) for row in rows[:count] for field in row)
    found.read_rows(
        (
            [field.decode(errors="backslashreplace") for field in (row[0].removeprefix(b"\n"), *row[1:])]
            for row in rows[:count]
        ),
        names,
    )
    return text[end:].removeprefix(b"\n")
