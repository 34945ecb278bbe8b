"""The tables of a report: what readers of accounting read, as files of a private folder that DuckDB queries.

Text is read in parts of some megabytes, so that memory does not grow with its length.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_tf.account import columns, connection, jobs_sql, local_time, row_store, sacct_sql, steps_sql
from slurm_tf.account.connection import Connection
from slurm_tf.account.diagnostics import Diagnostics, Examples
from slurm_tf.account.fields import FIELDS
from slurm_tf.account.literals import literal, one_of
from slurm_tf.account.local_time import Clock
from slurm_tf.account.row_store import COPIED, PLACE, RowStore, define
from slurm_tf.account.window import Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from slurm_tf.account.usage_record import UsageRecord

# The bytes of a line. No row of sacct is longer than a quoted one here; DuckDB reads lines in buffers of that size at
# least, one for each thread.
_LONGEST, _LONGEST_QUOTED = 1 << 20, 16 << 20
_BUFFER = 8 << 20
# How many lines are no rows: the rest of one whose text has newlines, or another header.
_NO_ROWS = """select count(*) filter (not coalesce(regexp_matches(coalesce(JobID, JobIDRaw), '^[0-9]')
  and regexp_matches(State, '^[A-Z]'), false))"""
_FETCHED = 2048  # rows that are records at a time
# A job id that has a step: 12.0, 12_3.batch, 12+0.extern.
_STEP = re.compile(rb"^[0-9][0-9_+\[\],%-]*\.", re.MULTILINE)
_BEGINNING = 1 << 16
_OF_STEPS = ", ".join(f'"{each.name}"' for each in columns.STEPS)
_COUNTS = ("suspended", "cpus", "node_count", "gpus", "memory", "billing")


@contextmanager
def opened(now: int = 0) -> Iterator["Tables"]:
    """Open empty tables; what they need on disk is removed at the end."""
    with connection.opened() as connected:
        yield Tables(connected, now)


class Tables:
    """The tables of one report: `database` has the views `jobs` and `steps` once `select` was called.

    A running job without an elapsed time is counted until `now`.
    """

    def __init__(self, connected: Connection, now: int = 0) -> None:
        self.connection, self.folder, self.now = connected, connected.folder, now
        self.diagnostics = Diagnostics()  # of what was read; `noticed` adds those of the rows that were selected
        self.origin = 0  # a number that all rows get which are read from now on
        self.where: list[str] = []  # further conditions for the rows of `jobs`
        self.are_few = True  # whether the rows of `jobs` are in memory
        self._jobs, self._added_steps = RowStore(self.folder, "jobs"), RowStore(self.folder, "steps")
        self._adding: Future[int] | None = None  # steps to those
        self._selected: Window | None = None  # whose rows nothing was noticed about yet
        self._has_repeated = False
        self._has_steps = False  # whether the part before had steps: reading them takes longer

    @property
    def database(self) -> "DuckDBPyConnection":
        """The connection to them, once it is there."""
        return self.connection.database

    def clear(self) -> None:
        """Forget all rows that were read."""
        self._jobs.clear(self.database)
        self._steps.clear(self.database)
        self.diagnostics.orphans = Examples()
        self.diagnostics.missing_fields, self.diagnostics.unknown_fields = [], []
        self._has_steps = False

    def read_text(
        self,
        path: Path,
        names: Sequence[str],
        separator: str,
        lines: int,
        is_local: bool = True,
        is_checked: bool = True,
    ) -> bool:
        """Read a file of `lines` lines, each of them a row in UTF-8 whose fields have the separator between them.

        The first is the job id. Columns without a name are left out. `is_local`: whether times may be local times.
        `is_checked`: whether each line is known to begin a row. Return whether the file is what is said here; if not,
        nothing is read.
        """
        import _duckdb

        source = _csv(path, names, separator)
        try:
            if not is_checked and self.database.execute(f"{_NO_ROWS} from {source}").fetchall() != [(0,)]:
                return False
            self._has_steps = self._has_steps or _begins_with_steps(path)
            self._read(source, lines, is_local)
        except _duckdb.InvalidInputException:
            return False
        return True

    def read_rows(self, rows: Iterable[Sequence[str]], names: Sequence[str]) -> None:
        """Read rows of fields, which may hold any character."""
        path, width = self.folder / "rows.csv", len(names)
        id_at = names.index("JobID" if "JobID" in names else "JobIDRaw")
        count = 0
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for row in rows:
                writer.writerow(row[:width])
                count += 1
                self._has_steps = self._has_steps or "." in row[id_at]
        if count:
            self._read(_csv(path, names, ",", is_quoted=True), count, is_local=True)
        path.unlink()

    def _read(self, source: str, rows: int, is_local: bool) -> None:
        """Read a part of that many rows, at first as if there were no steps."""
        self.connection.optimize_for(rows)
        clock = self._clock(source) if is_local else local_time.INSTANTS
        if self._has_steps or self._read_jobs(source, rows, clock) < rows:
            self._has_steps = self._read_with_steps(source, rows, clock)

    def _clock(self, source: str) -> Clock:
        """Return how the times of a part are read, and make the macros for it."""
        ((first, last),) = self.database.execute(f"select {local_time.RANGE} from {source}").fetchall()
        clock, macros = local_time.macros(first, last)
        if macros:
            self.database.execute(macros)
        return clock

    def _read_jobs(self, source: str, rows: int, clock: Clock) -> int:
        """Read the rows of jobs alone; return how many they are."""
        self.database.execute(f"create or replace view raw as select null::bigint as position, * from {source}")
        return self._add_jobs(f"({sacct_sql.jobs(self.now, clock=clock)})", rows)

    def _read_with_steps(self, source: str, rows: int, clock: Clock) -> bool:
        """Read the rows of jobs and steps; return whether there are steps."""
        run = self.database.execute
        self._wait_for_steps()
        # a step is of a job by its place
        run("set preserve_insertion_order = true")
        run(f"create or replace view raw as {self._placed(source, rows)}")
        run("set preserve_insertion_order = false")
        run(steps_sql.step_rows(clock))
        for (step,) in run("select printed_id from step_rows where job is null order by position").fetchall():
            self.diagnostics.orphans.add(step)
        run(steps_sql.USED)
        run(f"create or replace table job_rows as {sacct_sql.jobs(self.now, 'used', clock)}")
        steps = f"select *, {self.origin} as origin from ({steps_sql.STEPS})"
        self._adding = self.connection.begin(lambda database: self._added_steps.add(database, steps, rows))
        self._add_jobs("job_rows", rows)
        return bool(run("select 1 from step_rows limit 1").fetchall())

    def _placed(self, source: str, rows: int) -> str:
        """Copy a part; return the query of its rows with their `position`."""
        if rows <= row_store.FEW:
            self.database.execute(f"create or replace table printed_rows as select * from {source}")
            return "select rowid as position, * from printed_rows"
        path = literal(str(self.folder / "part.parquet"))
        self.database.execute(f"copy (select * from {source}) to {path} ({COPIED})")
        return f"""select file_row_number as position, * exclude (file_row_number)
            from read_parquet({path}, file_row_number = true)"""

    @property
    def _steps(self) -> RowStore:
        self._wait_for_steps()
        return self._added_steps

    def _wait_for_steps(self) -> None:
        """Wait until the steps of the part before were added."""
        if self._adding:
            self._adding.result()

    def _add_jobs(self, relation: str, at_most: int) -> int:
        rows = f"select * exclude (position), {self.origin} as origin from {relation}"
        return self._jobs.add(self.database, rows, at_most)

    def drop_repeated(self) -> None:
        """Keep one row of each incarnation, as files overlap: that of its end, else that which has it run longest."""
        run = self.database.execute
        key = "hash(cluster, coalesce(sluid, id), case when sluid is null then (started, submitted) end)"
        if not self._jobs:
            return
        rows = f"({self._jobs.rows(with_place=True)})"
        run(f"""create or replace table repeated as
            select {PLACE} from (
              select {PLACE}, row_number() over (
                partition by key order by ended is null, counted_until desc, {PLACE}) as place
              from (select *, {key} as key from {rows})
              where key in (select {key} from {rows} group by 1 having count(*) > 1))
            where place > 1""")
        (count,) = run("select count(*) from repeated").fetchall()[0]
        self.diagnostics.repeated += count
        self._has_repeated = count > 0

    def complete(self) -> None:
        """Make the view `completed_rows` of the rows of jobs that were read."""
        run = self.database.execute
        run(f"create or replace view found_rows as {self._rows_of_jobs()}")
        run(jobs_sql.TRES)
        self._read_summaries()
        define(self.database, "completed_rows", jobs_sql.COMPLETED, self._jobs.are_few)

    def select(
        self,
        window: Window,
        where: Sequence[str] = (),
        fresh: str = "true",
        others: Sequence[str] = (),
        other_steps: Sequence[str] = (),
        are_few: bool = True,
    ) -> None:
        """Make the views `jobs` and `steps` of the rows that overlap the window and for which the conditions hold.

        `fresh`: a condition for rows that were read and completed, "" if there are none; `others`: queries of rows that
        are complete; `are_few`: whether memory has room for those.
        """
        run = self.database.execute
        rows = [*others]
        if fresh:
            self._note_unreadable()
            rows.append(f"select * from completed_rows where {fresh}")
        elif not others:
            rows.append(f"select * from (select {_nulls((each.name, each.type) for each in columns.JOBS)}) where false")
        self.are_few = are_few and self._jobs.are_few
        accounted = jobs_sql.accounted(f"({' union all by name '.join(rows)})", window, self.now, [*where, *self.where])
        define(self.database, "accounted", accounted, self.are_few)
        run(jobs_sql.RUNS)
        run(jobs_sql.jobs(has_runs=False))
        own_steps = [f"select {_OF_STEPS} from ({self._steps.rows()})"] if self._steps else []
        nulls = _nulls((each.name, each.type) for each in columns.STEPS)
        none = f"select * from (select {nulls}) where false"
        run(f"create or replace view steps as {' union all by name '.join([*own_steps, *other_steps]) or none}")
        self._selected = window

    def noticed(self) -> Future[Diagnostics]:
        """Begin to add to the diagnostics what is noticeable about the rows that were selected; return them."""
        return self.connection.begin(self._noticed)

    def _noticed(self, database: "DuckDBPyConnection") -> Diagnostics:
        window, self._selected = self._selected, None
        if window:
            self.diagnostics.add_jobs(database, window, self.now)
        return self.diagnostics

    def steps_of(self, start: int, end: int, others: str = "") -> str:
        """Return the query of the steps of jobs that were read and ended in a time, "" if none had steps.

        `others`: a view of jobs whose steps are in it as well.
        """
        if not self._steps:
            return ""
        steps = f"select * from ({self._steps.rows()}) where origin = 0"
        query = f"select {_OF_STEPS} from ({steps} and job_ended >= {start} and job_ended < {end})"
        if not others:
            return query
        key = "incarnation(cluster, sluid, id, started, submitted) as incarnation"
        of_others = f"({steps}) semi join (select {key} from {others}) using (incarnation)"
        return f"{query} union all select {_OF_STEPS} from {of_others}"

    def records(self, jobs: Iterable[str] = ()) -> "Iterator[UsageRecord]":
        """Yield the rows of `jobs` in the order of their starts; if job ids are given, those of these jobs alone."""
        from slurm_tf.account.usage_record import UsageRecord

        names = ", ".join(_record(name) for name in UsageRecord.__struct_fields__)
        where = " and ".join(one_of(["job"], jobs)) or "true"
        found = self.database.execute(
            f"select {names} from jobs where {where} order by started nulls last, id, submitted"
        )
        while rows := found.fetchmany(_FETCHED):
            yield from (UsageRecord(*row) for row in rows)

    def _rows_of_jobs(self) -> str:
        """Return the query of the rows of jobs that were read so far."""
        if not self._jobs:
            nulls = _nulls((name, "VARCHAR") for name in FIELDS)
            self.database.execute(
                f"create or replace view raw as select * from (select null::bigint as position, {nulls}) where false"
            )
            return f"select * exclude (position), 0 as origin from ({sacct_sql.jobs(self.now)})"
        if self._has_repeated:
            placed = self._jobs.rows(with_place=True)
            return f"select * exclude ({PLACE}) from ({placed}) anti join repeated using ({PLACE})"
        return self._jobs.rows()

    def add_runs(self, rows: Iterable[Sequence[object]]) -> None:
        """Add the template, the run and what it recorded to the rows of `jobs`; the columns of jobs_sql.RUNS."""
        columns_of = [[*column] for column in zip(*rows, strict=True)]
        if columns_of:
            values = ", ".join(f"unnest(${number})" for number in range(1, len(columns_of) + 1))
            self.database.execute(f"insert into runs_of_jobs select {values}", columns_of)
            self.database.execute(jobs_sql.jobs(has_runs=True))

    def _read_summaries(self) -> None:
        """Make the table of what jobstats wrote into AdminComment."""
        self.database.execute("create or replace table job_summaries (admin_comment varchar, gpu_use double)")
        packed = self.database.execute(
            "select distinct admin_comment from found_rows where starts_with(admin_comment, 'JS1:')"
        ).fetchall()
        if packed:
            from slurm_tf.account import jobstats

            uses = [(text, jobstats.gpu_use(text)) for (text,) in packed]
            self.database.execute(
                "insert into job_summaries select unnest($1), unnest($2)", [[*each] for each in zip(*uses, strict=True)]
            )

    def _note_unreadable(self) -> None:
        rows = self.database.execute("select id, why_left_out from found_rows where why_left_out is not null")
        for job, why in rows.fetchall():
            self.diagnostics.unreadable.add(f"job {job}: {why}")
        rows = self.database.execute("select id, unreadable from completed_rows where unreadable is not null")
        for job, values in rows.fetchall():
            self.diagnostics.values.add(f"job {job}: {values}")
        if self._steps:
            rows = self.database.execute(
                f"select raw_id, step, unreadable from ({self._steps.rows()}) where unreadable is not null"
            )
            for job, step, values in rows.fetchall():
                self.diagnostics.values_of_steps.add(f"step {job}.{step}: {values}")


def _begins_with_steps(path: Path) -> bool:
    with path.open("rb") as file:
        return _STEP.search(file.read(_BEGINNING)) is not None


def _record(column: str) -> str:
    """Return the expression of a column as UsageRecord has it: unknown amounts are 0, unknown text is empty."""
    name = {"limit": "time_limit"}.get(column, column)
    kind = next(each.type for each in columns.JOBS if each.name == name)
    if kind == "VARCHAR":
        return f"coalesce(\"{name}\", '')"
    return f'coalesce("{name}", 0)' if column in _COUNTS else f'"{name}"'


def _nulls(names: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f'null::{kind} as "{name}"' for name, kind in names)


def _csv(path: Path, names: Sequence[str], separator: str, is_quoted: bool = False) -> str:
    """Return the query of all fields in a file, whatever its columns are; those that it lacks are NULL."""
    columns = ", ".join(f"{literal(f'{number} {name}')}: 'VARCHAR'" for number, name in enumerate(names))
    quote, longest = ('"', _LONGEST_QUOTED) if is_quoted else ("", _LONGEST)
    fields = ", ".join(
        f'"{names.index(name)} {name}" as "{name}"' if name in names else f'null::varchar as "{name}"'
        for name in FIELDS
    )
    return (
        f"(select {fields} from read_csv({literal(str(path))}, columns = {{{columns}}}, delim = {literal(separator)}, "
        f"quote = {literal(quote)}, escape = {literal(quote)}, header = false, auto_detect = false, "
        f"strict_mode = true, new_line = '\\n', max_line_size = {longest}, buffer_size = {max(_BUFFER, longest)}))"
    )
