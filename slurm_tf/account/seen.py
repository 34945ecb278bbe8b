"""Which keys have come by: eight bytes a key and a little, so that a million fit into 24 MiB."""

from array import array
from collections.abc import Hashable

_FIRST = 1 << 12
_EMPTY = 0


class Seen:
    """A set of keys that keeps their hashes alone: two of a million are taken for one with a chance of 1 in 10^7."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _FIRST))
        self._mask, self._count = _FIRST - 1, 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: Hashable) -> bool:
        """Add a key; return whether it is new."""
        mark = hash(key) & 0xFFFF_FFFF_FFFF_FFFF or 1
        table, mask = self._table, self._mask
        place = mark & mask
        while found := table[place]:
            if found == mark:
                return False
            place = (place + 1) & mask
        table[place] = mark
        self._count += 1
        if self._count * 3 > mask * 2:
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._table
        size = len(old) * 2
        table, mask = array("Q", bytes(8)) * size, size - 1
        for mark in old:
            if mark != _EMPTY:
                place = mark & mask
                while table[place]:
                    place = (place + 1) & mask
                table[place] = mark
        self._table, self._mask = table, mask
