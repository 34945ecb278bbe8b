"""Remembers which jobs and incarnations have occurred, in a few bytes each."""

from array import array
from typing import NamedTuple

from slurm_tf.account.fingerprints import Fingerprints
from slurm_tf.account.usage_record import UsageRecord

# Job ids that stand together share a block.
_BITS = 6
_SLOTS = 1 << _BITS
_MOST = 2**32 - 1
# Slurm holds a job that was requeued for two minutes (22.05); the rest of 32 bits is for a million groups.
_HELD_BITS = 12
_MOST_HELD = (1 << _HELD_BITS) - 1


class Slots:
    """`width` numbers of 32 bits for each job, 0 at first: little more than these where ids are dense."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._empty = array("I", bytes(4 * width * _SLOTS))
        self._blocks: dict[str, dict[int, array[int]]] = {}
        # ids that are no numbers get negative ones, but for -1, whose hash is that of -2
        self._words: dict[str, int] = {}

    def of(self, cluster: str, job: str) -> "tuple[array[int], int, int]":
        """Return the job's block, where in it its numbers are, and its own number."""
        number = int(job) if job.isdecimal() else self._words.setdefault(job, -2 - len(self._words))
        blocks = self._blocks.get(cluster)
        if blocks is None:
            blocks = self._blocks[cluster] = {}
        block = blocks.get(number >> _BITS)
        if block is None:
            block = blocks[number >> _BITS] = self._empty[:]
        return block, (number & _SLOTS - 1) * self._width, number


class Requeued(NamedTuple):
    """An incarnation that is not its job's first: its group, how long it waited, of which Slurm held it for a while."""

    group: int
    waited: int
    held: int


class Jobs:
    """Every job with one of its groups, the start of its first incarnation and how long that one had waited.

    Each counts once, however often it was requeued. It takes some 15 bytes a job.
    """

    def __init__(self) -> None:
        self.count = 0
        self._slots = Slots(3)
        # of jobs that are in several groups: the others
        self._also = Fingerprints()

    def add(self, cluster: str, job: str, start: int, own: Requeued) -> tuple[bool, Requeued | None]:
        """Add an incarnation of `job`; `own`: what it is if it is not the first. Groups are counted from 0.

        Return whether the job is new to that group, and the incarnation that turns out to be a requeued one: this, or
        the one that counted as the first.
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
    """Every incarnation: 32 bits of its key for the first of each job, 64 for the others; some 6 bytes a job."""

    def __init__(self) -> None:
        self._slots = Slots(1)
        self._others = Fingerprints()

    def add(self, record: UsageRecord) -> bool:
        """Add one; return whether it is new."""
        block, at, _ = self._slots.of(record.cluster, record.raw_id)
        key = record.key
        mark = hash(key) & _MOST or 1
        if not block[at]:
            block[at] = mark
            return True
        return block[at] != mark and self._others.add(key)
