"""Computes the groups of a report from records: hours, waiting times, efficiency and losses, in one pass."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from slurm_tf.account import exit_classes
from slurm_tf.account.amounts import Amounts
from slurm_tf.account.job_incarnations import Jobs, Requeued
from slurm_tf.account.run_records import RunRecord
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.errors import UsageError
from slurm_tf.jobspec.sites import Prices

# The field of a record that each word of --by stands for; the other words are computed.
_PLAIN = {
    "user": "user", "account": "account", "partition": "partition", "gpu-type": "gpu_type", "qos": "qos",
    "wckey": "wckey", "cluster": "cluster",
}  # fmt: skip
WORDS = (*_PLAIN, "template", "state", "run", "day")
_NO_RUN = RunRecord("", "")


class Row(NamedTuple):
    """One group: its value for each word of --by, and its sums."""

    key: tuple[str, ...]
    amounts: Amounts


class Aggregate:
    """The sums of one report, grouped by any number of words.

    An incarnation counts with the seconds that are inside the window; with "day", it is divided at local midnights. Its
    waiting time counts in the window and on the day in which it started.
    """

    def __init__(
        self,
        window: Window,
        by: Sequence[str] = (),
        prices: Prices | None = None,
        own: Callable[[UsageRecord], RunRecord] | None = None,
        now: int | None = None,
        counts_jobs: bool = True,
    ) -> None:
        """`own`: returns what a record's run recorded about it; `now`: running jobs are counted until then.

        `counts_jobs`: whether to count distinct jobs, which takes memory. Raises UsageError.
        """
        unknown = [word for word in by if word not in WORDS]
        if unknown:
            raise UsageError(f"found {unknown[0]!r}", f"one of {', '.join(WORDS)}")
        self.window, self.by = window, tuple(by)
        self.now = int(time.time()) if now is None else now
        self._prices, self._own = prices, own
        self._jobs = Jobs() if counts_jobs else None
        self._groups: dict[tuple[str, ...], int] = {}
        self._amounts: list[Amounts] = []
        self._total = Amounts()
        self._by_day = "day" in by
        self._days = midnights(window.start, min(window.end, self.now + 1)) if self._by_day else [window.start]
        self._key_of = _reader(by)

    def add(self, record: UsageRecord) -> None:
        """Add one incarnation."""
        started = record.started
        start, end = self.window
        seconds = record.elapsed(start, end, self.now)
        if started is None or not (seconds or record.overlaps(start, end, self.now)):
            return
        own = self._own(record) if self._own else _NO_RUN
        record = own.completed(record)
        if not self._by_day:
            self._add(record, own, start, end, seconds)
            return
        at = max(0, bisect_right(self._days, started) - 1)
        while at < len(self._days):
            low = self._days[at]
            high = self._days[at + 1] if at + 1 < len(self._days) else end
            if low > started and not record.elapsed(low, end, self.now):
                break
            self._add(record, own, low, high, record.elapsed(low, high, self.now))
            at += 1

    def _add(self, record: UsageRecord, own: RunRecord, low: int, high: int, seconds: int) -> None:
        """Add the seconds of an incarnation that are in [low, high)."""
        key = self._key_of(record, own, low)
        number = self._groups.get(key)
        if number is None:
            number = self._groups[key] = len(self._amounts)
            self._amounts.append(Amounts())
        group = self._amounts[number]
        end = exit_classes.classify(record)
        running = record.running(low, high, self.now) if record.suspended else seconds
        money = cost(record, seconds, running, self._prices) if self._prices else None
        lost = own.lost(record, low, high, self.now) if own.attempt else None
        group.add(record, seconds, running, end, lost, money)
        started: int = record.started  # type: ignore[assignment]
        starts_here = low <= started < high
        if self._by_day:
            again = not starts_here and low > self.window.start
            self._total.add(record, seconds, running, end, lost, money, again)
        requeued = Requeued(number, 0, 0)
        if starts_here:
            group.wait(record)
            if self._by_day:
                self._total.wait(record)
            requeued = _requeued(number, record, started)
        self._count(record, started, requeued)

    def _count(self, record: UsageRecord, started: int, own: Requeued) -> None:
        """Count the job in its group. `own`: this incarnation's waiting times, in case it is not the job's first."""
        if record.restarts is not None:  # Slurm's count of requeues
            if record.restarts:
                self._add_requeued(own)
            own = Requeued(own.group, 0, 0)
        if self._jobs is None:
            return
        is_new, requeued = self._jobs.add(record.cluster, record.raw_id, started, own)
        self._amounts[own.group].jobs += is_new
        if requeued:
            self._add_requeued(requeued)

    def _add_requeued(self, requeued: Requeued) -> None:
        for each in (self._amounts[requeued.group], *([self._total] if self._by_day else [])):
            each.requeue_seconds += requeued.waited
            each.held_seconds += requeued.held

    def rows(self) -> list[Row]:
        """Return all groups, ordered by GPU-hours, then CPU-hours, descending; with "day", by day first."""
        rows = [Row(key, self._amounts[number]) for key, number in self._groups.items()]
        if self._by_day:
            at = self.by.index("day")
            return sorted(rows, key=lambda row: (row.key[at], -row.amounts.gpu_seconds, row.key))
        return sorted(rows, key=lambda row: (-row.amounts.gpu_seconds, -row.amounts.cpu_seconds, row.key))

    def total(self) -> Amounts:
        """Return the sums over all groups; a job that is in several groups counts once."""
        total = self._total
        if not self._by_day:
            total = Amounts()
            for each in self._amounts:
                total.merge(each)
        total.jobs = self._jobs.count if self._jobs else 0
        return total


def _requeued(group: int, record: UsageRecord, started: int) -> Requeued:
    """Return how long an incarnation waited since it was requeued, and how much of that Slurm held it."""
    if record.submitted is None or record.submitted >= started:
        return Requeued(group, 0, 0)
    eligible = record.submitted if record.eligible is None else min(record.eligible, started)
    return Requeued(group, started - record.submitted, max(0, eligible - record.submitted))


def cost(record: UsageRecord, seconds: int, running: int, prices: Prices) -> float | None:
    """Return the price of `seconds` of a record's allocation, None if a price that it needs is unknown.

    `running`: the seconds in which it was not suspended.
    """
    if not prices.currency:
        return None
    factor = prices.qos.get(record.qos, 1.0)
    if not factor:
        return 0.0
    if prices.billing_hour is not None:
        return factor * record.billing * seconds / 3600 * prices.billing_hour
    gpu = prices.gpu_types.get(record.gpu_type, prices.gpu_hour)
    if (record.cpus and prices.cpu_hour is None) or (record.gpus and gpu is None):
        return None
    return factor * (record.cpus * running * (prices.cpu_hour or 0.0) + record.gpus * seconds * (gpu or 0.0)) / 3600


def midnights(start: int, end: int) -> list[int]:
    """Return `start` and every local midnight after it and before `end`."""
    found = [start]
    day = datetime.fromtimestamp(start).replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        day += timedelta(days=1)
        midnight = int(day.timestamp())  # of a local time: a day may have 23 or 25 hours
        if midnight >= end:
            return found
        found.append(midnight)


def _reader(by: Sequence[str]) -> Callable[[UsageRecord, RunRecord, int], tuple[str, ...]]:
    """Return the function that returns a record's key, from the record, its run's record and the start of the part."""
    if all(word in _PLAIN for word in by):
        names = [_PLAIN[word] for word in by]
        if not names:
            return lambda _record, _own, _low: ()
        get: Callable[[UsageRecord], Any] = attrgetter(*names)
        if len(names) == 1:
            return lambda record, _own, _low: (get(record),)
        return lambda record, _own, _low: get(record)
    parts = [_part(word) for word in by]
    return lambda record, own, low: tuple(part(record, own, low) for part in parts)


def _part(word: str) -> Callable[[UsageRecord, RunRecord, int], str]:
    if word in _PLAIN:
        get = attrgetter(_PLAIN[word])
        return lambda record, _own, _low: str(get(record))
    if word == "state":
        return lambda record, _own, _low: record.state_text.partition(" ")[0]
    if word == "day":
        return lambda _record, _own, low: time.strftime("%Y-%m-%d", time.localtime(low))
    return (lambda _record, own, _low: own.run) if word == "run" else lambda _record, own, _low: own.template
