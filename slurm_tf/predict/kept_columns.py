"""Takes the columns of the input that are kept beside the answers. For Python 3.9; imports TensorFlow."""

from typing import Any, Dict, List, Mapping, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from slurm_tf.predict import json_values
from slurm_tf.predict.input_columns import FILE
from slurm_tf.predict.prediction_plan import InputFormat


class KeptColumns:
    """The columns that are kept; a row without one has None there."""

    def __init__(self, form: InputFormat, keep: Sequence[str], columns: Sequence[str]) -> None:
        """`columns`: what the cells of a row of CSV are."""
        self._form, self._keep = form, keep
        self._places = {name: columns.index(name) for name in keep if name in columns}

    def of(self, rows: Any) -> Dict[str, Any]:
        """Return for each column the values in rows of row_reader: a list, for Parquet an Arrow column."""
        if not self._keep:
            return {}
        if self._form is InputFormat.PARQUET:
            return {name: rows.column(name) for name in self._keep}
        if self._form is InputFormat.CSV:
            return {name: [_cell(row, self._places[name]) for row in rows] for name in self._keep}
        if self._form is InputFormat.IMAGES:
            return {FILE: list(rows)}
        values = [_of_line(row) for row in rows] if self._form is InputFormat.JSONL else _of_records(rows)
        return {name: [each.get(name) for each in values] for name in self._keep}


def _cell(row: List[str], place: int) -> Any:
    """Return the text of a cell; its bytes, where they are no UTF-8."""
    if place >= len(row):
        return None
    try:
        row[place].encode()
    except UnicodeEncodeError:
        return row[place].encode("utf-8", "surrogateescape")
    return row[place]


def _of_line(line: bytes) -> Mapping[str, Any]:
    try:
        value = json_values.loads(line)
    except ValueError:  # the row has its error
        return {}
    return value if isinstance(value, dict) else {}


def _of_records(records: tf.Tensor) -> List[Mapping[str, Any]]:
    """Return the features of tf.train.Examples: the only value of one that has one, else a list."""
    found: List[Mapping[str, Any]] = []
    for record in records.numpy():
        try:
            features = tf.train.Example.FromString(record).features.feature
        except DecodeError:  # the row has its error
            features = {}
        found.append({name: _of_feature(features[name]) for name in features})
    return found


def _of_feature(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    return values[0] if len(values) == 1 else values
