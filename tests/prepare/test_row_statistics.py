"""Statistics are those that plain Python computes, and do not depend on how the rows came."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.prepare import feature_columns, row_statistics
from slurm_tf.prepare.row_errors import RowErrors
from slurm_tf.prepare.row_statistics import StatisticsCollector
from tests.prepare.batches import batch_of


def collected(feature: Feature, *batches: Sequence[Any]) -> FeatureStatistics:
    schema = Schema((feature,))
    collector = StatisticsCollector(schema)
    for values in batches:
        batch = batch_of(schema, [{feature.name: value} for value in values])
        collector.add(feature_columns.checked(schema, batch, RowErrors(batch, "x")))
    (found,) = collector.result()
    return found


@given(values=st.lists(st.none() | st.floats(width=32)), at=st.integers(0, 9))
def test_floats(values: list[float | None], at: int) -> None:
    feature = Feature("x", Kind.FLOAT, default=0.0, allow_nan=True)
    found = collected(feature, values[:at], values[at:])
    finite = [each for each in values if each is not None and math.isfinite(each)]
    assert (found.rows, found.missing) == (len(values), values.count(None))
    assert found.values - found.not_finite == len(finite)
    assert (found.minimum, found.maximum) == (min(finite, default=None), max(finite, default=None))
    assert found.total == (math.fsum(finite) if finite else None)
    assert found == collected(feature, *([each] for each in values), []) == collected(feature, values)
    assert found.frequent is None


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)))
def test_integers(values: list[int]) -> None:
    found = collected(Feature("x", Kind.INT64), values)
    assert found.total == (sum(values) if values else None)
    assert (found.minimum, found.maximum) == (min(values, default=None), max(values, default=None))
    assert dict(found.frequent or ()) == {str(value): count for value, count in Counter(values).items()}
    assert found.distinct == len(set(values))
    if values:
        assert (found.quantiles[0], found.quantiles[50]) == (
            min(values),
            sorted(values)[math.ceil(len(values) / 2) - 1],
        )


@given(values=st.lists(st.lists(st.binary(max_size=3), max_size=3)))
def test_bytes_in_lists(values: list[list[bytes]]) -> None:
    found = collected(Feature("x", Kind.BYTES, (None,)), values)
    flat = [each for value in values for each in value]
    assert (found.rows, found.values) == (len(values), len(flat))
    assert found.total == (sum(map(len, flat)) if flat else None)
    assert [(name.encode(errors="surrogateescape"), count) for name, count in found.frequent or ()] == sorted(
        Counter(flat).items(), key=lambda item: (-item[1], item[0])
    )


def test_values_of_arrays_and_long_texts_are_not_counted() -> None:
    image = collected(Feature("x", Kind.INT64, (2,)), [[1, 2], [1, 2]])
    assert (image.frequent, image.quantiles, image.values, image.total) == (None, (), 4, 6)
    text = collected(Feature("x", Kind.BYTES), [b"a"], [b"x" * 129], [b"a"])
    assert (text.frequent, text.distinct, text.quantiles[-1]) == (None, None, 129)


def test_of_many_values_the_most_frequent_ones_are_named() -> None:
    values = [b"%d" % number for number in range(200) for _ in range(1 + number // 50)]
    found = collected(Feature("x", Kind.BYTES), values)
    assert found.distinct is None
    assert found.frequent
    assert found.frequent[0] == ("150", 4)
    assert len(found.frequent) == 100
    unique = collected(Feature("x", Kind.INT64), list(range(101)))
    assert (unique.frequent, unique.distinct) == ((), None)


def test_quantiles_of_many_shards_begin_with_the_least() -> None:
    feature = Feature("x", Kind.INT64)
    (found,) = row_statistics.merged([(collected(feature, list(range(part, 3000, 3))),) for part in range(3)])
    assert found.quantiles[0] == 0
    assert found.quantiles[-1] == 2999
    assert all(abs(value - 30 * step) <= 40 for step, value in enumerate(found.quantiles))


@given(values=st.lists(st.integers(0, 50) | st.integers(), max_size=200), parts=st.integers(1, 5))
def test_shards_are_merged(values: list[int], parts: int) -> None:
    values = [value % 2**40 for value in values]
    feature = Feature("x", Kind.INT64)
    whole = collected(feature, values)
    each = [(collected(feature, values[part::parts]),) for part in range(parts)]
    (found,) = row_statistics.merged(each)
    assert found.total == whole.total
    assert (found.rows, found.minimum, found.maximum) == (whole.rows, whole.minimum, whole.maximum)
    if whole.distinct is not None:
        assert dict(found.frequent or ()) == dict(whole.frequent or ())
    if not values:
        return
    assert (found.quantiles[0], found.quantiles[-1]) == (min(values), max(values))
    ordered = sorted(values)
    for step, value in enumerate(found.quantiles):
        below = sum(other < value for other in ordered)
        upto = sum(other <= value for other in ordered)
        # a part's step is one value at least
        slack = len(values) / 100 + parts + 1
        assert below - slack <= step * len(values) / 100 <= upto + slack
