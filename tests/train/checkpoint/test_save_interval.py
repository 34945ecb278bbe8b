"""How often to save: the formula, its bounds, and what is said of it."""

import math
import random

import pytest

from slurm_tf.train.checkpoint import save_interval
from slurm_tf.train.checkpoint.save_interval import LEAST, MOST, MOST_OVERHEAD, Interval, best

DAY = 86400.0


@pytest.mark.parametrize(
    ("cost", "between", "seconds"),
    [
        (2.0, DAY, math.sqrt(2 * 2.0 * DAY)),
        (0.0, DAY, LEAST),
        (0.001, 100.0, LEAST),
        (200.0, 10 * DAY, 200.0 / MOST_OVERHEAD),  # the bound is above the longest interval
        (20.0, 1000 * DAY, MOST),
        (1.0, 60.0, 1.0 / MOST_OVERHEAD),
    ],
)
def test_the_interval(cost: float, between: float, seconds: float) -> None:
    assert best(cost, between) == pytest.approx(seconds)


def lost(every: float, cost: float, between: float, draws: random.Random) -> float:
    """Return the share of time that is lost, in a long simulated training: saves, and work since the last one."""
    total = useful = 0.0
    for _ in range(4000):
        life = draws.expovariate(1 / between)
        total += life
        useful += every * int(life / (every + cost))
    return 1 - useful / total


@pytest.mark.parametrize(("cost", "between"), [(2.0, 3600.0), (0.5, 1800.0), (10.0, DAY)])
def test_no_other_interval_loses_much_less(cost: float, between: float) -> None:
    def simulated(every: float) -> float:
        return lost(every, cost, between, random.Random(1))

    ours = simulated(best(cost, between))
    others = [simulated(best(cost, between) * factor) for factor in (0.25, 0.5, 0.75, 1.5, 2.0, 4.0)]
    assert ours <= min(others) * 1.03
    assert max(others) > ours * 1.2


def test_an_interval_follows_what_saves_cost() -> None:
    every = Interval(DAY)
    assert every.seconds == save_interval.FIRST
    said = every.took(seconds=5.0, blocked=4.0, size=400_000_000)
    cost = 4.0 + 0.5
    assert every.seconds == pytest.approx(math.sqrt(2 * cost * DAY))
    assert said == (
        f"a checkpoint every {every.seconds:.0f} s: one of 400 MB costs 4.50 s of training and is on storage after "
        "5.0 s, an interruption is expected every 24.0 h"
    )
    assert every.took(5.0, 4.2, 400_000_000) == ""
    words = [every.took(1.0, 0.05, 400_000_000) for _ in range(6)]
    assert every.seconds == pytest.approx(math.sqrt(2 * (0.05 + 0.95 * 0.5) * DAY))
    assert sum(map(bool, words)) == 1, "it is told once that it has changed"


def test_one_slow_save_changes_little() -> None:
    every = Interval(DAY)
    for _ in range(4):
        every.took(1.0, 0.1, 1)
    before = every.seconds
    assert every.took(60.0, 30.0, 1) == ""
    assert every.seconds == pytest.approx(max(before, 120.0))


def test_the_next_save_does_not_wait_for_this_one() -> None:
    every = Interval(60.0)
    every.took(seconds=100.0, blocked=0.0, size=1)
    assert every.seconds >= 200.0
