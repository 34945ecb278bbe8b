"""Reads the rows of a shard in batches, in the order of its files. For Python 3.9; imports TensorFlow and numpy alone.

A batch has a length and can be sliced, whatever the format: it is a tensor of records, a list of rows of CSV, of lines
or of the paths of images, or a table of Parquet.
"""

import csv
import io
import itertools
import os
from typing import Any, Iterable, Iterator, List, Sequence

import tensorflow as tf

from slurm_tf.errors import DatasetError
from slurm_tf.predict import input_columns, input_text, parquet_rows
from slurm_tf.predict.prediction_plan import InputFile, InputFormat, Part, Plan

# What TensorFlow reads of a file at a time, in bytes.
_BUFFER = 4 << 20


def columns(plan: Plan, inputs: Sequence[str]) -> Sequence[str]:
    """Return the names of the values of a row: those of a CSV file's header, else the model's inputs and what is kept.

    Raises DatasetError, OSError.
    """
    needed = tuple(dict.fromkeys([*inputs, *plan.keep]))
    if plan.input_format is not InputFormat.CSV:
        return needed
    path = plan.files[0].path
    names = input_columns.header(path)
    input_columns.check_once(names, needed, path)
    return names


def batches(plan: Plan, shard: int, names: Sequence[str], first: int) -> Iterator[Any]:
    """Yield the rows of a shard from row `first` on, `plan.batch_size` at a time; CSV and Parquet have columns `names`.

    Raises DatasetError for a file that is damaged, or is not what it was when the plan was made, OSError.
    """
    waiting: List[Any] = []
    missing = size = plan.batch_size
    for chunk in _chunks(plan, shard, names, first):
        rest = chunk
        while len(rest) >= missing:
            waiting.append(rest if len(rest) == missing else rest[:missing])
            yield _joined(plan.input_format, waiting)
            rest, waiting, missing = rest[missing:], [], size
        if len(rest):
            waiting.append(rest)
            missing -= len(rest)
    if waiting:
        yield _joined(plan.input_format, waiting)


def _joined(form: InputFormat, chunks: List[Any]) -> Any:
    if len(chunks) == 1:
        return chunks[0]
    if form is InputFormat.TFRECORD:
        return tf.concat(chunks, 0)
    if form is InputFormat.PARQUET:
        return parquet_rows.joined(chunks)
    return list(itertools.chain.from_iterable(chunks))


def _chunks(plan: Plan, shard: int, names: Sequence[str], first: int) -> Iterator[Any]:
    """Yield the rows from row `first` of a shard on, at most a batch at once."""
    for part in plan.shards[shard]:
        skipped, first = min(first, part.rows), max(first - part.rows, 0)
        if skipped == part.rows:
            continue
        file = plan.files[part.file]
        status = os.stat(file.path)
        if (status.st_size, status.st_mtime_ns) != (file.bytes, file.changed):
            raise DatasetError("it was changed", "the file as it was", "predict into another folder", file.path)
        count = skipped
        for chunk in _part(plan, file, part, names, skipped):
            count += len(chunk)
            yield chunk
        if count != part.rows:
            raise DatasetError(f"it has {count} rows from {part.start} on", f"{part.rows} rows", where=file.path)


def _part(plan: Plan, file: InputFile, part: Part, names: Sequence[str], skipped: int) -> Iterator[Any]:
    """Yield the rows of a part but for the first `skipped`."""
    form, size, rows = plan.input_format, plan.batch_size, part.rows - skipped
    if form is InputFormat.TFRECORD:
        return _records(file.path, part.start + skipped, rows, size)
    if form is InputFormat.PARQUET:
        input_columns.check_once(parquet_rows.columns(file.path), names, file.path)
        return parquet_rows.tables(file.path, names, part.start + skipped, rows, size)
    if form is InputFormat.IMAGES:
        return iter([[file.path]])
    each = _csv_rows(file.path, part, names) if form is InputFormat.CSV else _lines(file.path, part)
    return _lists(itertools.islice(each, skipped, part.rows), size)


def _lists(rows: Iterable[Any], size: int) -> Iterator[List[Any]]:
    each = iter(rows)
    while chunk := list(itertools.islice(each, size)):
        yield chunk


def _records(path: str, start: int, rows: int, size: int) -> Iterator[tf.Tensor]:
    data = tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "", buffer_size=_BUFFER)
    try:
        yield from data.skip(start).take(rows).batch(size).prefetch(1)
    except tf.errors.DataLossError as error:
        raise DatasetError(f"it is damaged ({error.message})", "records as they were written", where=path) from error


def _csv_rows(path: str, part: Part, names: Sequence[str]) -> Iterator[List[str]]:
    header = input_columns.header(path)
    if list(header) != list(names):
        found, needed = (", ".join(map(repr, each)) for each in (header, names))
        raise DatasetError(f"its columns are {found}", needed, where=path)
    with input_text.opened(path) as file:
        file.seek(part.start)
        rows = csv.reader(io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline=""))
        try:
            yield from filter(None, rows)  # a blank line is no row
        except csv.Error as error:
            raise DatasetError(f"it cannot be read ({error})", "CSV", where=path) from error


def _lines(path: str, part: Part) -> Iterator[bytes]:
    with input_text.opened(path) as file:
        file.seek(part.start)
        for line in file:
            if line.strip():
                yield line
