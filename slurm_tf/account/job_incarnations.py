"""Compact sets of the jobs and incarnations that have occurred, with a few bytes for each."""

from array import array
from typing import NamedTuple

from slurm_tf.account.fingerprints import Fingerprints
from slurm_tf.account.usage_record import UsageRecord

# Jobs whose ids differ only in the low bits share a block.
_BITS = 6
_SLOTS = 1 << _BITS
_MOST = 2**32 - 1
# Slurm holds a requeued job for two minutes (22.05); the other 20 bits of 32 are for the number of a group.
_HELD_BITS = 12
_MOST_HELD = (1 << _HELD_BITS) - 1


class Slots:
    """An array of `width` 32-bit numbers for each job, initially 0; it takes little more memory if ids are dense."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._empty = array("I", bytes(4 * width * _SLOTS))
        self._blocks: dict[str, dict[int, array[int]]] = {}
        # ids that are not numeric get negative numbers from -2 on, as -1 and -2 have the same hash
        self._words: dict[str, int] = {}

    def of(self, cluster: str, job: str) -> "tuple[array[int], int, int]":
        """Return the job's block, the index of its numbers in the block, and the job's number."""
        number = int(job) if job.isdecimal() else self._words.setdefault(job, -2 - len(self._words))
        blocks = self._blocks.get(cluster)
        if blocks is None:
            blocks = self._blocks[cluster] = {}
        block = blocks.get(number >> _BITS)
        if block is None:
            block = blocks[number >> _BITS] = self._empty[:]
        return block, (number & _SLOTS - 1) * self._width, number


class Requeued(NamedTuple):
    """An incarnation that is not its job's first: its group, and for how many seconds it waited and Slurm held it."""

    group: int
    waited: int
    held: int


class Jobs:
    """Counts jobs; each counts once, however often it was requeued. It takes some 15 bytes for each job.

    For each job it stores one of its groups, the start of its first incarnation and how long that one had waited.
    """

    def __init__(self) -> None:
        self.count = 0
        self._slots = Slots(3)
        # for jobs that are in several groups: the other groups
        self._also = Fingerprints()

    def add(self, cluster: str, job: str, start: int, own: Requeued) -> tuple[bool, Requeued | None]:
        """Add an incarnation of `job`. `own`: its group (from 0) and waiting times, in case it is not the job's first.

        Return whether the job is new to that group, and the incarnation that is now known to be requeued: this one, or
        the one that counted as the first until now.
        """
        block, at, number = self._slots.of(cluster, job)
        group, waited, held = own
        mark = (group + 1 << _HELD_BITS) + min(held, _MOST_HELD)
        known = block[at]
        if not known:
            self.count += 1
            block[at], block[at + 1], block[at + 2] = mark, min(start, _MOST), min(waited, _MOST)
            return True, None
        former = (known >> _HELD_BITS) - 1
        is_new = group != former and self._also.add((group, cluster, number))
        if start >= block[at + 1]:
            return is_new, own
        displaced = Requeued(former, block[at + 2], known & _MOST_HELD)
        if group != former:
            self._also.add((former, cluster, number))
        block[at], block[at + 1], block[at + 2] = mark, start, min(waited, _MOST)
        return is_new, displaced


class Incarnations:
    """A set of incarnations: stores 32 bits of the key of a job's first one, 64 of the others; 6 bytes for each job."""

    def __init__(self) -> None:
        self._slots = Slots(1)
        self._others = Fingerprints()

    def add(self, record: UsageRecord) -> bool:
        """Add an incarnation; return whether it is new."""
        block, at, _ = self._slots.of(record.cluster, record.raw_id)
        key = record.key
        mark = hash(key) & _MOST or 1
        if not block[at]:
            block[at] = mark
            return True
        return block[at] != mark and self._others.add(key)
