"""Computes statistics of features from the columns of a shard, and merges those of shards.

They depend on the rows alone, not on the batches in which these came: sums are rounded once, quantiles are exact.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.dataset.statistics import MOST_FREQUENT, QUANTILES, FeatureStatistics
from slurm_tf.prepare import serialize
from slurm_tf.prepare.feature_columns import Ints, Numbers

# Longer values are not counted one by one: they are texts or images, not categories.
_LONGEST = 128
# float32 values are integers in units of 2**-172: a significand of 24 bits, and exponents down to -148.
_BITS, _LEAST = 24, -148


class StatisticsCollector:
    """Collects the statistics of the rows of one shard."""

    def __init__(self, schema: Schema) -> None:
        self._columns = {feature.name: _Column(feature) for feature in schema.features}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in the rows of a batch that `feature_columns.checked` returned."""
        for name, column in self._columns.items():
            column.add(batch.column(name))

    def result(self) -> tuple[FeatureStatistics, ...]:
        """Return the statistics, in the order of the schema."""
        return tuple(column.result() for column in self._columns.values())


def merged(parts: Sequence[Sequence[FeatureStatistics]]) -> tuple[FeatureStatistics, ...]:
    """Return the statistics of all rows of several shards, which have the same features."""
    return tuple(_merged(each) for each in zip(*parts, strict=True))


@dataclass
class _Column:
    """What is collected of one feature."""

    feature: Feature
    rows: int = 0
    missing: int = 0
    values: int = 0
    not_finite: int = 0
    minimum: float | None = None
    maximum: float | None = None
    # in units of 2**-172 for floats, else in ones
    total: int = 0
    is_counted: bool = True
    numbers: list[Numbers] = field(default_factory=list)
    texts: list[pa.BinaryArray] = field(default_factory=list)

    def add(self, column: pa.Array) -> None:
        """Take in the column of a batch."""
        self.rows += len(column)
        self.missing += column.null_count
        column = column.drop_null()
        while pa.types.is_list(column.type):
            column = column.flatten()
        self.values += len(column)
        is_bytes = self.feature.kind is Kind.BYTES
        self._add_numbers(serialize.sizes(column) if is_bytes else column.to_numpy(zero_copy_only=False))
        if is_bytes and self.is_counted and not _is_array(self.feature):
            self.is_counted = bool(serialize.sizes(column).max(initial=0) <= _LONGEST)
            self.texts = [*self.texts, column] if self.is_counted else []

    def _add_numbers(self, numbers: Numbers) -> None:
        if self.feature.kind is Kind.FLOAT:
            finite = numbers[np.isfinite(numbers)]
            self.not_finite += len(numbers) - len(finite)
            numbers = finite
        if not len(numbers):
            return
        self.minimum = min(numbers.min().item(), math.inf if self.minimum is None else self.minimum)
        self.maximum = max(numbers.max().item(), -math.inf if self.maximum is None else self.maximum)
        self.total += _sum_of_floats(numbers) if self.feature.kind is Kind.FLOAT else _sum_of_ints(numbers)
        if not _is_array(self.feature):
            self.numbers.append(numbers)

    def result(self) -> FeatureStatistics:
        """Return the statistics of all rows."""
        ordered = np.sort(np.concatenate(self.numbers)) if self.numbers else np.zeros(0, np.int64)
        frequent, distinct = self._frequent(ordered)
        total: float = self.total
        if self.feature.kind is Kind.FLOAT:
            total = self.total / (1 << (_BITS - _LEAST))  # the division of integers rounds once
        has_numbers = self.minimum is not None
        return FeatureStatistics(
            self.feature.name, self.rows, self.missing, self.values, self.not_finite, self.minimum, self.maximum,
            total if has_numbers else None, _quantiles(ordered), frequent, distinct,
        )  # fmt: skip

    def _frequent(self, ordered: Numbers) -> tuple[tuple[tuple[str, int], ...] | None, int | None]:
        """Return the most frequent values with their counts, and how many different ones there are, if these are all.

        `ordered`: all values of integers, in their order.
        """
        if self.feature.kind is Kind.FLOAT or _is_array(self.feature) or not self.is_counted:
            return None, None
        if self.feature.kind is Kind.INT64:
            starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
            table = pa.table({"values": ordered[starts], "counts": np.diff(starts, append=len(ordered))})
        else:
            found = pc.value_counts(pa.chunked_array(self.texts, pa.binary()))
            table = pa.table({"values": found.field("values"), "counts": found.field("counts")})
        if table.num_rows > MOST_FREQUENT:
            # values that are there once are no more frequent than others
            least = max(2, int(np.partition(table["counts"].to_numpy(), -MOST_FREQUENT)[-MOST_FREQUENT]))
            return _most_frequent(table.filter(pc.greater_equal(table["counts"], least))), None
        return _most_frequent(table), table.num_rows


def _is_array(feature: Feature) -> bool:
    """Return whether a feature is an array of a fixed shape, whose values are no categories."""
    return any(size is not None for size in feature.shape)


def _sum_of_ints(numbers: Ints) -> int:
    """Return the sum of 64-bit integers, whatever its size."""
    return (int((numbers >> 32).sum()) << 32) + int((numbers & 0xFFFFFFFF).sum())


def _sum_of_floats(numbers: Numbers) -> int:
    """Return the sum of finite float32, not rounded, in units of 2**-172: one of integers for each exponent."""
    significands, exponents = np.frexp(numbers)
    places = exponents - _LEAST
    sums = np.bincount(places, np.ldexp(significands.astype(np.float64), _BITS))  # below 2**53 for 2**29 numbers
    return sum(int(part) << place for place, part in enumerate(sums.tolist()))


def _quantiles(ordered: Numbers) -> tuple[float, ...]:
    if not len(ordered):
        return ()
    ranks = np.ceil(np.arange(QUANTILES + 1) * len(ordered) / QUANTILES).astype(np.int64) - 1
    return tuple(ordered[np.maximum(ranks, 0)].tolist())


def _most_frequent(table: pa.Table) -> tuple[tuple[str, int], ...]:
    """Return the first rows of a table of values and counts, by count, then by value."""
    first = table.sort_by([("counts", "descending"), ("values", "ascending")]).slice(0, MOST_FREQUENT)
    return tuple((_text(row["values"]), row["counts"]) for row in first.to_pylist())


def _text(value: int | bytes) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _merged(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    """Return the statistics of one feature over all shards."""
    frequent, distinct = _merged_frequent(parts)
    return FeatureStatistics(
        parts[0].name,
        sum(each.rows for each in parts),
        sum(each.missing for each in parts),
        sum(each.values for each in parts),
        sum(each.not_finite for each in parts),
        min((each.minimum for each in parts if each.minimum is not None), default=None),
        max((each.maximum for each in parts if each.maximum is not None), default=None),
        _total([each.total for each in parts if each.total is not None]),
        _merged_quantiles(parts),
        frequent,
        distinct,
    )


def _total(totals: Sequence[float]) -> float | None:
    if not totals:
        return None
    return sum(totals) if all(isinstance(each, int) for each in totals) else math.fsum(totals)


def _merged_quantiles(parts: Sequence[FeatureStatistics]) -> tuple[float, ...]:
    """Return quantiles of all parts: each step of a part counts as its last value, as often as it has values."""
    known = [each for each in parts if each.quantiles]
    if not known:
        return ()
    points = [(value, each.values - each.not_finite) for each in known for value in each.quantiles[1:]]
    points.sort(key=lambda point: point[0])
    sums = np.cumsum([weight for _, weight in points])
    places = np.searchsorted(sums, np.arange(1, QUANTILES + 1) * (sums[-1] / QUANTILES) * (1 - 1e-12))
    return (min(each.quantiles[0] for each in known), *(points[place][0] for place in places.tolist()))


def _merged_frequent(parts: Iterable[FeatureStatistics]) -> tuple[tuple[tuple[str, int], ...] | None, int | None]:
    counts, are_all = Counter[str](), True
    for each in parts:
        if each.frequent is None:
            return None, None
        counts.update(dict(each.frequent))
        are_all = are_all and each.distinct is not None
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_FREQUENT]
    return tuple(first), len(counts) if are_all and len(counts) <= MOST_FREQUENT else None
