"""Keeps the rows of one table that were read: in memory while they are few, in Parquet files of a folder otherwise."""

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


def define(database: "DuckDBPyConnection", view: str, query: str, are_few: bool) -> None:
    """Make a view of a query; of one that returns few rows, the view of a table, which is filled now."""
    if are_few:
        database.execute(f"create or replace table held_{view} as {query}")
        query = f"select * from held_{view}"
    database.execute(f"create or replace view {view} as {query}")


class RowStore:
    """The rows of a table, which parts are added to."""

    def __init__(self, folder: Path, table: str) -> None:
        self._folder, self._table = folder, table
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

    def add(self, database: "DuckDBPyConnection", query: str, at_most: int) -> int:
        """Add the rows that a query returns, `at_most` so many; return their number. All parts have the same columns.

        Another part is added after this one, not meanwhile.
        """
        if self._files or at_most > self._room:
            self._files += 1
            path = literal(str(self._folder / f"{self._table}-{self._files}.parquet"))
            return _count(database, f"copy ({query}) to {path} ({COPIED})")
        made = f"insert into {self._held} by name" if self._is_held else f"create table {self._held} as"
        self._is_held = True
        count = _count(database, f"{made} {query}")
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

    def clear(self, database: "DuckDBPyConnection") -> None:
        """Remove all rows."""
        if self._is_held:
            database.execute(f"drop table {self._held}")
        for path in self._folder.glob(f"{self._table}-*.parquet"):
            path.unlink()
        self._room, self._files, self._is_held = FEW, 0, False


def _count(database: "DuckDBPyConnection", statement: str) -> int:
    found = database.execute(statement).fetchone()
    return int(found[0]) if found else 0
