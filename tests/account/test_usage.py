"""Reports: sums that are exact however the rows come, waits, efficiency, ends, losses, prices."""

import math
import random
import time
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from slurm_tf.account import exit_classes
from slurm_tf.account.amounts import Amounts
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.run_records import RunRecord
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.errors import UsageError
from slurm_tf.jobspec.sites import Prices
from slurm_tf.run.attempts import Attempt
from tests.account import stored

WINDOW = Window(1000, 9000)
NOW = 8000
HOUR = 3600


def record(raw_id: str = "12", state: str = "COMPLETED", **more: Any) -> UsageRecord:
    return UsageRecord(**{"id": raw_id, "raw_id": raw_id, "state_text": state, "cpus": 1, "node_count": 1, **more})


def aggregate(
    *records: UsageRecord, by: tuple[str, ...] = (), window: Window = WINDOW, own: Any = None, **more: Any
) -> Aggregate:
    runs = [(each, own(each)) for each in records] if own else []
    return Aggregate(stored.jobs(records, runs), window, by, now=NOW, **more)


def by_key(report: Aggregate) -> dict[tuple[str, ...], Amounts]:
    return {row.key: row.amounts for row in report.rows()}


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()


# --- percentiles ---

numbers = some.lists(some.one_of(some.integers(0, 300), some.integers(0, 2**30)), min_size=1, max_size=700)


@given(numbers)
@settings(max_examples=15)
def test_percentiles_are_of_the_nearest_rank(values: list[int]) -> None:
    start = 2**31
    window = Window(start - 1, start + 9)
    jobs = [record(str(at), started=start, ended=start + 1, eligible=start - each) for at, each in enumerate(values)]
    total = aggregate(*jobs, window=window).total()
    for percent in (50, 90):
        assert total.waited(percent) == sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


# --- groups ---


@pytest.mark.parametrize(
    ("by", "empty", "unknown"),
    [
        ("template", {"name": "stf-"}, {"name": ""}),
        ("run", {"comment": "slurm-tf run=/template=cnn"}, {"comment": ""}),
    ],
)
def test_an_empty_word_and_an_unknown_one_are_one_group(
    by: str, empty: dict[str, str], unknown: dict[str, str]
) -> None:
    jobs = [record(str(at), started=2000, ended=3000, **more) for at, more in enumerate((empty, unknown, unknown))]
    report = aggregate(*jobs, by=(by,))
    assert [(row.key, row.amounts.jobs, len(row.amounts.ends)) for row in report.rows(with_ends=True)] == [
        (("",), 3, 1)
    ]


# --- jobs that come again ---


@given(
    some.lists(
        some.tuples(
            some.sampled_from(["1", "2", "40", "40_1", "x"]), some.sampled_from("abcd"), some.integers(0, 50),
            some.integers(0, 99),
        ),
        unique_by=lambda row: (row[0], row[2]), max_size=30,
    ),
    some.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=20)
def test_each_job_counts_once_a_group_in_any_order(rows: list[tuple[str, str, int, int]], order: random.Random) -> None:
    wanted_jobs = Counter(group for _, group in {(job, group) for job, group, _, _ in rows})
    wanted: Counter[str] = Counter()
    for job in {row[0] for row in rows}:
        for _, group, _, waited in sorted((row for row in rows if row[0] == job), key=lambda row: row[2])[1:]:
            wanted[group] += waited
    order.shuffle(rows)
    jobs = [
        record(job, user=group, started=2000 + start, ended=3000, submitted=2000 + start - waited)
        for job, group, start, waited in rows
    ]
    report = aggregate(*jobs, by=("user",))
    found = {key[0]: amounts for key, amounts in by_key(report).items()}
    assert {group: each.jobs for group, each in found.items()} == wanted_jobs
    assert {group: each.requeue_seconds for group, each in found.items()} == {group: wanted[group] for group in found}
    assert report.total().jobs == len({row[0] for row in rows})


def test_the_same_number_on_another_cluster_is_another_job() -> None:
    report = aggregate(record(started=2000, ended=3000), record(started=2000, ended=3000, cluster="b"))
    assert report.total().jobs == 2


# --- hours ---

times = some.integers(0, 12000)
rows = some.lists(
    some.builds(
        lambda raw, user, start, length, gpus, state: record(
            str(raw), state, user=user, started=start, submitted=max(0, start - 7), eligible=max(0, start - 5),
            ended=None if state == "RUNNING" else start + length, cpus=gpus + 1, gpus=gpus, node_count=2, billing=3,
        ),
        some.integers(1, 9), some.sampled_from("ab"), times, times, some.integers(0, 4),
        some.sampled_from(["COMPLETED", "FAILED", "RUNNING", "PREEMPTED"]),
    ),
    unique_by=lambda each: each.key, max_size=25,
)  # fmt: skip


def seconds(each: UsageRecord, window: Window) -> int:
    """Count them one by one."""
    end = NOW if each.ended is None else each.ended
    return sum(1 for second in range(window.start, window.end) if (each.started or 0) <= second < end)


@pytest.mark.slow
@settings(max_examples=15)
@given(rows, some.randoms(use_true_random=False))
def test_hours_are_cut_at_the_window_and_do_not_depend_on_the_order(
    records: list[UsageRecord], order: random.Random
) -> None:
    wanted: dict[str, Counter[str]] = defaultdict(Counter)
    for each in records:
        inside = seconds(each, WINDOW)
        wanted[each.user].update(gpu=inside * each.gpus, cpu=inside * each.cpus, node=inside * 2, billing=inside * 3)
    report = by_key(aggregate(*records, by=("user",)))
    for (user,), found in report.items():
        sums = {
            "gpu": found.gpu_seconds, "cpu": found.cpu_seconds, "node": found.node_seconds,
            "billing": found.billing_seconds,
        }  # fmt: skip
        assert sums == {name: wanted[user][name] for name in sums}
    assert sum(map(Counter.total, wanted.values())) == sum(wanted[user].total() for (user,) in report)
    order.shuffle(records)
    again = by_key(aggregate(*records, by=("user",)))
    assert {key: each.as_dict() for key, each in again.items()} == {key: each.as_dict() for key, each in report.items()}


@settings(max_examples=15)
@given(rows, some.lists(some.integers(1001, 8999), max_size=4))
def test_windows_that_meet_have_the_hours_of_the_whole(records: list[UsageRecord], cuts: list[int]) -> None:
    edges = sorted({WINDOW.start, *cuts, WINDOW.end})
    parts = [aggregate(*records, window=Window(*edge)).total() for edge in zip(edges, edges[1:], strict=False)]
    whole = aggregate(*records).total()
    for name in ("gpu_seconds", "cpu_seconds", "node_seconds", "billing_seconds", "wall_seconds", "wait_seconds"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)


def test_a_suspended_job_has_no_cpus_and_all_else() -> None:
    total = aggregate(record(started=2000, ended=3000, suspended=400, gpus=2, cpus=4, used_cpu=1200.0)).total()
    assert (total.cpu_seconds, total.gpu_seconds, total.node_seconds) == (4 * 600, 2 * 1000, 1000)
    assert total.cpu_use == pytest.approx(0.5)


def test_days_are_local_and_add_up() -> None:
    start = int(time.mktime((2026, 3, 28, 12, 0, 0, 0, 0, -1)))  # the clocks change in the second night
    window = Window(start, start + 3 * 86400)
    long = record(started=start - 50, ended=start + 2 * 86400, eligible=start - 90, gpus=1)
    short = record("13", started=start + 5, ended=start + 10, eligible=start, gpus=2)
    report = Aggregate(stored.jobs([long, short]), window, ("day",), now=window.end)
    found = by_key(report)
    assert {key: each.gpu_seconds for key, each in found.items()} == {
        ("2026-03-28",): 43200 + 10, ("2026-03-29",): 82800, ("2026-03-30",): 46800,
    }  # fmt: skip
    assert [each.incarnations for each in found.values()] == [2, 1, 1]
    assert [each.jobs for each in found.values()] == [2, 1, 1]
    assert [each.waited(50) for each in found.values()] == [5, None, None]
    total = report.total()
    assert (total.gpu_seconds, total.jobs, total.incarnations, total.waited(50)) == (172810, 2, 2, 5)


def test_groups_and_their_order() -> None:
    jobs = [
        record("1", user="a", account="x", partition="p", gpu_type="t4", gpus=1, started=2000, ended=3000),
        record("2", user="a", account="y", partition="p", started=2000, ended=3000),
        record("3", "CANCELLED by 7", user="b", account="x", partition="q", started=2000, ended=4000, cpus=9),
        record("4", "PENDING", user="b", account="x"),
    ]
    keys = [row.key for row in aggregate(*jobs, by=("account", "user")).rows()]
    assert keys == [("x", "a"), ("x", "b"), ("y", "a")]
    assert set(by_key(aggregate(*jobs, by=("gpu-type", "state", "partition")))) == {
        ("t4", "COMPLETED", "p"), ("", "COMPLETED", "p"), ("", "CANCELLED", "q")
    }  # fmt: skip
    assert [row.key for row in aggregate(*jobs, by=("user",)).rows()] == [("a",), ("b",)]
    with pytest.raises(UsageError, match="found 'users'; needed one of user, account"):
        aggregate(by=("users",))


def test_waits_are_counted_where_a_job_started() -> None:
    before = record("1", started=900, ended=2000, eligible=0)
    inside = record("2", started=2000, ended=2001, eligible=1500, submitted=1400)
    unknown = record("3", started=2000, ended=2001)
    total = aggregate(before, inside, unknown).total()
    assert total.waited(50) == total.waited(90) == pytest.approx(500, rel=0.01)
    assert total.wait_seconds == 500


@pytest.mark.parametrize("restarts", [None, 1])
def test_what_was_requeued_waited_again(restarts: int | None) -> None:
    first = record(state="PREEMPTED", started=2000, ended=3000, submitted=1900, eligible=1900)
    again = record(started=3500, ended=4000, submitted=3001, eligible=3121, restarts=restarts)
    if restarts is not None:
        first = record(state="PREEMPTED", started=2000, ended=3000, submitted=1900, eligible=1900, restarts=0)
    for order in ([first, again], [again, first]):
        total = aggregate(*order).total()
        assert (total.jobs, total.incarnations, total.requeue_seconds, total.held_seconds) == (1, 2, 499, 120)
        # 1500 s ran, 100 s and 499 s waited
        assert total.effective == pytest.approx(1500 / (1500 + 100 + 499))


# --- use ---


def test_use_is_weighed_by_what_was_allocated_and_unknown_is_not_idle() -> None:
    mib = 1024**2
    jobs = [
        record("1", started=2000, ended=3000, cpus=4, used_cpu=2000.0, memory=100, used_memory=50 * mib),
        record("2", started=2000, ended=4000, cpus=1, used_cpu=2000.0, memory=300, used_memory=330 * mib),
        record("3", started=2000, ended=4000, cpus=9, gpus=2, gpu_use=25.0),
        record("4", started=2000, ended=3000, cpus=9, gpus=4, gpu_use=50.0),
    ]
    total = aggregate(*jobs).total()
    assert total.cpu_use == pytest.approx(4000 / 6000)
    assert total.memory_use == pytest.approx((50 * 1000 + 330 * 2000) / (100 * 1000 + 300 * 2000))
    assert total.gpu_use == pytest.approx(3000 / 8000)
    nothing = aggregate(record(started=2000, ended=3000, gpus=1)).total()
    assert (nothing.cpu_use, nothing.memory_use, nothing.gpu_use) == (None, None, None)
    half = aggregate(record(started=0, ended=2000, cpus=2, used_cpu=1000.0)).total()
    assert (half.used_cpu, half.cpu_use) == (500.0, 0.25)


# --- ends and losses ---


@pytest.mark.parametrize(
    ("state", "more", "end"),
    [
        ("COMPLETED", {}, ExitClass.COMPLETED),
        ("FAILED", {}, ExitClass.FAILED),
        ("FAILED", {"out_of_memory": True}, ExitClass.OUT_OF_MEMORY),
        ("OUT_OF_MEMORY", {}, ExitClass.OUT_OF_MEMORY),
        ("CANCELLED by 1000", {}, ExitClass.CANCELLED),
        ("CANCELLED by 0", {}, ExitClass.CANCELLED_BY_SITE),
        ("CANCELLED", {}, ExitClass.CANCELLED),
        ("TIMEOUT", {}, ExitClass.TIMEOUT),
        ("PREEMPTED", {}, ExitClass.PREEMPTED),
        ("REQUEUED", {}, ExitClass.REQUEUED),
        ("REQUEUE_HOLD", {}, ExitClass.REQUEUED),
        ("NODE_FAIL", {}, ExitClass.NODE_FAIL),
        ("BOOT_FAIL", {}, ExitClass.BOOT_FAIL),
        ("DEADLINE", {}, ExitClass.DEADLINE),
        ("RESIZING", {}, ExitClass.COMPLETED),
        ("RUNNING", {"ended": None}, ExitClass.RUNNING),
        ("SUSPENDED", {"ended": None}, ExitClass.RUNNING),
        ("EXPEDITING", {"ended": None}, ExitClass.UNKNOWN),
        ("SLEEPWALKING", {}, ExitClass.UNKNOWN),
    ],
)
def test_ends(state: str, more: dict[str, Any], end: ExitClass) -> None:
    each = record(state=state, **{"started": 2000, "ended": 3000, "gpus": 2, **more})
    assert exit_classes.classify(each) is end
    (found,) = aggregate(each).total().ends
    held = 2 * (1000 if each.ended else NOW - 2000)
    assert (found.end, found.incarnations, found.gpu_seconds) == (end, 1, held)
    keeps = end in (ExitClass.COMPLETED, ExitClass.RUNNING, ExitClass.UNKNOWN)
    assert found.lost_gpu_seconds == (0 if keeps else held)


def attempt(**more: Any) -> Attempt:
    return Attempt(**{"id": "12.0", "job": "12", "started": 2005.0, "speaks": True, **more})


@pytest.mark.parametrize(
    ("state", "made", "start", "rollback"),
    [
        # killed: all is lost that came after the last checkpoint
        ("PREEMPTED", attempt(began=2100.0, saved=2700.5), 100, 299),
        ("PREEMPTED", attempt(began=2100.0), 100, 900),
        ("NODE_FAIL", attempt(), 1000, 0),
        # ended well: what it did after its last checkpoint was to end
        ("COMPLETED", attempt(began=2100.0, saved=2700.0), 100, 0),
        # Slurm's requeue of one whose coordinator ended it with 0
        ("REQUEUED", attempt(began=2100.0, saved=2700.0, ended=2999.0, code=0), 100, 0),
        ("REQUEUED", attempt(began=2100.0, saved=2990.0, ended=2999.0, code=75), 100, 10),
        ("RUNNING", attempt(began=2100.0, saved=2700.0), 100, 0),
    ],
)
def test_what_a_runs_own_record_says_is_lost(state: str, made: Attempt, start: int, rollback: int) -> None:
    job = record(state=state, started=2000, ended=None if state == "RUNNING" else 3000, eligible=1900, gpus=2, cpus=3)
    own = RunRecord("flowers", "flowers-1", made)
    whole = 1000 if job.ended else NOW - 2000
    total = aggregate(job, own=lambda _: own).total()
    assert (total.start_seconds, total.rollback_seconds) == (start, rollback)
    assert (total.lost_gpu_seconds, total.lost_cpu_seconds) == (2 * (start + rollback), 3 * (start + rollback))
    assert total.is_told
    assert total.effective == pytest.approx((whole - start - rollback) / (whole + 100))
    halves = [
        aggregate(job, own=lambda _: own, window=window).total() for window in (Window(1000, 2850), Window(2850, 9000))
    ]
    assert sum(each.start_seconds for each in halves) == start
    assert sum(each.rollback_seconds for each in halves) == rollback


def test_without_a_runs_record_the_effective_time_is_an_upper_bound() -> None:
    told = record("1", "PREEMPTED", started=2000, ended=3000, eligible=2000)
    silent = record("2", "PREEMPTED", started=2000, ended=3000, eligible=1000)
    made = attempt(began=2250.0, saved=3000.0)
    report = aggregate(told, silent, own=lambda each: RunRecord("t", "r", made) if each is told else RunRecord())
    total = report.total()
    assert not total.is_told
    assert total.as_dict()["effective_is_at_most"]
    assert total.effective == pytest.approx((2000 - 250) / 3000)
    assert total.lost_cpu_seconds == 250 + 1000
    speechless = aggregate(told, own=lambda _: RunRecord("t", "r", attempt(speaks=False))).total()
    assert (speechless.is_told, speechless.lost_cpu_seconds) == (False, 1000)
    assert aggregate().total().effective is None


# --- money ---


@pytest.mark.parametrize(
    ("prices", "money"),
    [
        (Prices("EUR", 0.5, 2.0), 2 * 0.5 + 4 * 2.0),
        (Prices("EUR", 0.5, 2.0, {"a100": 3.0}), 2 * 0.5 + 4 * 3.0),
        (Prices("EUR", 0.0, None, {"a100": 3.0}), 12.0),
        (Prices("EUR", 0.5, 2.0, {}, 0.1), 0.7),
        # by QOS
        (Prices("EUR", 0.5, 2.0, {}, 0.1, {"urgent": 2.5}), 2.5 * 0.7),
        (Prices("EUR", 0.5, 2.0, {}, None, {"urgent": 2.5, "normal": 9.0}), 2.5 * 9.0),
        (Prices("EUR", 0.5, 2.0).with_factors({"urgent": 3.0}), 3 * 9.0),
        (Prices("EUR", 0.5, 2.0, qos={"urgent": 1.0}).with_factors({"urgent": 3.0}), 9.0),
        (Prices("EUR", 0.5, None, qos={"urgent": 0.0}), 0.0),
        # unknown is not nothing
        (Prices("EUR", 0.5, None), None),
        (Prices("EUR", None, 2.0), None),
        (Prices("EUR", 0.5, None, {"v100": 1.0}), None),
        (Prices("", 0.5, 2.0), None),
        (None, None),
    ],
)
def test_prices(prices: Prices | None, money: float | None) -> None:
    job = record(started=2000, ended=2000 + HOUR, cpus=2, gpus=4, gpu_type="a100", billing=7, qos="urgent")
    total = aggregate(job, prices=prices).total()
    assert total.cost == (None if money is None else pytest.approx(money))
    assert total.billing_seconds == 7 * HOUR


def test_a_bound_of_all_says_nothing() -> None:
    hour = record(started=1000, ended=4600, eligible=1000, submitted=1000)
    assert aggregate(hour, window=Window(0, 10_000)).total().effective is None
    waited = record(started=1000, ended=4600, eligible=640, submitted=640)
    assert aggregate(waited, window=Window(0, 10_000)).total().effective == pytest.approx(10 / 11)
