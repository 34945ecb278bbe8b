"""Closes days of a ledger: writes the rows that were read into the files of the days on which they ended."""

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slurm_tf.account import day_files
from slurm_tf.account.database import Tables
from slurm_tf.account.day_files import DAY, DayFile
from slurm_tf.account.jobs_sql import STORED
from slurm_tf.account.literals import literal
from slurm_tf.account.row_store import COPIED

_COLUMNS = ", ".join(f'"{name}"' for name in STORED)
# The rows that are over, and those that have to be asked for again: that run, that ended too lately, or that could not
# be read. Of the latter the ledger knows no end.
_ROWS = f"""
create or replace view rows_over as select {_COLUMNS} from completed_rows
where origin = 0 and ended // {DAY} < {{settled}};
create or replace view rows_open as
select * replace (null::bigint as ended) from (select {_COLUMNS} from completed_rows where origin = 0
  and (ended is null or ended // {DAY} >= {{settled}}) and started // {DAY} <= {{last}})
union all by name
select id, raw_id, cluster, sluid, submitted from found_rows where origin = 0 and why_left_out is not null;
"""
_BEGINS = f"select ended // {DAY} as home, min(coalesce(started, ended)) from rows_over group by home"


def close(found: Tables, folder: Path, days: Sequence[int], settled: int, closed: Collection[int]) -> list[DayFile]:
    """Write the files of these days and of others on which rows ended, but for `closed` ones; return them.

    `settled`: the first day that is not over. Open rows stand in a file of the last day. The files get their names when
    all are written, the last day first and the rows of jobs after all else of a day: at each moment a day that is
    closed has all its rows, as those that ended later stand in files of later days. Raises LedgerError.
    """
    run, last = found.database.execute, days[-1]
    run(_ROWS.format(settled=settled, last=last))
    begins = dict(run(_BEGINS).fetchall())
    is_open, open_since = run("select count(*) > 0, min(started) from rows_open").fetchall()[0]
    homes = [day for day in sorted({*days, *begins}, reverse=True) if day not in closed]
    with day_files.written(folder) as writing, ThreadPoolExecutor(os.cpu_count()) as pool:
        written = pool.map(lambda day: _write(found, writing, day, day in begins, is_open and day == last), homes)
        for day, aside in zip(homes, written, strict=True):
            since = [begins.get(day), open_since if day == last else None]
            first = min([day, *(each // DAY for each in since if each is not None)])
            for table, path in aside:
                writing.add(path, table, day, first, is_closed=day in days)
            if day not in begins:
                writing.add_none(day)
    return writing.files


def _write(
    found: Tables, writing: day_files.Writing, day: int, has_rows: bool, has_open: bool
) -> list[tuple[str, Path]]:
    """Write the rows and the steps of one day; return the tables and their files."""
    start, end = day * DAY, (day + 1) * DAY
    queries = {}
    if has_rows or has_open:
        queries["steps"] = found.steps_of(start, end, "rows_open" if has_open else "")
    if has_open:
        queries["open"] = "select * from rows_open"
    if has_rows:
        queries["jobs"] = f"select * from rows_over where ended >= {start} and ended < {end}"
    made = []
    with found.connection.cursor() as database:
        for table, query in queries.items():
            if query:
                path = writing.path()
                database.execute(f"copy ({query}) to {literal(str(path))} ({COPIED}, parquet_version v2)")
                made.append((table, path))
    return made
