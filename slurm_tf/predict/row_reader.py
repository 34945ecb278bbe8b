"""Reads the rows of a shard, in the order of its files. For Python 3.9; of the libraries it imports TensorFlow."""

import csv
import io
import os
import sys
from typing import Any, Iterator, List, Sequence

import tensorflow as tf

from slurm_tf.errors import DatasetError
from slurm_tf.predict import parquet_rows
from slurm_tf.predict.prediction_plan import InputFile, InputFormat, Part, Plan

# What TensorFlow reads of a file at a time, in bytes, and how many records it hands over.
_BUFFER, _RECORDS = 4 << 20, 256


def columns(plan: Plan, inputs: Sequence[str]) -> Sequence[str]:
    """Return the names of the values of a row: those of a CSV file's header, else the model's inputs."""
    if plan.input_format is not InputFormat.CSV:
        return inputs
    with open(plan.files[0].path, encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def rows(plan: Plan, shard: int, names: Sequence[str]) -> Iterator[Any]:
    """Yield each row of a shard as its format has it: bytes, the text of cells, or values, in the order of `names`.

    Raises DatasetError for a file that is damaged, or is not what it was when the plan was made, OSError.
    """
    for part in plan.shards[shard]:
        file = plan.files[part.file]
        status = os.stat(file.path)
        if (status.st_size, status.st_mtime_ns) != (file.bytes, file.changed):
            raise DatasetError("it was changed", "the file as it was", "predict into another folder", file.path)
        count = 0
        for row in _rows(plan.input_format, file, part, names):
            count += 1
            yield row
        if count != part.rows:
            raise DatasetError(f"it has {count} rows from {part.start} on", f"{part.rows} rows", where=file.path)


def _rows(form: InputFormat, file: InputFile, part: Part, names: Sequence[str]) -> Iterator[Any]:
    if form is InputFormat.TFRECORD:
        return _records(file.path, part)
    if form is InputFormat.CSV:
        return _csv_rows(file.path, part, names)
    if form is InputFormat.JSONL:
        return _lines(file.path, part)
    if form is InputFormat.PARQUET:
        return parquet_rows.rows(file.path, names, part.start, part.rows)
    return _image(file.path)


def _records(path: str, part: Part) -> Iterator[bytes]:
    data = tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "", buffer_size=_BUFFER)
    try:
        for batch in data.skip(part.start).take(part.rows).batch(_RECORDS).prefetch(2).as_numpy_iterator():
            yield from batch
    except tf.errors.DataLossError as error:
        raise DatasetError(f"it is damaged ({error.message})", "records as they were written", where=path) from error


def _csv_rows(path: str, part: Part, names: Sequence[str]) -> Iterator[List[str]]:
    csv.field_size_limit(sys.maxsize)
    with open(path, "rb") as file:
        header = next(csv.reader(io.TextIOWrapper(io.BytesIO(file.readline()), "utf-8-sig", newline="")), [])
        if header != list(names):
            raise DatasetError(f"its columns are {', '.join(header)}", f"{', '.join(names)}", where=path)
        file.seek(part.start)
        count = 0
        for row in csv.reader(io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")):
            if not row:  # a blank line
                continue
            yield row
            count += 1
            if count == part.rows:
                return


def _lines(path: str, part: Part) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(part.start)
        count = 0
        for line in file:
            if not line.strip():
                continue
            yield line
            count += 1
            if count == part.rows:
                return


def _image(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield file.read()
