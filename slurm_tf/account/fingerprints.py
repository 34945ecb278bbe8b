"""A compact set of keys, which stores hashes only: 12 bytes for each key, a million keys in 16 MiB."""

from array import array
from collections.abc import Hashable

# Many small hash tables, which grow one at a time: growing never needs twice the memory of all.
_TABLES = 256
_FIRST = 32


class Fingerprints:
    """A set of keys that stores only 64-bit hashes. The chance that a million keys have a collision is 1 in 10^7."""

    def __init__(self) -> None:
        self._tables = [array("Q", bytes(8 * _FIRST)) for _ in range(_TABLES)]
        self._counts = [0] * _TABLES

    def __len__(self) -> int:
        return sum(self._counts)

    def add(self, key: Hashable) -> bool:
        """Add a key; return whether it is new."""
        mark = hash(key) & 0xFFFF_FFFF_FFFF_FFFF or 1
        which = mark % _TABLES
        table = self._tables[which]
        size = len(table)
        place = mark // _TABLES % size
        while found := table[place]:
            if found == mark:
                return False
            place = (place or size) - 1
        table[place] = mark
        self._counts[which] += 1
        if self._counts[which] * 4 > size * 3:
            self._tables[which] = _grown(table)
        return True


def _grown(old: "array[int]") -> "array[int]":
    size = len(old) * 3 // 2
    table = array("Q", bytes(8)) * size
    for mark in old:
        if mark:
            place = mark // _TABLES % size
            while table[place]:
                place = (place or size) - 1
            table[place] = mark
    return table
