"""Keeps the rows of one table that were read: in memory while they are few, in Parquet files of a folder otherwise."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_tf.account.literals import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# So many rows are few: DuckDB plans each query of a view or a file with all that it is made of, however few the rows.
FEW = 50_000
# Rows of a Parquet file that are compressed together: with as many as by default, each text costs twice the time.
COPIED = "format parquet, row_group_size 20000"
# What tells the rows of a table apart: the same in each query.
PLACE = "filename, file_row_number"

# So few rows of a part are added up by one thread, which is done before a query would be optimized.
VERY_FEW = 2000
UNOPTIMIZED = "set threads = 1; pragma disable_optimizer;"


def optimize(database: "DuckDBPyConnection") -> None:
    """Optimize the queries from now on, and use all cores: there are more than VERY_FEW rows, or nobody knows."""
    database.execute("reset threads; pragma enable_optimizer;")


def define(database: "DuckDBPyConnection", view: str, query: str, are_few: bool) -> None:
    """Make a view of a query; of one that returns few rows, the view of a table, which is filled now."""
    if are_few:
        database.execute(f"create or replace table held_{view} as {query}")
        query = f"select * from held_{view}"
    database.execute(f"create or replace view {view} as {query}")


class RowStore:
    """The rows of a table, which parts are added to."""

    def __init__(self, database: "Callable[[], DuckDBPyConnection]", folder: Path, table: str) -> None:
        self._database, self._folder, self._table = database, folder, table
        self._held = f"{table}_in_memory"
        self._room = FEW
        self._files = 0
        self._is_held = False

    @property
    def are_few(self) -> bool:
        """Whether all rows are in memory."""
        return not self._files

    def __bool__(self) -> bool:
        """Whether a part was added."""
        return self._is_held or self._files > 0

    def add(self, query: str, at_most: int) -> int:
        """Add the rows that a query returns, `at_most` so many; return their number. All parts have the same columns.

        Another part is added after this one, not meanwhile.
        """
        if self._files or at_most > self._room:
            self._files += 1
            path = literal(str(self._folder / f"{self._table}-{self._files}.parquet"))
            return self._count(f"copy ({query}) to {path} ({COPIED})")
        made = f"insert into {self._held} by name" if self._is_held else f"create table {self._held} as"
        self._is_held = True
        count = self._count(f"{made} {query}")
        self._room -= count
        return count

    def rows(self, with_place: bool = False) -> str:
        """Return the query of all rows; `with_place`: with the columns of PLACE. There must be a part."""
        found = []
        if self._is_held:
            place = ", '' as filename, rowid as file_row_number" if with_place else ""
            found.append(f"select *{place} from {self._held}")
        if self._files:
            options = ", filename = true, file_row_number = true" if with_place else ""
            files = literal(str(self._folder / f"{self._table}-*.parquet"))
            found.append(f"select * from read_parquet({files}{options})")
        return " union all by name ".join(found)

    def clear(self) -> None:
        """Remove all rows."""
        if self._is_held:
            self._database().execute(f"drop table {self._held}")
        for path in self._folder.glob(f"{self._table}-*.parquet"):
            path.unlink()
        self._room, self._files, self._is_held = FEW, 0, False

    def _count(self, statement: str) -> int:
        found = self._database().execute(statement).fetchone()
        return int(found[0]) if found else 0
