"""The tables of a report: what readers of accounting read, as files of a private folder that DuckDB queries.

Text is read in parts of some megabytes, so that memory does not grow with its length.
"""

import csv
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_tf.account import columns, jobs_sql, jobstats, local_time, sacct_sql, steps_sql
from slurm_tf.account.diagnostics import Diagnostics, Examples
from slurm_tf.account.fields import FIELDS
from slurm_tf.account.literals import literal, one_of
from slurm_tf.account.local_time import Clock
from slurm_tf.account.usage_record import UsageRecord, Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# DuckDB's limit for what it holds; it writes the rest into the folder.
_MEMORY = "256MB"
# The bytes of a line. No row of sacct is longer than a quoted one here; DuckDB reads lines in buffers of that size at
# least, one for each thread.
_LONGEST, _LONGEST_QUOTED = 1 << 20, 16 << 20
_BUFFER = 8 << 20
# Rows of a Parquet file that are compressed together: with as many as by default, each text costs twice the time.
COPIED = "format parquet, row_group_size 20000"
_NUMBERED = ", filename = true, file_row_number = true"
# How many lines are no rows: the rest of one whose text has newlines, or another header.
_NO_ROWS = """select count(*) filter (not coalesce(regexp_matches(coalesce(JobID, JobIDRaw), '^[0-9]')
  and regexp_matches(State, '^[A-Z]'), false))"""
_QUIET = "set enable_progress_bar = false;"  # of a connection: none for a program without a file (python -c)
_FETCHED = 2048  # rows that are records at a time
# A job id that has a step: 12.0, 12_3.batch, 12+0.extern.
_STEP = re.compile(rb"^[0-9][0-9_+\[\],%-]*\.", re.MULTILINE)
_BEGINNING = 1 << 16
# So many rows are kept in memory: DuckDB plans a query of a view with all that the view is made of, each time.
_FEW = 50_000
_OF_STEPS = ", ".join(f'"{each.name}"' for each in columns.STEPS)
_COUNTS = ("suspended", "cpus", "node_count", "gpus", "memory", "billing")


@contextmanager
def opened(now: int = 0) -> Iterator["Tables"]:
    """Open empty tables; what they need on disk is removed at the end."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="slurm-tf-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY, "temp_directory": folder, "autoinstall_known_extensions": False,
            "autoload_known_extensions": False, "preserve_insertion_order": False,
        }  # fmt: skip
        with duckdb.connect(config=settings) as database:
            yield Tables(database, Path(folder), now)


class Tables:
    """The tables of one report: `database` has the views `jobs` and `steps` once `select` was called.

    A running job without an elapsed time is counted until `now`.
    """

    def __init__(self, database: "DuckDBPyConnection", folder: Path, now: int) -> None:
        self.database, self.folder, self.now = database, folder, now
        self.diagnostics = Diagnostics()
        self.origin = 0  # a number that all rows get which are read from now on
        self.where: list[str] = []  # further conditions for the rows of `jobs`
        self._parts = 0
        self._has_repeated = False
        self._has_steps = False  # whether the part before had steps: reading them takes longer
        database.execute(_QUIET + sacct_sql.macros())

    def cursor(self) -> "DuckDBPyConnection":
        """Return another connection to the tables, for another thread; the caller closes it."""
        return self.database.cursor().execute(_QUIET)

    def clear(self) -> None:
        """Forget all rows that were read."""
        for path in self.folder.glob("*.parquet"):
            path.unlink()
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
        import duckdb

        source = _csv(path, names, separator)
        try:
            if not is_checked and self.database.execute(f"{_NO_ROWS} from {source}").fetchall() != [(0,)]:
                return False
            self._has_steps = self._has_steps or _begins_with_steps(path)
            self._read(source, lines, is_local)
        except duckdb.InvalidInputException:
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
        self._parts += 1
        clock = self._clock(source) if is_local else local_time.INSTANTS
        if self._has_steps or self._read_jobs(source, clock) < rows:
            self._has_steps = self._read_with_steps(source, clock)

    def _clock(self, source: str) -> Clock:
        """Return how the times of a part are read, and make the macros for it."""
        ((first, last),) = self.database.execute(f"select {local_time.RANGE} from {source}").fetchall()
        clock, macros = local_time.macros(first, last)
        if macros:
            self.database.execute(macros)
        return clock

    def _read_jobs(self, source: str, clock: Clock) -> int:
        """Read the rows of jobs alone; return how many they are."""
        self.database.execute(f"create or replace view raw as select null::bigint as position, * from {source}")
        return self._copy_jobs(f"({sacct_sql.jobs(self.now, clock=clock)})")

    def _read_with_steps(self, source: str, clock: Clock) -> bool:
        """Read the rows of jobs and steps; return whether there are steps."""
        run = self.database.execute
        path = literal(str(self.folder / "part.parquet"))
        # a step is of a job by its place
        run("set preserve_insertion_order = true")
        run(f"copy (select * from {source}) to {path} ({COPIED})")
        run("set preserve_insertion_order = false")
        run(f"""create or replace view raw as select file_row_number as position, * exclude (file_row_number)
            from read_parquet({path}, file_row_number = true)""")
        run(steps_sql.step_rows(clock))
        for (step,) in run("select printed_id from step_rows where job is null order by position").fetchall():
            self.diagnostics.orphans.add(step)
        run(steps_sql.USED)
        run(f"create or replace table job_rows as {sacct_sql.jobs(self.now, 'used', clock)}")
        self._copy_jobs("job_rows")
        return self._copy(f"select *, {self.origin} as origin from ({steps_sql.STEPS})", "steps") > 0

    def _copy_jobs(self, relation: str) -> int:
        return self._copy(f"select * exclude (position), {self.origin} as origin from {relation}", "jobs")

    def drop_repeated(self) -> None:
        """Keep one row of each incarnation, as files overlap: that of its end, else that which has it run longest."""
        run = self.database.execute
        key = "hash(cluster, coalesce(sluid, id), case when sluid is null then (started, submitted) end)"
        if not self._has("jobs"):
            return
        rows = self._read_parquet("jobs", _NUMBERED)
        run(f"""create or replace table repeated as
            select filename, file_row_number from (
              select filename, file_row_number, row_number() over (
                partition by key order by ended is null, counted_until desc, filename, file_row_number) as place
              from (select *, {key} as key from {rows})
              where key in (select {key} from {rows} group by 1 having count(*) > 1))
            where place > 1""")
        (count,) = run("select count(*) from repeated").fetchall()[0]
        self.diagnostics.repeated += count
        self._has_repeated = count > 0

    def complete(self) -> None:
        """Make the view `completed_rows` of the rows of jobs that were read."""
        run = self.database.execute
        run(f"create or replace view found_rows as {self._files('jobs')}")
        run(jobs_sql.TRES)
        self._read_summaries()
        run(jobs_sql.COMPLETED)

    def select(
        self,
        window: Window,
        where: Sequence[str] = (),
        fresh: str = "true",
        others: Sequence[str] = (),
        other_steps: Sequence[str] = (),
    ) -> None:
        """Make the views `jobs` and `steps` of the rows that overlap the window and for which the conditions hold.

        `fresh`: a condition for rows that were read and completed, "" if there are none; `others`: queries of rows that
        are complete.
        """
        run = self.database.execute
        rows = [*others]
        if fresh:
            self._note_unreadable()
            rows.append(f"select * from completed_rows where {fresh}")
        elif not others:
            rows.append(f"select * from (select {_nulls((each.name, each.type) for each in columns.JOBS)}) where false")
        run(jobs_sql.accounted(f"({' union all by name '.join(rows)})", window, self.now, [*where, *self.where]))
        run(jobs_sql.RUNS)
        run(jobs_sql.jobs(has_runs=False))
        own_steps = [self._files("steps")] if self._has("steps") or not other_steps else []
        steps = " union all by name ".join([*own_steps, *other_steps])
        run(f"create or replace view steps as {steps}")
        self.diagnostics.add_jobs(self.database, window, self.now)

    def steps_of(self, start: int, end: int, others: str = "") -> str:
        """Return the query of the steps of jobs that were read and ended in a time, "" if none had steps.

        `others`: a view of jobs whose steps are in it as well.
        """
        if not self._has("steps"):
            return ""
        steps = f"select * from {self._read_parquet('steps')} where origin = 0"
        query = f"select {_OF_STEPS} from ({steps} and job_ended >= {start} and job_ended < {end})"
        if not others:
            return query
        key = "incarnation(cluster, sluid, id, started, submitted) as incarnation"
        of_others = f"({steps}) semi join (select {key} from {others}) using (incarnation)"
        return f"{query} union all select {_OF_STEPS} from {of_others}"

    def records(self, jobs: Iterable[str] = ()) -> Iterator[UsageRecord]:
        """Yield the rows of `jobs` in the order of their starts; if job ids are given, those of these jobs alone."""
        names = ", ".join(_record(name) for name in UsageRecord.__struct_fields__)
        where = " and ".join(one_of(["job"], jobs)) or "true"
        found = self.database.execute(
            f"select {names} from jobs where {where} order by started nulls last, id, submitted"
        )
        while rows := found.fetchmany(_FETCHED):
            yield from (UsageRecord(*row) for row in rows)

    def _files(self, table: str) -> str:
        """Return the query of what was read so far."""
        if not self._has(table):
            return self._none(table)
        if table == "steps":
            return f"select {_OF_STEPS} from {self._read_parquet(table)}"
        if self._has_repeated:
            return (
                f"select * exclude (filename, file_row_number) from {self._read_parquet(table, _NUMBERED)} "
                "anti join repeated using (filename, file_row_number)"
            )
        return f"select * from {self._read_parquet(table)}"

    def _has(self, table: str) -> bool:
        return any(self.folder.glob(f"{table}-*.parquet"))

    def _read_parquet(self, table: str, options: str = "") -> str:
        return f"read_parquet({literal(str(self.folder / f'{table}-*.parquet'))}{options})"

    def _none(self, table: str) -> str:
        """Return the query of a table without rows."""
        if table == "steps":
            return f"select * from (select {_nulls((each.name, each.type) for each in columns.STEPS)}) where false"
        nulls = _nulls((name, "VARCHAR") for name in FIELDS)
        self.database.execute(
            f"create or replace view raw as select * from (select null::bigint as position, {nulls}) where false"
        )
        return f"select * exclude (position), 0 as origin from ({sacct_sql.jobs(self.now)})"

    def add_runs(self, rows: Iterable[Sequence[object]]) -> None:
        """Add the template, the run and what it recorded to the rows of `jobs`; the columns of jobs_sql.RUNS."""
        columns_of = [[*column] for column in zip(*rows, strict=True)]
        if columns_of:
            values = ", ".join(f"unnest(${number})" for number in range(1, len(columns_of) + 1))
            self.database.execute(f"insert into runs_of_jobs select {values}", columns_of)
            self.database.execute(jobs_sql.jobs(has_runs=True))

    def hold(self) -> bool:
        """Keep the rows of the view `jobs` in memory if they are few; return whether they are."""
        if self.diagnostics.records > _FEW:
            return False
        self.database.execute("create or replace table held_jobs as select * from jobs")
        self.database.execute("create or replace view jobs as select * from held_jobs")
        return True

    def _read_summaries(self) -> None:
        """Make the table of what jobstats wrote into AdminComment."""
        self.database.execute("create or replace table job_summaries (admin_comment varchar, gpu_use double)")
        packed = self.database.execute(
            "select distinct admin_comment from found_rows where starts_with(admin_comment, 'JS1:')"
        ).fetchall()
        uses = [(text, jobstats.gpu_use(text)) for (text,) in packed]
        if uses:
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
        if self._has("steps"):
            rows = self.database.execute(
                f"select raw_id, step, unreadable from ({self._files('steps')}) where unreadable is not null"
            )
            for job, step, values in rows.fetchall():
                self.diagnostics.values_of_steps.add(f"step {job}.{step}: {values}")

    def _copy(self, query: str, table: str) -> int:
        """Write what a query returns as a part of a table; return how many rows that is."""
        path = self.folder / f"{table}-{self._parts}.parquet"
        found = self.database.execute(f"copy ({query}) to {literal(str(path))} ({COPIED})").fetchone()
        return int(found[0]) if found else 0


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
