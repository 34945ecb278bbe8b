"""The connection of a report to DuckDB, which a thread makes: that takes as long as importing all that reads rows.

So this module imports little. DuckDB is imported as `_duckdb`: that is all of it, and the package around it, which
makes queries of Python's expressions, takes three times as long.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slurm_tf.account.macros import MACROS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")

# DuckDB's limit for what it holds; it writes the rest into the folder. A million rows need a quarter of it; a report of
# ten million takes a tenth longer with less.
_MEMORY = "768MB"
# So few rows are added up by one thread, which is done before a query would be optimized.
VERY_FEW = 2000
_QUIET = "set enable_progress_bar = false;"  # of a connection: none for a program without a file (python -c)
_UNOPTIMIZED = "pragma disable_optimizer;"  # of a connection as well


@contextmanager
def opened() -> Iterator["Connection"]:
    """Begin to connect to an empty database; what it needs on disk is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="slurm-tf-") as folder, ThreadPoolExecutor(1) as thread:
        connected = thread.submit(_connected, folder)
        try:
            yield Connection(Path(folder), connected, thread)
        finally:
            thread.shutdown()
            connected.result().close()


def _connected(folder: str) -> "DuckDBPyConnection":
    import _duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY, "temp_directory": folder, "autoinstall_known_extensions": False,
        "autoload_known_extensions": False, "preserve_insertion_order": False,
    }  # fmt: skip
    database = _duckdb.connect(config=settings)
    database.execute(f"{_QUIET} {_UNOPTIMIZED} set threads = 1; {MACROS}")
    return database


def optimize(database: "DuckDBPyConnection") -> None:
    """Optimize the queries of a connection from now on, and use all cores: there are more than VERY_FEW rows."""
    database.execute("reset threads; pragma enable_optimizer;")


class Connection:
    """The connection, the `folder` for files, and the thread that connects, and works beside the caller after that."""

    def __init__(self, folder: Path, connected: "Future[DuckDBPyConnection]", thread: ThreadPoolExecutor) -> None:
        self.folder, self._connected, self._thread = folder, connected, thread
        self._is_optimized = False

    @property
    def database(self) -> "DuckDBPyConnection":
        """The connection, once it is there."""
        return self._connected.result()

    def optimize_for(self, rows: int) -> None:
        """Optimize the queries from now on if they are of more rows than VERY_FEW."""
        if rows > VERY_FEW:
            self._is_optimized = True
            optimize(self.database)

    def cursor(self) -> "DuckDBPyConnection":
        """Return another connection to the database, for another thread; the caller closes it."""
        settings = _QUIET if self._is_optimized else _QUIET + _UNOPTIMIZED
        return self.database.cursor().execute(settings)

    def begin(self, function: "Callable[[DuckDBPyConnection], T]") -> Future[T]:
        """Have the thread call a function with a connection of its own, one call after the other."""

        def call() -> T:
            with self.cursor() as database:
                return function(database)

        return self._thread.submit(call)
