"""Records as rows of the table `jobs`, for tests of what is made of it."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import duckdb

from slurm_tf.account import columns, database, exit_classes, jobs_sql
from slurm_tf.account.columns import JOBS, STEPS
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.macros import MACROS
from slurm_tf.account.run_records import RunRecord, row_of
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window

Own = tuple[UsageRecord, RunRecord]


@lru_cache
def _database() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute(MACROS)
    return database


def jobs(records: Iterable[UsageRecord], own: Sequence[Own] = ()) -> duckdb.DuckDBPyConnection:
    """Return a database with these rows, and with what runs recorded of them; the same one each time."""
    database = _database()
    database.execute("drop view if exists jobs; drop table if exists accounted")
    database.execute(columns.create("accounted", JOBS))
    database.execute(f"drop table if exists steps; {columns.create('steps', STEPS)}")
    rows = [values(record) for record in records]
    if rows:
        taken = ", ".join(f"unnest(${at}::{column.type}[])" for at, column in enumerate(JOBS, 1))
        values_of = [[*each] for each in zip(*rows, strict=True)]
        database.execute(f"insert into accounted select {taken}", values_of)
    database.execute(jobs_sql.RUNS)
    for record, run in own:
        marks = ", ".join("?" * len(row_of(record, run)))
        database.execute(f"insert into runs_of_jobs values ({marks})", row_of(record, run))
    database.execute(jobs_sql.jobs(has_runs=bool(own)))
    return database


def read(rows: Iterable[Sequence[str]], names: Sequence[str], now: int = 0) -> tuple[list[UsageRecord], Diagnostics]:
    """Return what is read of rows of sacct."""
    with database.opened(now) as found:
        found.read_rows(rows, names)
        found.complete()
        found.select(Window(0, 2**32))
        return list(found.records()), found.noticed().result()


def values(record: UsageRecord) -> list[Any]:
    """Return the columns of a record's row: what is empty is unknown."""
    made = {
        "incarnation": "/".join(map(str, record.key)), "job": record.job, "state": record.state_text.partition(" ")[0],
        "exit_class": exit_classes.classify(record).word, "time_limit": record.limit,
        "is_runaway": False, "elapsed": None, "unreadable": None,
    }  # fmt: skip
    found = [made[each.name] if each.name in made else getattr(record, each.name) for each in JOBS]
    return [None if value == "" else value for value in found]
