"""One incarnation: its key, and the seconds of it that a window has."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.slurm.job_states import JobState

NOW = 1000


def record(**more: object) -> UsageRecord:
    return UsageRecord(**{"id": "12", "raw_id": "12", "state_text": "COMPLETED", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(0, 1000, 100), (100, 200, 100), (0, 100, 0), (200, 300, 0), (150, 151, 1), (0, 150, 50), (199, 999, 1)],
)
def test_a_window_has_its_own_seconds(start: int, end: int, seconds: int) -> None:
    assert record(started=100, ended=200).elapsed(start, end, NOW) == seconds


def test_what_runs_is_counted_until_it_is_known_to_have_run() -> None:
    assert record(started=100).elapsed(0, 5000, NOW) == 900
    assert record(started=100, counted_until=400).elapsed(0, 5000, NOW) == 300
    assert record(started=100).elapsed(0, 500, NOW) == 400


def test_what_never_ran_has_no_seconds() -> None:
    assert record(submitted=5).elapsed(0, 5000, NOW) == 0
    assert record(submitted=5, ended=50).elapsed(0, 5000, NOW) == 0


@given(
    some.integers(0, 500), some.integers(0, 500), some.integers(0, 600), some.integers(0, 1100), some.integers(0, 1100)
)
def test_windows_that_meet_have_all_seconds_once(start: int, length: int, suspended: int, cut: int, end: int) -> None:
    job = record(started=start, ended=start + length, suspended=suspended)
    low, high = sorted((cut, end))
    windows = ((0, low), (low, high), (high, 2000))
    assert sum(job.elapsed(*window, NOW) for window in windows) == length == job.elapsed(0, 2000, NOW)
    ran = max(0, length - suspended)
    assert sum(job.running(*window, NOW) for window in windows) == ran == job.running(0, 2000, NOW)


def test_what_a_window_overlaps() -> None:
    ran = record(started=100, ended=200)
    assert [ran.overlaps(*window, NOW) for window in ((0, 100), (0, 101), (199, 300), (200, 300))] == [
        False, True, True, False,
    ]  # fmt: skip
    at_once = record(started=100, ended=100)
    assert at_once.overlaps(100, 200, NOW)
    assert not at_once.overlaps(0, 100, NOW)
    never_ran = record(submitted=5, ended=100)
    assert never_ran.overlaps(100, 200, NOW)
    assert not never_ran.overlaps(0, 100, NOW)
    waits = record(submitted=5)
    assert waits.overlaps(0, NOW, NOW)
    assert not waits.overlaps(0, NOW - 1, NOW)
    assert record(started=100).overlaps(900, 950, NOW)


def test_incarnations_have_keys_of_their_own() -> None:
    first, second = record(started=100, submitted=1), record(started=200, submitted=1)
    waiting = record(submitted=1)
    resized = record(started=100, submitted=150)
    assert len({first.key, second.key, waiting.key, resized.key, record(started=100, cluster="b").key}) == 5
    assert record(started=100, sluid="s1").key == record(started=None, sluid="s1").key


def test_states() -> None:
    cancelled = record(state_text="CANCELLED by 1000")
    assert (cancelled.state, cancelled.cancelled_by) == (JobState.CANCELLED, 1000)
    assert record(state_text="CANCELLED").cancelled_by is None
    unknown = record(state_text="EXPEDITED")
    assert (unknown.state, unknown.state_text) == (JobState.UNKNOWN, "EXPEDITED")
