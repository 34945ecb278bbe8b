"""Records are those that protobuf serialises deterministically, and frames those that TFRecordDataset reads."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import example_fields, feature_columns, serialize
from slurm_tf.prepare.row_errors import RowErrors
from tests.prepare.batches import batch_of
from tests.prepare.example_protos import protos

_INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 127, 128, 2**14 - 1, 2**14, 2**32, -1, 2**63 - 1])
_FLOAT = st.floats(width=32) | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan])
# a varint of its length has one, two or three bytes
_BYTES = st.binary(max_size=20) | st.sampled_from([b"", b"\xff\xfe", b"x" * 127, b"x" * 128, b"\x00" * 20_000])
_VALUES = {Kind.INT64: _INT64, Kind.FLOAT: _FLOAT, Kind.BYTES: _BYTES}
_DEFAULTS = {Kind.INT64: 0, Kind.FLOAT: 0.5, Kind.BYTES: ""}
_SHAPES: tuple[tuple[int | None, ...], ...] = ((), (None,), (3,), (2, 2))


@st.composite
def _features(draw: st.DrawFn, name: str) -> Feature:
    kind, shape, is_sequence = draw(st.sampled_from(list(Kind))), draw(st.sampled_from(_SHAPES)), draw(st.booleans())
    default: object = None
    if draw(st.booleans()):
        default = () if is_sequence or shape == (None,) else _DEFAULTS[kind]
    return Feature(name, kind, shape, is_sequence=is_sequence, default=default, allow_nan=True)


def _value(feature: Feature) -> st.SearchStrategy[Any]:
    """Return values of a feature, as a Python object: a list for a shape, and a list of these for a sequence."""
    value = _VALUES[feature.kind]
    if feature.shape == (None,):
        value = st.lists(value, max_size=4)
    elif feature.shape:
        size = math.prod(each or 0 for each in feature.shape)
        value = st.lists(value, min_size=size, max_size=size)
    if feature.is_sequence:
        value = st.lists(value, max_size=3)
    return value if feature.default is None else st.none() | value


def _have_one_order(names: list[str]) -> bool:
    """Whether no name begins with another one: protobuf in C++ sorts such names by their bytes, upb (7.36) does not."""
    return not any(one != other and other.startswith(one) for one in names for other in names)


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Schema, list[dict[str, Any]]]:
    names = draw(
        st.lists(
            st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8),
            min_size=1,
            max_size=6,
            unique=True,
        ).filter(_have_one_order)
    )
    features = tuple(draw(_features(name)) for name in names)
    row = st.fixed_dictionaries({feature.name: _value(feature) for feature in features})
    return Schema(features), draw(st.lists(row, max_size=6))


def _by_protobuf(schema: Schema, row: Mapping[str, Any]) -> bytes:
    """Return the record of one row as TensorFlow's tutorials make it."""
    example_pb2, feature_pb2 = protos()

    def feature_of(kind: Kind, value: Any) -> Any:
        values = value if isinstance(value, list) else [value]
        if kind is Kind.BYTES:
            return feature_pb2.Feature(bytes_list=feature_pb2.BytesList(value=values))
        if kind is Kind.FLOAT:
            return feature_pb2.Feature(float_list=feature_pb2.FloatList(value=values))
        return feature_pb2.Feature(int64_list=feature_pb2.Int64List(value=values))

    known = [feature for feature in schema.features if row[feature.name] is not None]
    context = feature_pb2.Features(
        feature={each.name: feature_of(each.kind, row[each.name]) for each in known if not each.is_sequence}
    )
    if not any(each.is_sequence for each in schema.features):
        example = example_pb2.Example(features=context)
    else:
        lists = {
            each.name: feature_pb2.FeatureList(feature=[feature_of(each.kind, step) for step in row[each.name]])
            for each in known
            if each.is_sequence
        }
        example = example_pb2.SequenceExample(
            context=context, feature_lists=feature_pb2.FeatureLists(feature_list=lists)
        )
    found: bytes = example.SerializeToString(deterministic=True)
    return found


@given(table=_tables(), start=st.integers(0, 2))
@settings(max_examples=100)
@pytest.mark.slow
def test_records_are_those_of_protobuf(table: tuple[Schema, list[dict[str, Any]]], start: int) -> None:
    schema, rows = table
    given_rows = batch_of(schema, rows).slice(start)
    batch = feature_columns.checked(schema, given_rows, RowErrors(given_rows, "data"))
    assert serialize.records(schema, batch).to_pylist() == [_by_protobuf(schema, row) for row in rows[start:]]


def test_names_that_begin_with_another_stand_in_the_order_of_their_bytes() -> None:
    schema = Schema(tuple(Feature(name, Kind.INT64, ()) for name in ("ab", "abc", "b", "a")))
    row = {"ab": 1, "abc": 2, "b": 3, "a": 4}
    (found,) = serialize.records(schema, batch_of(schema, [row])).to_pylist()
    places = [found.index(b"\n" + bytes([len(name)]) + name + b"\x12") for name in (b"a", b"ab", b"abc", b"b")]
    assert places == sorted(places)
    message = protos()[0].Example.FromString(found)
    assert {name: each.int64_list.value[0] for name, each in message.features.feature.items()} == row


def test_frames_are_those_of_tensorflow() -> None:
    # what tf.io.TFRecordWriter of TensorFlow 2.21 wrote
    first = bytes.fromhex("000000000000000029039807d8ea82a201000000000000000175de4161786ee428")
    last = bytes.fromhex("2c01000000000000f2fe5b9d") + b"x" * 300 + bytes.fromhex("cd829421")
    messages = pa.array([b"", b"a", b"x" * 300], pa.binary())
    assert bytes(serialize.contents(serialize.framed(messages))) == first + last
    assert bytes(serialize.contents(serialize.framed(messages.slice(2)))) == last
    assert bytes(serialize.contents(serialize.framed(messages.slice(3)))) == b""


@given(table=_tables())
def test_features_are_read_back(table: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, rows = table
    batch = batch_of(schema, rows)
    columns = feature_columns.checked(schema, batch, RowErrors(batch, "data"))
    first, *others = schema.features
    fewer = serialize.records(Schema(tuple(others)), columns).to_pylist() if others else []
    for row, message in zip(rows, serialize.records(schema, columns).to_pylist(), strict=True):
        for feature in (each for each in schema.features if not each.is_sequence):
            found = example_fields.feature(message, feature.name.encode())
            value = row[feature.name]
            values = None if value is None else batch_of(schema, [row]).column(feature.name).to_pylist()[0]
            assert (found is None) == (values is None)
            if found is not None:
                given_values = values if isinstance(values, list) else [values]
                assert repr(example_fields.values(found)) == repr(given_values)
    has_sequences = any(each.is_sequence for each in others) == any(each.is_sequence for each in schema.features)
    if others and has_sequences:
        messages = serialize.records(schema, columns).to_pylist()
        assert [example_fields.without(each, {first.name.encode()}) for each in messages] == fewer


@given(message=st.binary())
def test_what_is_no_example_is_an_error(message: bytes) -> None:
    reads: tuple[Callable[[], object], ...] = (
        lambda: example_fields.without(message, set()),
        lambda: example_fields.feature(message, b"a"),
    )
    for read in reads:
        try:
            read()
        except DatasetError as error:
            assert error.found == "a record is no tf.train.Example"
