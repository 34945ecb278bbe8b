"""Checks the rows of Arrow batches against a schema, and makes each feature a column of one Arrow type.

A column has one value a row. Its type is int64, float32 or binary; a list of it for a feature with a shape, and one
more list around that for a sequence, whose steps each have the shape. The values of an array are in the order of C.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.prepare.row_errors import RowErrors, first_that_fails, shortened

Ints: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]
Bools: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
_TYPES = {Kind.INT64: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}
_FITTING: dict[Kind, tuple[Callable[[pa.DataType], bool], ...]] = {
    Kind.INT64: (pa.types.is_integer, pa.types.is_boolean),
    Kind.FLOAT: (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal),
    Kind.BYTES: (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    ),
}
# Of one serialisation: Arrow's columns of bytes hold less than 2 GiB. A record has about _HEAD bytes a feature more.
_MOST_BYTES, _MOST_ROWS, _HEAD = 1 << 26, 1 << 16, 32


def checked(schema: Schema, batch: pa.RecordBatch, errors: RowErrors) -> pa.RecordBatch:
    """Return the columns of `schema`, in its order and of its types.

    Raises DatasetError for a column that is missing or too many or of another type, and for a row that does not fit: a
    value that is missing and has no default, a wrong number of values, an overflow, NaN or infinity where the feature
    does not allow them.
    """
    names = [feature.name for feature in schema.features]
    if sorted(names) != sorted(batch.schema.names):
        found = f"the columns are {', '.join(batch.schema.names) or 'none'}"
        raise errors.of_all(found, f"those of the features: {', '.join(names)}")
    columns = [_column(feature, batch.column(feature.name), errors) for feature in schema.features]
    return pa.RecordBatch.from_arrays(columns, names=names)


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in pieces that can be serialised at once: at most 2**16 rows and about 64 MiB, or one row."""
    heads = sum(_HEAD + len(name) for name in batch.schema.names)
    size = batch.nbytes + heads * batch.num_rows
    if batch.num_rows == 0:
        return
    if batch.num_rows == 1 or (batch.num_rows <= _MOST_ROWS and size <= _MOST_BYTES):
        yield batch
        return
    rows = min(_MOST_ROWS, max(1, batch.num_rows * _MOST_BYTES // size), (batch.num_rows + 1) // 2)
    for start in range(0, batch.num_rows, rows):
        yield from pieces(batch.slice(start, rows))


def counts(lists: pa.ListArray) -> Ints:
    """Return how many values each list has; 0 for one that is missing."""
    lengths: Ints = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _column(feature: Feature, given: pa.Array, errors: RowErrors) -> pa.Array:
    """Return the column of one feature in the type of this module."""
    depth = int(feature.is_sequence) + int(feature.shape != ())
    _check_type(feature, given.type, depth, errors)
    if given.null_count and feature.default is None:
        row = pc.index(given.is_null(), True).as_py()
        raise errors.of_row(
            row, f"{feature.name} is missing", "a value", "state a default for the feature, or fill it in"
        )
    if pa.types.is_dictionary(given.type):
        given = given.dictionary_decode()
    target = _TYPES[feature.kind]
    for _ in range(depth):
        target = pa.list_(target)
    try:
        column = given.cast(target)
    except pa.ArrowInvalid:
        row = first_that_fails(given, lambda part: part.cast(target))
        found = f"{feature.name} is {shortened(repr(given[row].as_py()))}"
        raise errors.of_row(row, found, f"what {feature.kind.value} can hold") from None
    _check_values(feature, given, column, depth, errors)
    return column


def _check_type(feature: Feature, given: pa.DataType, depth: int, errors: RowErrors) -> None:
    """Raise DatasetError unless a column of the type `given` has values of the feature's kind, in `depth` lists.

    Arrow would read text as a number, and a time as an integer.
    """
    inner, lists = given, depth
    while lists and (pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner)):
        inner, lists = inner.value_type, lists - 1
    if pa.types.is_dictionary(given) and not depth:
        inner = given.value_type
    if pa.types.is_null(inner):  # no value is there
        return
    if lists or not any(fits(inner) for fits in _FITTING[feature.kind]):
        words = [feature.kind.value, *([f"of shape {feature.shape}"] if feature.shape else [])]
        words += ["as a sequence"] if feature.is_sequence else []
        found = f"{feature.name} is a column of {given}"
        raise errors.of_all(found, " ".join(words), "cast it, or correct the schema")


def _check_values(feature: Feature, given: pa.Array, column: pa.Array, depth: int, errors: RowErrors) -> None:
    """Raise DatasetError for missing values in lists, arrays of another size, and numbers that are none."""
    owners = np.arange(len(column))
    for level in range(depth):
        if level == depth - 1:
            _check_size(feature, column, owners, errors)
        owners = np.repeat(owners, counts(column))
        column, given = column.flatten(), column.flatten() if pa.types.is_null(given.type) else given.flatten()
        if column.null_count:
            row = int(owners[pc.index(column.is_null(), True).as_py()])
            raise errors.of_row(row, f"{feature.name} has a missing value", "a value at each place")
    if feature.kind is Kind.FLOAT:
        _check_finite(feature, given, column, owners, errors)


def _check_size(feature: Feature, lists: pa.ListArray, owners: Ints, errors: RowErrors) -> None:
    """Raise DatasetError for a list that has not as many values as the shape."""
    sizes = [size for size in feature.shape if size is not None]
    if not sizes or len(sizes) < len(feature.shape):
        return
    wrong = np.flatnonzero((counts(lists) != math.prod(sizes)) & _is_valid(lists))
    if wrong.size:
        found = f"{feature.name} has {len(lists[int(wrong[0])])} values"
        raise errors.of_row(int(owners[wrong[0]]), found, f"{math.prod(sizes)}, as its shape is {feature.shape}")


def _check_finite(feature: Feature, given: pa.Array, values: pa.FloatArray, owners: Ints, errors: RowErrors) -> None:
    """Raise DatasetError for a number that float32 cannot hold, and for NaN and infinity unless they are allowed."""
    odd = np.flatnonzero(~np.isfinite(values.to_numpy(zero_copy_only=False)) & _is_valid(values))
    if not odd.size:
        return
    was = given.take(pa.array(odd)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    too_large, not_finite = np.flatnonzero(np.isfinite(was)), np.flatnonzero(~np.isfinite(was))
    if too_large.size:
        at = int(too_large[0])
        raise errors.of_row(
            int(owners[odd[at]]), f"{feature.name} is {was[at]}", "what float can hold, which has 32 bits"
        )
    if not_finite.size and not feature.allow_nan:
        at = int(not_finite[0])
        do = "allow it for the feature, or leave the row out"
        raise errors.of_row(int(owners[odd[at]]), f"{feature.name} is {was[at]}", "a finite number", do)


def _is_valid(array: pa.Array) -> Bools:
    found: Bools = array.is_valid().to_numpy(zero_copy_only=False)
    return found
