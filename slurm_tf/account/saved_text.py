"""Opens what people saved, compressed or not, and reads its lines."""

import bz2
import gzip
import lzma
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, NamedTuple, cast

from slurm_tf.errors import AccountingError

_BLOCK = 1 << 18
_LONGEST = 16 << 20
_PEEK = 8
_UTF_8_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ZSTD = b"\x28\xb5\x2f\xfd"
_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


class SavedText(NamedTuple):
    """An open file of text, its name for messages, and when it was saved, in seconds since the epoch.

    `is_json`: it begins as an object of JSON does.
    """

    file: IO[bytes]
    where: str
    saved: int
    is_json: bool = False

    def read(self) -> bytes:
        """Return the next block, b"" at the end. Raises AccountingError if the file is damaged."""
        try:
            return self.file.read(_BLOCK)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise AccountingError(
                f"it cannot be read to its end: {error}", "a whole file", "save or copy it again", where=self.where
            ) from error

    def lines(self) -> Iterator[str]:
        """Yield the lines, with bytes that are not UTF-8 as backslash, x and two digits.

        The last one need not end with a newline. Raises AccountingError if a line is longer than any of sacct.
        """
        mark, rest = b"", b""
        while block := self.read():
            rest += block
            if not mark and b"\n" in rest:
                mark = b"\r\n" if rest[: rest.index(b"\n")].endswith(b"\r") else b"\n"
            whole, newline, rest = rest.rpartition(mark or b"\n")
            if newline:
                yield from whole.decode(errors="backslashreplace").split(mark.decode())
            if len(rest) > _LONGEST:
                raise AccountingError("it has no lines", "text, as sacct prints it", where=self.where)
        if rest:
            yield rest.decode(errors="backslashreplace")


@contextmanager
def opened(path: str) -> Iterator[SavedText]:
    """Open a file that may be compressed (gzip, bzip2, xz), or standard input for "-"; a byte order mark is skipped.

    Raises AccountingError if it cannot be opened, or is in a form that is not read here.
    """
    if path == "-":
        yield _plain(sys.stdin.buffer, path, int(time.time()))
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise AccountingError(f"it cannot be read: {error.strerror}", where=path) from error
    with file:
        yield _plain(file, path, int(os.fstat(file.fileno()).st_mtime))


def _plain(file: BinaryIO, where: str, saved: int) -> SavedText:
    text, first = _peeked(file, where)
    for magic, opener in _OPENERS.items():
        if first.startswith(magic):
            text, first = _peeked(opener(text), where)
            break
    if first.startswith(_ZSTD):
        raise AccountingError("it is compressed with zstd", "text, gzip, bzip2 or xz", "unzstd it", where=where)
    if first.startswith(_UTF_16_MARKS):
        raise AccountingError("it is UTF-16", "UTF-8", "iconv -f UTF-16 -t UTF-8 FILE", where=where)
    if first.startswith(_UTF_8_MARK):
        text.read(len(_UTF_8_MARK))
    return SavedText(text, where, saved, first.removeprefix(_UTF_8_MARK).lstrip().startswith(b"{"))


def _peeked(file: IO[bytes], where: str) -> tuple[IO[bytes], bytes]:
    """Return the file and its first bytes, which stay to be read."""
    try:
        return file, file.peek(_PEEK)  # type: ignore[attr-defined]  # BufferedReader and the compressed files have it
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise AccountingError(f"it cannot be read: {error}", "a whole file", where=where) from error
