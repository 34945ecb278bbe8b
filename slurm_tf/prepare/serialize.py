"""Serialises checked columns as tf.train.Example or tf.train.SequenceExample, and frames records as TFRecord does.

The bytes are those of protobuf's deterministic serialisation. A feature is serialised for all rows at once: its values
become a column of bytes, and the tags, lengths and names before each value another column, of which only as many are
computed as there are different lengths. Arrow then joins the columns row by row.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.prepare import checksum, feature_columns, varint
from slurm_tf.prepare.feature_columns import Bools, Ints, Numbers

# Returns the bytes that stand before a value of a length.
_Head: TypeAlias = Callable[[int], bytes]

# Tags of fields 1 and 2 that have a length, and of the lists of a Feature: tensorflow/core/example/feature.proto.
_FIELD_1, _FIELD_2 = b"\x0a", b"\x12"
_LIST_TAGS = {Kind.BYTES: b"\x0a", Kind.FLOAT: b"\x12", Kind.INT64: b"\x1a"}
# Different lengths are found by a table of those below this, and by sorting above.
_SHORT = 1 << 16


@dataclass(frozen=True)
class _Part:
    """Columns of bytes that stand one after the other in each row; `sizes`: their bytes in each row."""

    columns: tuple[pa.BinaryArray | pa.BinaryScalar, ...]
    sizes: Ints


def records(schema: Schema, batch: pa.RecordBatch) -> pa.BinaryArray:
    """Return the serialised message of each row of a batch that `feature_columns.checked` returned.

    It is a SequenceExample if the schema has a sequence. A value that is missing is a feature that the message lacks.
    """
    context = [each for each in schema.features if not each.is_sequence]
    sequences = [each for each in schema.features if each.is_sequence]
    features = _map(_FIELD_1, context, batch)
    return _joined(*features, *(_map(_FIELD_2, sequences, batch) if sequences else ()))


def framed(messages: pa.BinaryArray) -> pa.BinaryArray:
    """Return each message as a TFRecord file has it: its length, the two checksums, and itself between them."""
    heads, _ = _by_size(sizes(messages), _frame_head)
    return _joined(heads, messages, _fixed_size(_checksums(messages), "<u4"))


def with_sizes(messages: pa.BinaryArray) -> pa.BinaryArray:
    """Return each message after its length in 8 bytes, as digests are computed of."""
    return _joined(_fixed_size(sizes(messages), "<u8"), messages)


def contents(array: pa.BinaryArray) -> pa.Buffer:
    """Return the bytes of all values, one after the other."""
    ends = _ends(array)
    first, last = int(ends[0]), int(ends[-1])
    return array.buffers()[2].slice(first, last - first) if last > first else pa.py_buffer(b"")


def sizes(array: pa.BinaryArray) -> Ints:
    """Return how many bytes each value has."""
    return np.diff(_ends(array))


def _map(tag: bytes, features: Sequence[Feature], batch: pa.RecordBatch) -> list[pa.BinaryArray]:
    """Return the columns of a map from names to features, Features or FeatureLists, as field `tag` of its message."""
    parts = [_entry(each, batch.column(each.name)) for each in sorted(features, key=lambda each: each.name.encode())]
    total = sum((part.sizes for part in parts), np.zeros(batch.num_rows, np.int64))
    head, _ = _by_size(total, _nested(tag, _nothing))
    return [head, *(column for part in parts for column in part.columns)]


def _entry(feature: Feature, column: pa.Array) -> _Part:
    """Return an entry of the map: the name of a feature, and the Feature or FeatureList."""
    values, head = _feature_list(feature, column) if feature.is_sequence else _feature(feature, column)
    name, inner = feature.name.encode(), _nested(_FIELD_2, head)
    key = _FIELD_1 + varint.encoded(len(name)) + name
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    return _with_heads(values, _nested(_FIELD_1, lambda size: key + inner(size)), missing)


def _feature_list(feature: Feature, column: pa.ListArray) -> tuple[pa.BinaryArray, _Head]:
    """Return the content of a FeatureList, and what stands before it."""
    values, head = _feature(feature, column.flatten())
    steps = _joined(*_with_heads(values, _nested(_FIELD_1, head)).columns)
    return _regrouped(steps, feature_columns.counts(column)), _nothing


def _feature(feature: Feature, column: pa.Array) -> tuple[pa.BinaryArray, _Head]:
    """Return the values of a Feature, and what stands before them."""
    tag = _LIST_TAGS[feature.kind]
    if not feature.shape:
        return _values(feature.kind, column), _nested(tag, _nested(_FIELD_1, _nothing))
    values = _values(feature.kind, column.flatten())
    if feature.kind is not Kind.BYTES:
        return _regrouped(values, feature_columns.counts(column)), _nested(tag, _packed)
    values = _joined(*_with_heads(values, _nested(_FIELD_1, _nothing)).columns)
    return _regrouped(values, feature_columns.counts(column)), _nested(tag, _nothing)


def _nothing(_size: int) -> bytes:
    return b""


def _packed(size: int) -> bytes:
    """Return what stands before packed numbers of `size` bytes: nothing if there are none."""
    return _FIELD_1 + varint.encoded(size) if size else b""


def _nested(tag: bytes, inner: _Head) -> _Head:
    """Return what stands before a message that is a field of another one."""

    def head(size: int) -> bytes:
        text = inner(size)
        return tag + varint.encoded(len(text) + size) + text

    return head


def _frame_head(size: int) -> bytes:
    """Return what stands before a record of `size` bytes in a TFRecord file: the size, and its checksum."""
    text = size.to_bytes(8, "little")
    return text + checksum.of_record(text).to_bytes(4, "little")


def _checksums(messages: pa.BinaryArray) -> Ints:
    """Return the checksum of each message."""
    data = contents(messages).to_pybytes()
    ends = np.concatenate([[0], np.cumsum(sizes(messages))]).tolist()
    return np.array(checksum.of_records(data[start:end] for start, end in itertools.pairwise(ends)), np.int64)


def _values(kind: Kind, column: pa.Array) -> pa.BinaryArray:
    """Return the bytes of each value; those of a missing one mean nothing."""
    if kind is Kind.BYTES:
        return pc.fill_null(column, b"")
    numbers = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    return _varints(numbers) if kind is Kind.INT64 else _fixed_size(numbers, "<f4")


def _varints(numbers: Ints) -> pa.BinaryArray:
    """Return numbers as protobuf writes them, seven bits a byte; a negative one has ten bytes."""
    rest = numbers.view(np.uint64)
    widest = len(varint.encoded(int(rest.max(initial=0))))
    table, lengths = np.empty((len(rest), widest), np.uint8), np.ones(len(rest), np.int64)
    for place in range(widest):
        more = rest > 0x7F
        table[:, place] = (rest & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
        lengths += more
        rest = rest >> np.uint64(7)
    data = table[np.arange(widest) < lengths[:, None]]
    return _binary(np.concatenate([[0], np.cumsum(lengths)]), pa.py_buffer(data))


def _fixed_size(numbers: Numbers, kind: str) -> pa.BinaryArray:
    """Return the bytes of numbers, as one of numpy's types."""
    data = np.ascontiguousarray(numbers, np.dtype(kind))
    return _binary(np.arange(len(data) + 1) * data.itemsize, pa.py_buffer(data))


def _regrouped(values: pa.BinaryArray, counts: Ints) -> pa.BinaryArray:
    """Return runs of values as one value each, of which `counts` says the number; no bytes are copied."""
    return _binary(_ends(values)[np.concatenate([[0], np.cumsum(counts)])], values.buffers()[2])


def _with_heads(values: pa.BinaryArray, head: _Head, missing: Bools | None = None) -> _Part:
    """Return values with what stands before each; nothing for those that are `missing`."""
    lengths = sizes(values)
    heads, more = _by_size(lengths, head, missing)
    lengths = lengths + more
    if missing is not None:
        lengths[missing] = 0
        values = pc.if_else(pa.array(missing), pa.scalar(b"", pa.binary()), values)
    return _Part((heads, values), lengths)


def _by_size(lengths: Ints, head: _Head, missing: Bools | None = None) -> tuple[pa.BinaryArray | pa.BinaryScalar, Ints]:
    """Return what stands before values of these lengths, and its bytes; a scalar if all have one length."""
    most = int(lengths.max(initial=0))
    if most < _SHORT:
        seen = np.zeros(most + 1, np.bool_)
        seen[lengths] = True
        distinct, codes = np.flatnonzero(seen), (np.cumsum(seen) - 1)[lengths]
    else:
        distinct, codes = np.unique(lengths, return_inverse=True)
    texts = [head(length) for length in distinct.tolist()]
    more = np.array([len(text) for text in texts], np.int64)[codes]
    if missing is not None:
        codes[missing] = len(texts)
        texts.append(b"")
    if len(texts) == 1:
        return pa.scalar(texts[0], pa.binary()), more
    return pa.array(texts, pa.binary()).take(pa.array(codes)), more


def _joined(*parts: pa.BinaryArray | pa.BinaryScalar) -> pa.BinaryArray:
    """Return the columns joined row by row."""
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def _ends(array: pa.BinaryArray) -> Ints:
    """Return where each value starts in the buffer of the column, and where the last one ends."""
    if not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _binary(ends: Ints, data: pa.Buffer | None) -> pa.BinaryArray:
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), data or pa.py_buffer(b"")]
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, buffers)
