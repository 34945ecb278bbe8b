"""Tasks that others wait for: slow by a factor, for a time, and what is known where little is."""

import pytest

from slurm_tf.launch.decide.stragglers import StragglerDetector
from slurm_tf.run.settings import WatchSettings

LIMITS = WatchSettings(straggler_factor=1.5, straggler_time=60)


def tell(stragglers: StragglerDetector, now: float, *own: float) -> None:
    """Have worker 0, 1, ... say how long each works by itself in a step."""
    for index, seconds in enumerate(own):
        stragglers.step_time(f"worker:{index}", seconds, now)


def told(stragglers: StragglerDetector) -> list[str]:
    return [name for name, _ in stragglers.notes]


def test_one_that_is_slow_for_long_is_told_once() -> None:
    stragglers = StragglerDetector(LIMITS)
    for now in range(0, 60, 5):
        tell(stragglers, now, 0.1, 0.1, 0.3)
        assert told(stragglers) == []
    for now in range(60, 200, 5):
        tell(stragglers, now, 0.1, 0.1, 0.3)
    words = "works 0.3 s by itself in each step, 3.0 times the 0.1 s of the others, for 60 s"
    assert stragglers.notes == [("worker:2", words)]
    assert stragglers.report is not None
    assert stragglers.report.own == {"worker:0": 0.1, "worker:1": 0.1, "worker:2": 0.3}
    slow = stragglers.report.slow
    assert list(slow) == ["worker:2"]
    assert (slow["worker:2"].own, slow["worker:2"].others) == (0.3, 0.1)
    assert slow["worker:2"].seconds >= 180
    # and so is another life of it
    stragglers.notes.clear()
    stragglers.ended("worker:2")
    assert stragglers.report is None
    for now in range(200, 265, 5):
        tell(stragglers, now, 0.1, 0.1, 0.3)
    assert told(stragglers) == ["worker:2"]


@pytest.mark.parametrize(
    "own",
    [
        (0.1, 0.149),  # less than the factor
        (0.0001, 0.0009),  # less than a millisecond
        (0.1, 0.1, 0.1),
        (0.3, 0.3, 0.3, 0.1),  # one that is fast
    ],
)
def test_nobody_is_slow_by_little(own: tuple[float, ...]) -> None:
    stragglers = StragglerDetector(LIMITS)
    for now in range(0, 200, 5):
        tell(stragglers, now, *own)
    assert told(stragglers) == []
    assert stragglers.report is not None
    assert stragglers.report.slow == {}


def test_one_that_is_slow_now_and_then_is_not() -> None:
    stragglers = StragglerDetector(LIMITS)
    for now in range(0, 400, 5):
        tell(stragglers, now, 0.1, 0.1 if now % 50 == 0 else 0.3)
    assert told(stragglers) == []


def test_who_is_slow_by_now() -> None:
    stragglers = StragglerDetector(LIMITS)
    assert stragglers.slow is None
    for now in range(0, 100, 5):
        tell(stragglers, now, 0.1, 0.1, 0.3)
    words = "works 0.3 s by itself in each step, 3.0 times the 0.1 s of the others, for "
    assert stragglers.slow is not None
    assert [(name, how.startswith(words)) for name, how in stragglers.slow.items()] == [("worker:2", True)]
    for now in range(100, 120, 5):
        tell(stragglers, now, 0.1, 0.1, 0.1)
    assert stragglers.slow == {}


def test_half_of_all_may_be_slow() -> None:
    stragglers = StragglerDetector(LIMITS)
    for now in range(0, 100, 5):
        tell(stragglers, now, 0.3, 0.1, 0.3, 0.1, 0.1)
    assert sorted(told(stragglers)) == ["worker:0", "worker:2"]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1])
def test_of_those_that_say_what_cannot_be_nothing_is_known(seconds: float) -> None:
    stragglers = StragglerDetector(LIMITS)
    for now in range(0, 100, 5):
        tell(stragglers, now, 0.1, seconds)
    assert (stragglers.notes, stragglers.report) == ([], None)


def test_what_was_told_long_ago_is_not_known() -> None:
    stragglers = StragglerDetector(LIMITS)
    tell(stragglers, 0, 0.1, 0.3)
    for now in range(61, 300, 5):
        tell(stragglers, now, 0.1)
    assert told(stragglers) == []


def test_steps_of_two_minutes() -> None:
    stragglers = StragglerDetector(LIMITS)
    for now in range(0, 500, 120):
        tell(stragglers, now, 60, 110)
    assert told(stragglers) == ["worker:1"]


def test_it_may_be_turned_off() -> None:
    stragglers = StragglerDetector(WatchSettings())
    for now in range(0, 200, 5):
        tell(stragglers, now, 0.1, 0.3)
    assert (stragglers.notes, stragglers.report) == ([], None)
