"""Opens input files of text, which gzip may have compressed. Standard library, Python 3.9."""

import contextlib
import gzip
import io
import zlib
from typing import IO, Iterator

from slurm_tf.errors import DatasetError

_COMPRESSED = ".gz"
# What is read of a file at a time, in bytes.
_BUFFER = 1 << 20


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Open a file as bytes of text; places in a compressed one are those of its text.

    Raises DatasetError for a compressed file that is damaged, also while it is read, or OSError.
    """
    if not path.lower().endswith(_COMPRESSED):
        with open(path, "rb") as file:
            yield file
        return
    with gzip.open(path) as compressed:
        try:
            yield io.BufferedReader(compressed, _BUFFER)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DatasetError(f"it is damaged ({error})", "a whole file of gzip", where=path) from error
