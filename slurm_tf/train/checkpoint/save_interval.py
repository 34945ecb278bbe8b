"""How often to save. Standard library only.

Young's first-order optimum: with a checkpoint that costs C seconds of training and an interruption each M seconds, what
is lost to both is least at an interval of sqrt(2 C M) (J. W. Young, Communications of the ACM 17(9), 1974).
"""

import math
import statistics
from collections import deque
from typing import Deque

# Of the time, at most, for checkpoints (CheckFreq, FAST 2021).
MOST_OVERHEAD = 0.035
LEAST, MOST = 10.0, 3600.0
# Before the first save its cost is not known, and on preemptible partitions a tenth of the runs ends in half a minute.
FIRST = 30.0
# How much slower training is while a checkpoint is written beside it: on two cores half (docs/benchmarks.md), with GPUs
# less, which changes little: a cost that is four times too high makes the interval twice as long.
_BESIDE = 0.5
_REMEMBERED = 5
# What is told: an interval so many times longer or shorter than the one that was told last.
_MUCH = 1.5


def best(cost: float, between_interruptions: float) -> float:
    """Return the seconds from one save to the next; both arguments are seconds."""
    interval = math.sqrt(2 * cost * between_interruptions)
    return min(max(interval, cost / MOST_OVERHEAD, LEAST), max(MOST, cost / MOST_OVERHEAD))


class Interval:
    """The interval of one training, from what its own saves cost."""

    def __init__(self, between_interruptions: float) -> None:
        """`between_interruptions`: mean seconds from one of the job to the next."""
        self._between = between_interruptions
        self._costs: Deque[float] = deque(maxlen=_REMEMBERED)
        self._told = 0.0
        self.seconds = FIRST

    def took(self, seconds: float, blocked: float, size: int) -> str:
        """Take in a save of `size` bytes that training waited for `blocked` of `seconds`.

        Return what to tell of the new interval, "" if it is much as before.
        """
        self._costs.append(blocked + _BESIDE * max(seconds - blocked, 0.0))
        cost = statistics.median(self._costs)
        # the next one waits for this one to be on storage
        self.seconds = max(best(cost, self._between), 2 * seconds)
        if self._told and 1 / _MUCH < self.seconds / self._told < _MUCH:
            return ""
        self._told = self.seconds
        return (
            f"a checkpoint every {self.seconds:.0f} s: one of {size / 1e6:.0f} MB costs {cost:.2f} s of training and "
            f"is on storage after {seconds:.1f} s, an interruption is expected every {self._between / 3600:.1f} h"
        )
