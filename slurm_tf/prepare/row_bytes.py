"""Writes rows in the form of a data set."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv

from slurm_tf.dataset.schema import Kind, Schema
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import serialize
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.row_errors import RowErrors, first_that_fails, shortened


def check(form: Form, schema: Schema, where: str) -> None:
    """Raise DatasetError for features that a form cannot hold: CSV has no lists."""
    for feature in schema.features if form is Form.CSV else ():
        if feature.shape or feature.is_sequence:
            found = f"{feature.name} has several values, and the output is CSV"
            raise DatasetError(found, "one value of each feature", "write TFRecord or JSON lines", where)


def header(form: Form, schema: Schema) -> bytes:
    """Return what stands before the rows of a file."""
    if form is not Form.CSV:
        return b""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([feature.name for feature in schema.features])
    return line.getvalue().encode()


def rows(form: Form, schema: Schema, batch: pa.RecordBatch, messages: pa.BinaryArray, errors: RowErrors) -> pa.Buffer:
    """Return the bytes of the rows of a batch that `feature_columns.checked` returned.

    `messages`: the records of protobuf of the same rows. Raises DatasetError for bytes that are no UTF-8 where the form
    is one of text, and for NaN and infinity, which JSON has not.
    """
    if form.is_tfrecord:
        return serialize.contents(serialize.framed(messages))
    columns = [_as_text(batch.column(each.name), each.kind, each.name, errors) for each in schema.features]
    texts = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    out = pa.BufferOutputStream()
    if form is Form.CSV:
        pyarrow.csv.write_csv(texts, out, pyarrow.csv.WriteOptions(include_header=False))
    else:
        for number, row in enumerate(texts.to_pylist()):
            out.write(_json_line(row, number, errors))
    return out.getvalue()


def _as_text(column: pa.Array, kind: Kind, name: str, errors: RowErrors) -> pa.Array:
    """Return a column with bytes as UTF-8, and float32 as the float64 that is written with as few digits."""
    if kind is Kind.INT64:
        return column
    target = _with_values(column.type, pa.string())
    try:
        texts = column.cast(target)
    except pa.ArrowInvalid:
        row = first_that_fails(column, lambda part: part.cast(target))
        found = f"{name} is {shortened(repr(column[row].as_py()))}"
        raise errors.of_row(row, found, "text in UTF-8", "write TFRecord, which holds any bytes") from None
    return texts if kind is Kind.BYTES else texts.cast(_with_values(column.type, pa.float64()))


def _with_values(lists: pa.DataType, value: pa.DataType) -> pa.DataType:
    return pa.list_(_with_values(lists.value_type, value)) if pa.types.is_list(lists) else value


def _json_line(row: Mapping[str, Any], number: int, errors: RowErrors) -> bytes:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise errors.of_row(number, "a number is NaN or infinite", "what JSON has", "write TFRecord or CSV") from None
    return f"{text}\n".encode()
