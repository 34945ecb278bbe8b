"""Compares the statistics of two splits or of two versions of a data set, feature by feature.

Categories are compared by the L-infinity distance, as TensorFlow Data Validation does: the largest difference of the
share of any value. Numbers, and texts by their length, are compared by the population stability index (PSI) over the
deciles of the first sample. Both are above 0 for two samples of the same data: what chance explains is added to the
limits.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.dataset.statistics import QUANTILES, FeatureStatistics

# The share of rows without the feature may differ by this much.
MISSING_LIMIT = 0.05
# Standard deviations that count as chance.
_DEVIATIONS = 3
# A share of nothing would make PSI infinite; quantiles do not tell less than this.
_LEAST = 0.5 / QUANTILES
_DECILES = 10
# How many values that only the second one has are named.
_NAMED = 5


class Measure(str, Enum):
    """How two distributions are compared."""

    L_INFINITY = "L-infinity"
    PSI = "PSI"


# Above these a feature differs, if chance alone does not explain it. PSI is usually read so; 0.25 is a large change.
LIMITS = {Measure.PSI: 0.1, Measure.L_INFINITY: 0.05}


@dataclass(frozen=True)
class Difference:
    """How a feature differs between two samples. `measure` and `value` are None where that is not known.

    `chance`: how large the value may be without a difference. `missing`: the shares of rows without the feature.
    `new_values`: some that the first sample does not have, of categories that it has all named.
    """

    name: str
    measure: Measure | None
    value: float | None
    chance: float | None
    missing: tuple[float, float]
    is_missing_different: bool
    new_values: tuple[str, ...]

    @property
    def differs(self) -> bool | None:
        """Whether the feature differs; None if that is not known."""
        if self.is_missing_different:
            return True
        if self.measure is None or self.value is None or self.chance is None:
            return None
        return self.value > LIMITS[self.measure] + self.chance


def differences(
    schema: Schema, before: Sequence[FeatureStatistics], after: Sequence[FeatureStatistics]
) -> tuple[Difference, ...]:
    """Return how each feature of `schema` differs, of which both have statistics."""
    old, new = ({each.name: each for each in statistics} for statistics in (before, after))
    return tuple(
        _difference(feature, old[feature.name], new[feature.name])
        for feature in schema.features
        if feature.name in old and feature.name in new
    )


def schema_changes(before: Schema, after: Schema) -> tuple[str, ...]:
    """Return what another schema has more, less or otherwise, in words."""
    old, new = ({each.name: each for each in schema.features} for schema in (before, after))
    return (
        *(f"{name} is no longer there" for name in old if name not in new),
        *(f"{name} is new" for name in new if name not in old),
        *(
            f"{name} was {type_words(old[name])} and is {type_words(new[name])}"
            for name in old
            if name in new and type_words(old[name]) != type_words(new[name])
        ),
    )


def type_words(feature: Feature) -> str:
    """Return the type of a feature, such as "float of shape (28, 28, 1)"."""
    shape = f" of shape {feature.shape}" if feature.shape else ""
    return f"{'a sequence of ' if feature.is_sequence else ''}{feature.kind.value}{shape}"


def _difference(feature: Feature, before: FeatureStatistics, after: FeatureStatistics) -> Difference:
    missing = before.missing / max(1, before.rows), after.missing / max(1, after.rows)
    allowed = MISSING_LIMIT + _chance_of_share(before.missing + after.missing, before.rows, after.rows)
    is_missing_different = abs(missing[0] - missing[1]) > allowed
    if _are_categories(feature, before, after):
        value, chance = _l_infinity(before, after)
        new_values = _new_values(before, after)
        return Difference(
            feature.name, Measure.L_INFINITY, value, chance, missing, is_missing_different, new_values
        )  # fmt: skip
    if before.quantiles and after.quantiles:
        value, chance = _stability_index(before, after)
        return Difference(feature.name, Measure.PSI, value, chance, missing, is_missing_different, ())
    return Difference(feature.name, None, None, None, missing, is_missing_different, ())


def _are_categories(feature: Feature, before: FeatureStatistics, after: FeatureStatistics) -> bool:
    """Return whether values are compared one by one: integers if all are named, texts if the most frequent ones are."""
    if not before.frequent or not after.frequent:
        return False
    return feature.kind is Kind.BYTES or None not in (before.distinct, after.distinct)


def _l_infinity(before: FeatureStatistics, after: FeatureStatistics) -> tuple[float, float]:
    """Return the largest difference of a value's share, and what chance explains of it.

    A value that only one of two incomplete lists names has at most the least share of the other list there.
    """
    shares = [_shares(each) for each in (before, after)]
    unknown = [
        0.0 if each.distinct is not None else min(shares[at].values()) for at, each in enumerate((before, after))
    ]
    found = (0.0, 0.0)
    for name in {**shares[0], **shares[1]}:
        known = [part.get(name) for part in shares]
        first, second = (
            min(unknown[at], known[1 - at] or 0.0) if known[at] is None else known[at] or 0.0 for at in (0, 1)
        )
        both = first * before.values + second * after.values
        found = max(found, (abs(first - second), _chance_of_share(both, before.values, after.values)))
    return found


def _shares(statistics: FeatureStatistics) -> dict[str, float]:
    return {name: count / statistics.values for name, count in statistics.frequent or ()}


def _chance_of_share(count: float, first: int, second: int) -> float:
    """Return how much a share may differ between two samples of the same data, in which it is `count` together."""
    if not first or not second:
        return 1.0
    share = count / (first + second)
    return _DEVIATIONS * math.sqrt(share * (1 - share) * (1 / first + 1 / second))


def _stability_index(before: FeatureStatistics, after: FeatureStatistics) -> tuple[float, float]:
    """Return the population stability index over the deciles of `before`, and what chance explains of it."""
    edges = sorted(set(before.quantiles[_DECILES : QUANTILES : QUANTILES // _DECILES]))
    first, second = (_bins(each.quantiles, edges) for each in (before, after))
    value = sum((new - old) * math.log(new / old) for old, new in zip(first, second, strict=True))
    # of samples of the same data, PSI is distributed as chi-squared, with the variance of twice its degrees of freedom
    expected = len(edges) + _DEVIATIONS * math.sqrt(2 * len(edges))
    return value, expected * (1 / before.values + 1 / after.values)


def _bins(quantiles: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Return the shares of values up to each edge, above the edge before it, and of those above the last one."""
    steps = quantiles[1:]
    upto = [0.0, *(bisect.bisect_right(steps, edge) / len(steps) for edge in edges), 1.0]
    return [max(high - low, _LEAST) for low, high in itertools.pairwise(upto)]


def _new_values(before: FeatureStatistics, after: FeatureStatistics) -> tuple[str, ...]:
    if before.distinct is None:
        return ()
    known = dict(before.frequent or ())
    return tuple(name for name, _ in after.frequent or () if name not in known)[:_NAMED]
