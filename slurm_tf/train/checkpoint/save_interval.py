"""Chooses how often to save. Standard library only.

Young's first-order optimum: with a checkpoint that costs C seconds of training and an interruption every M seconds, the
time lost to both is least at an interval of sqrt(2 C M) (J. W. Young, Communications of the ACM 17(9), 1974).
"""

import math
import statistics
from collections import deque
from typing import Deque

# The largest share of the time that checkpoints may take (CheckFreq, FAST 2021).
MAX_OVERHEAD = 0.035
MIN_SECONDS, MAX_SECONDS = 10.0, 3600.0
# The interval before the first save, whose cost is not known yet. On preemptible partitions a tenth of the runs ends
# within half a minute.
FIRST_SECONDS = 30.0
# By how much training is slower while a checkpoint is written in the background: by half on two cores
# (docs/benchmarks.md), by less with GPUs. That changes little: a cost that is four times too high doubles the interval.
_BACKGROUND_SLOWDOWN = 0.5
_COSTS_KEPT = 5
# A new interval is reported if it differs from the last reported one by more than this factor.
_REPORT_FACTOR = 1.5


def optimum(cost: float, mtbf: float) -> float:
    """Return the best interval between two saves; all are seconds, `mtbf` is the mean time between interruptions."""
    interval = math.sqrt(2 * cost * mtbf)
    return min(max(interval, cost / MAX_OVERHEAD, MIN_SECONDS), max(MAX_SECONDS, cost / MAX_OVERHEAD))


class SaveInterval:
    """The interval of one training, updated from what its own saves cost. `seconds`: from one save to the next."""

    def __init__(self, mtbf: float) -> None:
        """`mtbf`: mean seconds between two interruptions of the job."""
        self._mtbf = mtbf
        self._costs: Deque[float] = deque(maxlen=_COSTS_KEPT)
        self._reported = 0.0
        self.seconds = FIRST_SECONDS

    def record_save(self, seconds: float, blocked: float, size: int) -> str:
        """Record that a save of `size` bytes took `seconds`, `blocked` of which training waited for it.

        Return a line that reports the new interval, "" if it is much the same.
        """
        self._costs.append(blocked + _BACKGROUND_SLOWDOWN * max(seconds - blocked, 0.0))
        cost = statistics.median(self._costs)
        # the next save waits until this one is on storage
        self.seconds = max(optimum(cost, self._mtbf), 2 * seconds)
        if self._reported and 1 / _REPORT_FACTOR < self.seconds / self._reported < _REPORT_FACTOR:
            return ""
        self._reported = self.seconds
        return (
            f"a checkpoint every {self.seconds:.0f} s: one of {size / 1e6:.0f} MB costs {cost:.2f} s of training and "
            f"is on storage after {seconds:.1f} s, an interruption is expected every {self._mtbf / 3600:.1f} h"
        )
