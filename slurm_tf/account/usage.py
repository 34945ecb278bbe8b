"""Adds up the table `jobs` for a report, in queries: hours, waiting times, efficiency and losses."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_tf.account import connection, nodes, row_store, waste
from slurm_tf.account.amounts import MAY_BE_UNKNOWN, REAL, SUMS, Amounts, ExitClassSums
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.literals import literal
from slurm_tf.account.sacct_sql import FORGOTTEN
from slurm_tf.account.window import Window
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from slurm_tf.jobspec.sites import Prices

# The column that each word of --by stands for.
WORDS = {
    "user": "user", "account": "account", "partition": "partition", "gpu-type": "gpu_type", "qos": "qos",
    "wckey": "wckey", "cluster": "cluster", "template": "template", "name": "name", "state": "state", "run": "run",
    "node": "node", "day": "day",
}  # fmt: skip
_LARGEST = (1 << 63) - 1
_LOSES = ", ".join(literal(end.word) for end in ExitClass if end.loses)
# Sums that are unknown where no run recorded anything, and the expression that makes them so.
_OF_RUNS = dict.fromkeys(("told_seconds", "start_seconds", "rollback_seconds"), "null::bigint")
_OF_ENDS = (
    f"exit_class, {{count}}, {SUMS['gpu_seconds']}, {SUMS['cpu_seconds']}, {SUMS['lost_gpu_seconds']}, "
    f"{SUMS['lost_cpu_seconds']}"
)  # fmt: skip


class Row(NamedTuple):
    """One group: its value for each word of --by, and its sums."""

    key: tuple[str, ...]
    amounts: Amounts


def check_words(by: Sequence[str]) -> None:
    """Raise UsageError if a word of --by is unknown."""
    unknown = [word for word in by if word not in WORDS]
    if unknown:
        raise UsageError(f"found {unknown[0]!r}", f"one of {', '.join(WORDS)}")


class Aggregate:
    """The sums of one report over the table `jobs` of a database, grouped by any number of words.

    An incarnation counts with the seconds that are inside the window; with "day", it is divided at local midnights. Its
    waiting time counts in the window and on the day in which it started.
    """

    def __init__(
        self,
        database: "DuckDBPyConnection",
        window: Window,
        by: Sequence[str] = (),
        prices: "Prices | None" = None,
        now: int | None = None,
        are_few: bool = False,
    ) -> None:
        """`now`: running jobs are counted until then. `are_few`: whether memory has room for the rows. Raises
        UsageError.
        """
        check_words(by)
        self.window, self.by, self._database = window, tuple(by), database
        now = int(time.time()) if now is None else now
        self._whole: Amounts | None = None
        if "node" in by:
            # a job is a part of each of its nodes, and counts once in all
            others = [word for word in by if word != "node"]
            self._whole = Aggregate(database, window, others, prices, now, are_few).total()
            nodes.expand(database)
        days = [window.start]
        if "day" in by:
            first, last = _span(database, now)
            days = midnights(max(window.start, first), min(window.end, now + 1, last))
        parts = _parts(days, window.end, now, prices, by)
        if {"day", "node"} & {*by}:  # a job is in many of them
            are_few = False
            connection.optimize(database)
        row_store.define(database, "parts", parts, are_few)
        self._keys = [f'"{WORDS[word]}"' for word in by]
        has_runs = bool(database.execute("select 1 from runs_of_jobs limit 1").fetchall())
        self._sums = SUMS | ({} if has_runs else _OF_RUNS) | ({} if _has_cost(prices) else {"cost": "null::double"})

    def rows(self, with_ends: bool = False) -> list[Row]:
        """Return all groups, ordered by GPU-hours, then CPU-hours, descending; with "day", by day first.

        `with_ends`: with the sums of each exit class in each group.
        """
        found = [Row(row[: len(self.by)], Amounts(*row[len(self.by) :])) for row in self._added(self._sums, self._keys)]
        rows = found if self.by else [row for row in found if row.amounts.incarnations]
        if with_ends:
            self._add_ends({row.key: row.amounts for row in rows})
        if "day" in self.by:
            at = self.by.index("day")
            return sorted(rows, key=lambda row: (row.key[at], -(row.amounts.gpu_seconds or 0), row.key))
        return sorted(rows, key=_most_hours_first)

    def total(self) -> Amounts:
        """Return the sums over all groups; a job or an incarnation that is in several of them counts once."""
        if self._whole is not None:
            return self._whole
        (sums,) = self._added(self._sums | {"incarnations": "count(*) filter (is_first_part)"}, ())
        found = Amounts(*sums)
        ends = _OF_ENDS.format(count="count(*) filter (is_first_part)")
        of_ends = self._database.execute(f"select {ends} from parts group by exit_class").fetchall()
        found.ends = sorted(_ended(*each) for each in of_ends)
        return found

    def _added(self, sums: "dict[str, str]", keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the rows of groups: their keys, and what the rows of `parts` add up to, in the order of SUMS."""
        whole = {name: _whole(name, sums[name]) for name in SUMS}
        if not keys:
            return self._database.execute(f"select {', '.join(whole.values())} from parts").fetchall()
        # jobs are told apart in a query of their own, by numbers alone: with texts as keys that takes twice the time
        del whole["jobs"]
        names = [f"key_{at}" for at in range(len(keys))]
        columns = dict(zip(names, map(_key, keys), strict=True)) | whole
        group = f"hash({', '.join(keys)})"
        return self._database.execute(f"""
            select {", ".join([*names, *SUMS])} from (
              select {", ".join(f"{each} as {name}" for name, each in columns.items())}, {group} as place
              from parts group by {", ".join(keys)})
            join (select place, count(*) as jobs from (
              select distinct {group} as place, hash(cluster, id) from parts) group by place) using (place)
        """).fetchall()

    def _add_ends(self, groups: dict[tuple[str, ...], Amounts]) -> None:
        width, sums = len(self.by), _OF_ENDS.format(count="count(*)")
        keys = "".join(f"{_key(key)}, " for key in self._keys)
        grouped = ", ".join([*self._keys, "exit_class"])
        found = self._database.execute(f"select {keys} {sums} from parts group by {grouped}")
        for row in found.fetchall():
            groups[row[:width]].ends.append(_ended(*row[width:]))
        for amounts in groups.values():
            amounts.ends.sort()


def _key(column: str) -> str:
    """Return the expression of a group's value: text is unknown (NULL) or some, but never empty."""
    return f"coalesce({column}, '')"


def _whole(name: str, expression: str) -> str:
    """Return the expression of a sum as Amounts has it; DuckDB's sums of integers have 128 bits, which are slow."""
    if name in REAL:
        return expression if name in ("waits", "cost") else f"coalesce({expression}, 0.0)"
    if name in MAY_BE_UNKNOWN:
        # least() ignores NULL
        known = f"when {expression} > {_LARGEST} then {_LARGEST} else {expression}"
        return f"(case when count(*) = 0 then 0 {known} end)::bigint"
    return f"least(coalesce({expression}, 0), {_LARGEST})::bigint"


def _span(database: "DuckDBPyConnection", now: int) -> tuple[int, int]:
    """Return when the first job started and the last one stopped: a file may have days of ten years ago alone."""
    stop = f"case when started is not null then coalesce(ended, counted_until, {now}) end"
    first, last = database.execute(f"select min(started), max({stop}) from jobs").fetchall()[0]
    return int(first or 0), int(last or first or 0) + 1


def _most_hours_first(row: Row) -> tuple[float, float, tuple[str, ...]]:
    return -(row.amounts.gpu_seconds or 0), -(row.amounts.cpu_seconds or 0), row.key


def _ended(word: str, incarnations: int, *sums: int | None) -> ExitClassSums:
    return ExitClassSums(ExitClass.named(word), incarnations, *(None if each is None else int(each) for each in sums))


def _parts(days: Sequence[int], end: int, now: int, prices: "Prices | None", by: Sequence[str]) -> str:
    """Return the query of the view `parts`: what the window or each of the days has of each row of jobs."""
    ends = [*days[1:], end]
    if "day" in by:
        names = [time.strftime("%Y-%m-%d", time.localtime(day)) for day in days]
        rows = ", ".join(f"({day}, {stop}, '{name}')" for day, stop, name in zip(days, ends, names, strict=True))
        low_and_high = "days.*"
        cut = f"""join (values {rows}) days(low, high, day) on (low <= started and started < high)
      or (low = {days[0]} and started < low) or (low > started and stop > low)"""
    else:
        low_and_high, cut = f"{days[0]} as low, {end} as high", ""
    return f"""
with ran as (
  select *, case when is_runaway then started + coalesce(time_limit * 60, {FORGOTTEN})
    else coalesce(ended, counted_until, {now}) end as stop from {nodes.PARTS if "node" in by else "jobs"}
  where started is not null
), firsts as (
  select cluster, id, min(started) as first from jobs where started is not null and restarts is null
  group by all having count(*) > 1
), cut as (
  select ran.*, {low_and_high}, f.first, greatest(0, least(stop, high) - greatest(started, low)) as seconds,
    greatest(0, least(stop - coalesce(suspended, 0), high) - greatest(started, low)) as running,
    started >= low and started < high as starts_here, starts_here or low = {days[0]} as is_first_part,
    greatest(started, ceil(began)::bigint) as trained_from, coalesce(busy, gpu_use) as gpu_busy
  from ran {cut}
  left join firsts f on ran.id = f.id and ran.cluster is not distinct from f.cluster
), lost as (
  select *, {_cost(prices)} as cost, ended - started - suspended as whole,
    case when starts_here and eligible is not null then greatest(0, started - eligible) end as waited,
    starts_here and submitted < started and coalesce(restarts > 0, started > first, false) as is_requeued,
    case when not coalesce(is_told, false) then null when began is null then seconds
      else greatest(0, least(stop, high, trained_from) - greatest(started, low)) end as start_lost,
    case when not coalesce(is_told, false) then null
      when began is null or ended is null or state in ('COMPLETED', 'CD') or is_kept then 0
      else greatest(0, least(stop, high) - greatest(started, low, trained_from, coalesce(ceil(saved)::bigint, 0)))
      end as rolled_back,
    case when start_lost is not null then start_lost + rolled_back when exit_class in ({_LOSES}) then seconds else 0 end
      as gone
  from cut
)
{waste.marked("lost")}
"""


def _cost(prices: "Prices | None") -> str:
    """Return the expression of the price of a part, NULL if a price that it needs is unknown."""
    if prices is None or not _has_cost(prices):
        return "null::double"
    factor = _case("qos", prices.qos, 1.0)
    if prices.billing_hour is not None:
        money = f"billing * seconds / 3600 * {prices.billing_hour!r}"
    else:
        gpu, cpu = _case("gpu_type", prices.gpu_types, prices.gpu_hour), _number(prices.cpu_hour)
        money = f"""(case when cpus = 0 then 0.0 else cpus * running * {cpu} end
      + case when gpus = 0 then 0.0 else gpus * seconds * {gpu} end) / 3600"""
    return f"case when {factor} = 0 then 0.0 else {factor} * {money} end"


def _has_cost(prices: "Prices | None") -> bool:
    return prices is not None and bool(prices.currency)


def _case(column: str, numbers: "dict[str, float]", default: float | None) -> str:
    cases = " ".join(f"when {literal(name)} then {_number(number)}" for name, number in numbers.items())
    return f"case {column} {cases} else {_number(default)} end" if cases else _number(default)


def _number(number: float | None) -> str:
    return "null::double" if number is None else f"{number!r}::double"


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
