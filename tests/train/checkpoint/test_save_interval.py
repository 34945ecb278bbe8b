"""The interval mtbf two saves: its formula, its bounds, and the lines that report it."""

import math
import random

import pytest

from slurm_tf.train.checkpoint import save_interval
from slurm_tf.train.checkpoint.save_interval import MAX_OVERHEAD, MAX_SECONDS, MIN_SECONDS, SaveInterval, optimum

DAY = 86400.0


@pytest.mark.parametrize(
    ("cost", "mtbf", "seconds"),
    [
        (2.0, DAY, math.sqrt(2 * 2.0 * DAY)),
        (0.0, DAY, MIN_SECONDS),
        (0.001, 100.0, MIN_SECONDS),
        (200.0, 10 * DAY, 200.0 / MAX_OVERHEAD),  # the bound is above the longest interval
        (20.0, 1000 * DAY, MAX_SECONDS),
        (1.0, 60.0, 1.0 / MAX_OVERHEAD),
    ],
)
def test_the_interval(cost: float, mtbf: float, seconds: float) -> None:
    assert optimum(cost, mtbf) == pytest.approx(seconds)


def lost(every: float, cost: float, mtbf: float, draws: random.Random) -> float:
    """Return the share of a long simulated training that saves take and interruptions undo."""
    total = useful = 0.0
    for _ in range(4000):
        life = draws.expovariate(1 / mtbf)
        total += life
        useful += every * int(life / (every + cost))
    return 1 - useful / total


@pytest.mark.parametrize(("cost", "mtbf"), [(2.0, 3600.0), (0.5, 1800.0), (10.0, DAY)])
def test_no_other_interval_loses_much_less(cost: float, mtbf: float) -> None:
    def simulated(every: float) -> float:
        return lost(every, cost, mtbf, random.Random(1))

    ours = simulated(optimum(cost, mtbf))
    others = [simulated(optimum(cost, mtbf) * factor) for factor in (0.25, 0.5, 0.75, 1.5, 2.0, 4.0)]
    assert ours <= min(others) * 1.03
    assert max(others) > ours * 1.2


def test_an_interval_follows_what_saves_cost() -> None:
    interval = SaveInterval(DAY)
    assert interval.seconds == save_interval.FIRST_SECONDS
    line = interval.record_save(seconds=5.0, blocked=4.0, size=400_000_000)
    cost = 4.0 + 0.5
    assert interval.seconds == pytest.approx(math.sqrt(2 * cost * DAY))
    assert line == (
        f"a checkpoint every {interval.seconds:.0f} s: one of 400 MB costs 4.50 s of training and is on storage after "
        "5.0 s, an interruption is expected every 24.0 h"
    )
    assert interval.record_save(5.0, 4.2, 400_000_000) == ""
    lines = [interval.record_save(1.0, 0.05, 400_000_000) for _ in range(6)]
    assert interval.seconds == pytest.approx(math.sqrt(2 * (0.05 + 0.95 * 0.5) * DAY))
    assert sum(map(bool, lines)) == 1, "the change is reported once"


def test_one_slow_save_changes_little() -> None:
    interval = SaveInterval(DAY)
    for _ in range(4):
        interval.record_save(1.0, 0.1, 1)
    before = interval.seconds
    assert interval.record_save(60.0, 30.0, 1) == ""
    assert interval.seconds == pytest.approx(max(before, 120.0))


def test_the_next_save_does_not_wait_for_this_one() -> None:
    interval = SaveInterval(60.0)
    interval.record_save(seconds=100.0, blocked=0.0, size=1)
    assert interval.seconds >= 200.0
