"""A histogram of integers, for percentiles: counts in buckets whose width grows with the value.

Values below 128 have one bucket each. Above, each power of two is divided into 64 buckets: a bucket's middle is within
1/128 of every value in it. Source: the layout of HdrHistogram, http://hdrhistogram.org.
"""

import math
from array import array

# Up to this many values, each value's bucket is stored instead of counts: most groups of a report have few values.
_FEW = 256


def _bucket(value: int) -> int:
    shift = value.bit_length() - 7
    return value if shift <= 0 else (shift << 6) + (value >> shift)


def _middle(bucket: int) -> int:
    if bucket < 128:
        return bucket
    shift = (bucket >> 6) - 1
    return ((bucket - (shift << 6)) << shift) + (1 << shift >> 1)


class Histogram:
    """Values from 0 to 2**40, in at most 10 KiB."""

    __slots__ = ("_counts", "_few")

    def __init__(self) -> None:
        self._few: array[int] = array("H")  # the bucket of each value, up to _FEW values
        self._counts: array[int] | None = None  # for more values: the number of values in each bucket

    def add(self, value: int) -> None:
        """Add one value; a negative one counts as 0."""
        bucket = _bucket(value) if value > 0 else 0
        if self._counts is None and len(self._few) < _FEW:
            self._few.append(bucket)
        else:
            self._count(bucket, 1)

    def merge(self, other: "Histogram") -> None:
        """Add all values of another histogram."""
        for bucket, count in other._pairs():
            self._count(bucket, count)

    def percentile(self, percent: float) -> int | None:
        """Return the percentile by nearest rank, with an error of at most 1%; None if there are no values."""
        pairs = sorted(self._pairs())
        rank = max(1, math.ceil(sum(count for _, count in pairs) * percent / 100))
        for bucket, count in pairs:
            rank -= count
            if rank <= 0:
                return _middle(bucket)
        return None

    def _pairs(self) -> list[tuple[int, int]]:
        """Return (bucket, count) pairs; a bucket may occur more than once."""
        if self._counts is None:
            return [(bucket, 1) for bucket in self._few]
        return [(bucket, count) for bucket, count in enumerate(self._counts) if count]

    def _count(self, bucket: int, count: int) -> None:
        if self._counts is None:
            few, self._few, self._counts = self._few, array("H"), array("I")
            for each in few:
                self._count(each, 1)
        counts = self._counts
        if bucket >= len(counts):
            counts.extend([0] * (bucket + 1 - len(counts)))
        counts[bucket] += count
