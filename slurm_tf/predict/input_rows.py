"""Counts the rows of input files, and divides them into shards. pyarrow is imported for Parquet alone.

A row of CSV ends at a line break outside of quotes; blank lines are no rows. Files count in the order of their names,
and rows in that of their file.
"""

import glob
import os
from array import array
from collections.abc import Iterator, Sequence

from slurm_tf.dataset import record_frame
from slurm_tf.errors import DatasetError, UsageError
from slurm_tf.predict import input_text
from slurm_tf.predict.prediction_plan import InputFile, InputFormat, Part

_ENDS = {
    ".tfrecord": InputFormat.TFRECORD, ".tfrecords": InputFormat.TFRECORD, ".tfrecord.gz": InputFormat.TFRECORD,
    ".csv": InputFormat.CSV, ".jsonl": InputFormat.JSONL, ".ndjson": InputFormat.JSONL,
    ".csv.gz": InputFormat.CSV, ".jsonl.gz": InputFormat.JSONL, ".ndjson.gz": InputFormat.JSONL,
    ".parquet": InputFormat.PARQUET,
    ".png": InputFormat.IMAGES, ".jpg": InputFormat.IMAGES, ".jpeg": InputFormat.IMAGES, ".bmp": InputFormat.IMAGES,
    ".gif": InputFormat.IMAGES,
}  # fmt: skip


def find(pattern: str) -> tuple[str, ...]:
    """Return the files that a pattern names, sorted; ** stands for folders of any depth. Raises UsageError."""
    paths = sorted(os.path.abspath(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not paths:
        raise UsageError(
            f"no file is named by {pattern!r}", "a pattern such as 'clicks/*.csv'", "quote it for the shell"
        )
    return tuple(paths)


def format_of(paths: Sequence[str]) -> InputFormat:
    """Return the format of files by the ends of their names. Raises UsageError."""
    found: set[InputFormat] = set()
    for path in paths:
        name = os.path.basename(path).lower()
        formats = [each for end, each in _ENDS.items() if name.endswith(end)]
        if not formats:
            raise UsageError(f"found the file {path}", f"files whose names end with {', '.join(_ENDS)}")
        found.add(formats[0])
    if len(found) > 1:
        raise UsageError(f"found files of {', '.join(sorted(found))}", "files of one format")
    return found.pop()


def divide(
    paths: Sequence[str], form: InputFormat, shards: int, batch_size: int
) -> tuple[tuple[InputFile, ...], tuple[tuple[Part, ...], ...]]:
    """Return the files with their numbers of rows, and the parts of at most `shards` shards.

    Each shard but the last one has the same number of rows, a multiple of `batch_size`. Raises DatasetError, OSError.
    """
    starts = [array("Q", _starts(path, form)) for path in paths]
    total = sum(map(len, starts))
    if not total:
        raise DatasetError("the input has no rows", "some", where=paths[0])
    batches = -(-total // batch_size)
    size = -(-batches // shards) * batch_size
    found: list[list[Part]] = [[] for _ in range(-(-total // size))]
    row = 0
    for number, each in enumerate(starts):
        at = 0
        while at < len(each):
            count = min(len(each) - at, size - row % size)
            found[row // size].append(Part(number, each[at], count))
            at, row = at + count, row + count
    files = tuple(_file(path, len(each)) for path, each in zip(paths, starts, strict=True))
    return files, tuple(map(tuple, found))


def _file(path: str, rows: int) -> InputFile:
    status = os.stat(path)
    return InputFile(path, rows, status.st_size, status.st_mtime_ns)


def _starts(path: str, form: InputFormat) -> Iterator[int]:
    """Yield where each row of a file starts: at which byte of text, or the number of the row."""
    if form is InputFormat.CSV:
        starts = _lines(path, quote=b'"')
        next(starts, None)  # the header
        yield from starts
    elif form is InputFormat.JSONL:
        yield from _lines(path)
    else:
        yield from range(_count(path, form))


def _lines(path: str, quote: bytes = b"") -> Iterator[int]:
    start = at = 0
    inside = False
    with input_text.opened(path) as file:
        for line in file:
            at += len(line)
            if quote and line.count(quote) % 2:
                inside = not inside
            if inside:
                continue
            if line.strip() or at - start > len(line):
                yield start
            start = at
    if inside:
        raise DatasetError("a quoted value does not end", "a quote that closes it", where=path)


def _count(path: str, form: InputFormat) -> int:
    if form is InputFormat.IMAGES:
        return 1
    if form is InputFormat.PARQUET:
        from slurm_tf.predict import parquet_rows

        return parquet_rows.count(path)
    return sum(1 for _ in record_frame.lengths(path))
