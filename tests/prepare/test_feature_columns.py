"""What does not fit the schema is one error that names the row."""

import decimal
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import feature_columns
from slurm_tf.prepare.row_errors import RowErrors

INT64, FLOAT, BYTES = Kind.INT64, Kind.FLOAT, Kind.BYTES


def check(feature: Feature, column: pa.Array) -> pa.Array:
    batch = pa.RecordBatch.from_arrays([column], names=[feature.name])
    return feature_columns.checked(Schema((feature,)), batch, RowErrors(batch, "train.tfrecord", 100)).column(0)


@pytest.mark.parametrize(
    ("feature", "column", "found", "needed"),
    [
        (Feature("n", INT64), pa.array([1, None]), "n is missing in row 101 (n=None)", "a value"),
        (Feature("n", INT64), pa.array([1, 2**63], pa.uint64()), "n is 9223372036854775808 in row 101", "int64"),
        (Feature("n", INT64), pa.array([0.5]), "n is a column of double", "int64"),
        (Feature("n", INT64), pa.array(["7"]), "n is a column of string", "int64"),
        (Feature("n", INT64), pa.array([7], pa.timestamp("s")), "n is a column of timestamp[s]", "int64"),
        (Feature("n", INT64, (2,)), pa.array([7]), "n is a column of int64", "int64 of shape (2,)"),
        (Feature("n", INT64), pa.array([[7]]), "n is a column of list<item: int64>", "int64"),
        (Feature("n", INT64, is_sequence=True), pa.array([7]), "n is a column of int64", "int64 as a sequence"),
        (Feature("n", FLOAT), pa.array([0.5, math.nan]), "n is nan in row 101 (n=nan)", "a finite number"),
        (Feature("n", FLOAT), pa.array([-math.inf]), "n is -inf in row 100", "a finite number"),
        (Feature("n", FLOAT), pa.array([0.0, 1e39]), "n is 1e+39 in row 101", "32 bits"),
        (Feature("n", FLOAT, allow_nan=True), pa.array([math.nan, 1e39]), "n is 1e+39 in row 101", "32 bits"),
        (Feature("n", FLOAT), pa.array([2**24 + 1]), "n is 16777217 in row 100", "float"),
        (Feature("n", FLOAT, (None,)), pa.array([[], [1.0, math.inf]]), "n is inf in row 101", "a finite number"),
        (Feature("n", FLOAT, (2, 2)), pa.array([[1.0] * 4, [1.0] * 3]), "n has 3 values in row 101", "4"),
        (Feature("n", FLOAT, (2,)), pa.array([[1.0] * 2, []]), "n has 0 values in row 101", "2"),
        (Feature("n", INT64, (2,), is_sequence=True), pa.array([[], [[1, 2], [3]]]), "n has 1 values in row 101", "2"),
        (Feature("n", INT64, (None,)), pa.array([[1], [2, None]]), "n has a missing value in row 101", "each place"),
        (Feature("n", INT64, is_sequence=True), pa.array([[], [None]]), "n has a missing value in row 101", "place"),
        (Feature("n", BYTES), pa.array([1]), "n is a column of int64", "bytes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error(feature: Feature, column: pa.Array, found: str, needed: str) -> None:
    with pytest.raises(DatasetError) as caught:
        check(feature, column)
    assert caught.value.found.startswith(found)
    assert needed in caught.value.needed
    assert caught.value.where == "train.tfrecord"


@pytest.mark.parametrize("names", [["b"], ["a", "b", "c"], ["a", "a"], []])
def test_columns_are_those_of_the_schema(names: list[str]) -> None:
    schema = Schema((Feature("a", INT64), Feature("b", INT64)))
    batch = pa.RecordBatch.from_arrays([pa.array([1])] * len(names), names=names)
    with pytest.raises(DatasetError, match="needed those of the features: a, b"):
        feature_columns.checked(schema, batch, RowErrors(batch, "x"))


def test_an_error_shows_little_of_a_long_row() -> None:
    columns = [pa.array([f"{'x' * 1000}"]), pa.array([math.nan]), *[pa.array(["y" * 1000])] * 98]
    schema = Schema(tuple(Feature(f"f{n}", FLOAT if n == 1 else BYTES) for n in range(100)))
    batch = pa.RecordBatch.from_arrays(columns, names=[each.name for each in schema.features])
    with pytest.raises(DatasetError) as caught:
        feature_columns.checked(schema, batch, RowErrors(batch, "x"))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("feature", "column", "values"),
    [
        (Feature("n", INT64), pa.array([True, False]), [1, 0]),
        (Feature("n", INT64), pa.array([-1, 255], pa.int16()), [-1, 255]),
        (Feature("n", INT64, default=0), pa.array([None, 2]), [None, 2]),
        (Feature("n", INT64, default=0), pa.array([None]), [None]),
        (Feature("n", FLOAT, (None,), is_sequence=True, default=()), pa.array([None, []]), [None, []]),
        (Feature("n", INT64, (2,)), pa.array([[1, 2]], pa.list_(pa.uint8(), 2)), [[1, 2]]),
        (Feature("n", INT64, (2,), default=0), pa.array([None, [1, 2]], pa.list_(pa.int8(), 2)), [None, [1, 2]]),
        (Feature("n", FLOAT), pa.array([decimal.Decimal("0.5")]), [0.5]),
        (Feature("n", FLOAT), pa.array([0.5], pa.float16()), [0.5]),
        (Feature("n", FLOAT), pa.array([1e-60]), [0.0]),
        (Feature("n", FLOAT, allow_nan=True), pa.array([math.inf]), [math.inf]),
        (Feature("n", FLOAT, (None,)), pa.array([[0.5], []], pa.large_list(pa.float64())), [[0.5], []]),
        (Feature("n", BYTES), pa.array(["ä"]).dictionary_encode(), ["ä".encode()]),
        (Feature("n", BYTES), pa.array(["ä"], pa.string_view()), ["ä".encode()]),
        (Feature("n", BYTES), pa.array([b"\xff"], pa.binary(1)), [b"\xff"]),
        (Feature("n", BYTES, (None,)), pa.array([["a", ""]], pa.large_list(pa.large_string())), [[b"a", b""]]),
    ],
)
def test_columns_of_many_types_fit(feature: Feature, column: pa.Array, values: list[Any]) -> None:
    assert check(feature, column).to_pylist() == values
    # also where a batch is a part of another one
    doubled = pa.concat_arrays([column, column])
    assert check(feature, doubled.slice(len(column))).to_pylist() == values


@given(lengths=st.lists(st.integers(0, 40 << 20) | st.just(0), max_size=30))
def test_pieces_have_all_rows_and_are_small(lengths: list[int]) -> None:
    ends = [0, *(sum(lengths[: at + 1]) for at in range(len(lengths)))]
    if ends[-1] >= 2**31:
        return
    offsets, data = pa.array(ends, pa.int32()).buffers()[1], pa.allocate_buffer(ends[-1])  # no page of it is touched
    column = pa.BinaryArray.from_buffers(pa.binary(), len(lengths), [None, offsets, data])
    batch = pa.RecordBatch.from_arrays([column], names=["image"])
    pieces = list(feature_columns.pieces(batch))
    assert sum(each.num_rows for each in pieces) == len(lengths)
    assert all(each.num_rows == 1 or each.nbytes < 1 << 26 for each in pieces)
