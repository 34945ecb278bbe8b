"""The SQLite file of the ledger. Several processes may write to it at once, also on a network file system."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from slurm_tf import files
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.errors import LedgerError

# Increase it with every change of the tables or of UsageRecord's fields: a ledger with a lower number is emptied.
SCHEMA = 1
_OURS = 0x53544655  # the file's application id
_SECONDS = 10.0
_READ = 500  # rows that are read, and held in memory, at a time
_TABLES = """
create table spans (
  ended integer, begin integer, raw_id text, user text, record blob, primary key (ended, begin, raw_id)
) without rowid;
create table days (scope text, day integer, primary key (scope, day)) without rowid;
"""
_PAGE = """
select ended, begin, raw_id, record from spans where (ended, begin, raw_id) > (:ended, :begin, :raw_id)
and begin < :stop and (ended > :start or begin >= :start)
and not (begin < :asked_end and (ended > :asked_start or begin >= :asked_start)) {users}
order by ended, begin, raw_id limit :portion
"""
_CORRUPT = ("it is corrupt", "--rebuild: it is made again from sacct")
_WORDS = {
    sqlite3.SQLITE_BUSY: ("another process holds it", "run it again"),
    sqlite3.SQLITE_LOCKED: ("another process holds it", "run it again"),
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
}


class Span(NamedTuple):
    """A record and its time span; for a job that never ran, both are its end."""

    ended: int
    begin: int
    record: UsageRecord


class Store:
    """An open ledger. All methods raise LedgerError if the file is locked, corrupt or cannot be written.

    Rows are read and written in portions. No lock is held between two calls, or while the caller handles a record.
    """

    PORTION = 2000  # rows that are written in one transaction, which takes some milliseconds

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(UsageRecord).decode

    @classmethod
    @contextmanager
    def open(cls, path: Path, rebuild: bool = False) -> Iterator["Store"]:
        """Open the ledger at `path`, or create it with mode 0600. With `rebuild`, empty it.

        Raises LedgerError, and RunError if other users can change the file.
        """
        try:
            if rebuild and path.exists():
                _remove_if_broken(path)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise LedgerError(f"it cannot be opened: {error.strerror}", where=str(path)) from error
        files.check_own(str(path))
        # Autocommit. No write-ahead log, because it needs memory shared by all processes, and home folders are on NFS.
        with closing(sqlite3.connect(path, timeout=_SECONDS, isolation_level=None)) as database:
            store = cls(database, path)
            with store._said():
                store._prepare(rebuild)
            yield store

    def open_days(self, days: Sequence[int], scopes: Sequence[str]) -> list[int]:
        """Return the days of `days` that are not closed for any of the scopes, in ascending order."""
        with self._said():
            marks = ",".join("?" * len(scopes))
            rows = self._database.execute(f"select day from days where scope in ({marks})", scopes)  # noqa: S608
            closed = {day for (day,) in rows}
        return [day for day in days if day not in closed]

    def close(self, scope: str, days: Iterable[int]) -> None:
        """Record that the ledger has all rows that overlap these days."""
        with self._said(), self._change():
            self._database.executemany("insert or ignore into days values (?, ?)", [(scope, day) for day in days])

    def add(self, spans: Sequence[Span]) -> None:
        """Store rows; a row that the ledger already has is replaced."""
        rows = [(ended, begin, each.raw_id, each.user, self._encode(each)) for ended, begin, each in spans]
        if rows:
            with self._said(), self._change():
                self._database.executemany("insert or replace into spans values (?, ?, ?, ?, ?)", rows)

    def records(self, window: Window, asked: Window | None, users: Sequence[str]) -> Iterator[UsageRecord]:
        """Yield the records that overlap the window but not `asked`, of these users; without users, of all."""
        without = asked or Window(0, 0)
        named = ",".join(f":user{index}" for index in range(len(users)))
        page = _PAGE.format(users=f"and user in ({named})" if users else "")
        values = {
            "ended": window.start - 1, "begin": 2**62, "raw_id": "", "start": window.start, "stop": window.end,
            "asked_start": without.start, "asked_end": without.end, "portion": _READ,
            **{f"user{index}": user for index, user in enumerate(users)},
        }  # fmt: skip
        while True:
            with self._said():
                rows = self._database.execute(page, values).fetchall()
                records = [self._decode(row[3]) for row in rows]
            yield from records
            if len(rows) < _READ:
                return
            values["ended"], values["begin"], values["raw_id"] = rows[-1][:3]

    def _prepare(self, rebuild: bool) -> None:
        ours, version = self._pragma("application_id"), self._pragma("user_version")
        if ours == _OURS and version == SCHEMA and not rebuild:
            return
        if ours not in (0, _OURS) or (ours == 0 and self._pragma("schema_version")):
            raise LedgerError("it is no ledger of slurm-tf's", "one", "move it away", where=str(self._path))
        if version > SCHEMA and not rebuild:
            raise LedgerError(
                f"a newer slurm-tf wrote it (schema {version})", f"schema {SCHEMA}",
                "use that slurm-tf; or --rebuild", where=str(self._path),
            )  # fmt: skip
        self._database.execute("pragma page_size = 16384")  # a row has some 300 bytes: a page holds several dozen
        with self._change():
            if self._pragma("user_version") != SCHEMA or rebuild:  # another process may have made the tables meanwhile
                for statement in ("drop table if exists spans", "drop table if exists days", *_TABLES.split(";")):
                    self._database.execute(statement)
                self._database.execute(f"pragma application_id = {_OURS}")
                self._database.execute(f"pragma user_version = {SCHEMA}")

    def _pragma(self, name: str) -> int:
        (value,) = self._database.execute(f"pragma {name}").fetchone()
        return int(value)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Run statements in one transaction; wait until no other process writes."""
        self._database.execute("begin immediate")
        try:
            yield
            self._database.execute("commit")
        except BaseException:
            self._database.execute("rollback")
            raise

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            found, do = _WORDS.get(_code(error), (str(error), "--rebuild, if it stays so"))
            raise LedgerError(found, do=do, where=str(self._path)) from error
        except msgspec.DecodeError as error:
            raise LedgerError(_CORRUPT[0], do=_CORRUPT[1], where=str(self._path)) from error


def _remove_if_broken(path: Path) -> None:
    """Remove a ledger that cannot be read. One that can be read stays, as another process may be writing to it; `open`
    then empties its tables.
    """
    with closing(sqlite3.connect(path, timeout=_SECONDS, isolation_level=None)) as database:
        try:
            sound = database.execute("pragma quick_check").fetchone() == ("ok",)
        except sqlite3.DatabaseError as error:
            sound = _WORDS.get(_code(error)) is not _CORRUPT
    if not sound:
        for name in (path, Path(f"{path}-journal")):
            name.unlink(missing_ok=True)


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
