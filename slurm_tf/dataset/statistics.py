"""Statistics of one feature: of the rows of a shard, or of a split. For Python 3.9."""

from dataclasses import dataclass
from typing import Optional, Tuple

# How many steps the quantiles have, and how many values are named as the most frequent ones.
QUANTILES, MOST_FREQUENT = 100, 100


@dataclass(frozen=True)
class FeatureStatistics:
    """What is known of one feature in `rows` rows; None is what is not known.

    `missing`: rows without the feature; `values`: all values of all others, more than one a row in lists.
    `minimum`, `maximum`, `total`: of finite numbers, and of the lengths in bytes of values that are bytes; None without
    any. `not_finite`: how many values are NaN or infinite.
    `quantiles`: QUANTILES + 1 numbers, or lengths, from the least to the greatest, each with as many values up to the
    next one; merged ones are exact to a step. Empty without values, and for arrays of a fixed shape.
    `frequent`: values and how often they are there, the most frequent ones first, bytes as UTF-8 with surrogateescape.
    Counts that were merged are lower bounds unless `distinct` is known. None for floats, arrays of a fixed shape and
    bytes of which one is longer than 128.
    `distinct`: how many different values there are, if all of them are in `frequent`.
    """

    name: str
    rows: int
    missing: int
    values: int
    not_finite: int
    minimum: Optional[float]
    maximum: Optional[float]
    total: Optional[float]
    quantiles: Tuple[float, ...]
    frequent: Optional[Tuple[Tuple[str, int], ...]]
    distinct: Optional[int]

    @property
    def mean(self) -> Optional[float]:
        """The mean of the finite numbers, or of the lengths in bytes."""
        finite = self.values - self.not_finite
        return self.total / finite if finite and self.total is not None else None
