"""Schemas and batches of Arrow for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from slurm_tf.dataset.schema import Kind, Schema

_TYPES = {Kind.INT64: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


def batch_of(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return rows as a batch with the types of a schema."""
    fields = []
    for feature in schema.features:
        kind = _TYPES[feature.kind]
        for _ in range(int(feature.shape != ()) + int(feature.is_sequence)):
            kind = pa.list_(kind)
        fields.append(pa.field(feature.name, kind))
    return pa.RecordBatch.from_pylist([dict(row) for row in rows], schema=pa.schema(fields))
