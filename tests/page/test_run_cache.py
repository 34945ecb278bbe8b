"""How often Slurm is asked for what all browsers see, and which runs are not asked for again."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from slurm_tf.page import run_cache, views
from slurm_tf.page.run_cache import RunCache
from slurm_tf.page.sessions import Sessions
from slurm_tf.run import job_chain
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from tests.watch.conftest import MakeRun, Slurm, _no_other_runs, make_run, record, slurm  # noqa: F401 - fixtures

_AGES = ("an hour ago or more", "just now")


class Clock:
    """The monotonic clock of the cache, which a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_cache, "time", clock)
    return clock


@pytest.fixture
def cache(slurm: Slurm, tmp_path: Path) -> RunCache:  # noqa: F811
    return RunCache(lambda: slurm, str(tmp_path / "runs"))


def ended(job: str, ago: timedelta) -> JobRecord:
    return record(job, JobState.COMPLETED, exit_code=0, ended=datetime.now().astimezone() - ago)


def squeues(slurm: Slurm) -> list[tuple[str, ...]]:  # noqa: F811
    return [ids for who, ids in slurm.asked if who == "squeue"]


def test_all_who_look_cost_one_question_in_15_seconds(
    cache: RunCache,
    slurm: Slurm,  # noqa: F811
    make_run: MakeRun,  # noqa: F811
    clock: Clock,
) -> None:
    make_run("a-1", ("7", (), False))
    slurm.live = [record("7")]
    threads = [threading.Thread(target=cache.look) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [point.state for points in cache.look().runs.values() for point in points] == [JobState.RUNNING]
    clock.now += 14.9
    cache.look()
    assert len(squeues(slurm)) == 1
    clock.now += 0.2
    cache.look()
    assert len(squeues(slurm)) == 2


def test_runs_are_read_before_anybody_looks(slurm: Slurm, make_run: MakeRun, tmp_path: Path) -> None:  # noqa: F811
    make_run("a-1", ("7", (), False))
    slurm.live = [record("7")]
    views.application(Sessions(), lambda: slurm, str(tmp_path / "runs"), is_admin=False)
    wait_until(lambda: bool(squeues(slurm)))


def test_a_slow_slurm_is_asked_less_often_and_nobody_waits_for_it(
    cache: RunCache,
    slurm: Slurm,  # noqa: F811
    make_run: MakeRun,  # noqa: F811
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_cache, "_WAIT_SECONDS", 0.05)
    make_run("a-1", ("7", (), False))
    slurm.live = [record("7")]
    answer = slurm.jobs
    cache.look()
    clock.now += 16
    may_answer = threading.Event()

    def slowly(ids: Sequence[str]) -> tuple[JobRecord, ...]:
        assert may_answer.wait(30)
        clock.now += 5
        return answer(ids)

    monkeypatch.setattr(slurm, "jobs", slowly)
    for _ in range(3):  # what was known is shown meanwhile, and Slurm is not asked by a second one
        assert cache.look().runs
    may_answer.set()
    wait_until(lambda: len(squeues(slurm)) == 2)
    monkeypatch.setattr(slurm, "jobs", answer)
    wait_until(lambda: cache._reader is None)
    clock.now += 94  # it took 5 s: 20 times that after it began
    cache.look()
    assert len(squeues(slurm)) == 2
    clock.now += 2
    cache.look()
    assert len(squeues(slurm)) == 3


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("age", _AGES)
def test_a_run_that_ended_long_ago_is_not_asked_for_until_it_is_submitted_again(
    cache: RunCache,
    slurm: Slurm,  # noqa: F811
    make_run: MakeRun,  # noqa: F811
    clock: Clock,
    age: str,
) -> None:
    run = make_run("a-1", ("7", (), False)).run
    make_run("b-1", ("8", (), False))
    slurm.past = [ended("7", timedelta(hours=2) if age == _AGES[0] else timedelta(minutes=5))]
    slurm.live = [record("8")]
    cache.look()
    clock.now += 16
    cache.look()
    assert squeues(slurm)[-1] == (("8",) if age == _AGES[0] else ("7", "8"))
    job_chain.add(run, "9", "", (), False, submission=1)
    clock.now += 16
    cache.look()
    assert set(squeues(slurm)[-1]) == {"9", "8"}


def test_what_cannot_be_listed_is_said_and_what_was_known_stays(
    cache: RunCache,
    slurm: Slurm,  # noqa: F811
    make_run: MakeRun,  # noqa: F811
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_run("a-1", ("7", (), False))
    slurm.live = [record("7")]
    known = cache.look()
    monkeypatch.setattr(cache, "_root", "/proc/self/mem")
    clock.now += 16
    assert cache.look().runs == known.runs
    assert "/proc/self/mem" in cache.look().problem


def test_who_does_something_sees_it_next(
    cache: RunCache,
    slurm: Slurm,  # noqa: F811
    make_run: MakeRun,  # noqa: F811
    clock: Clock,
) -> None:
    assert cache.look().runs == {}
    run = make_run("a-1", ("7", (), False)).run
    slurm.live = [record("7", JobState.PENDING)]
    cache.read_again(run)
    assert clock.now == 1000
    (point,) = cache.find(run_cache.key_of(run))
    assert point.state is JobState.PENDING
