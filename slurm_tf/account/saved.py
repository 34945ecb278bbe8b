"""Reads tables that were saved with `sacct -P`, of any release, with any columns and any delimiter."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.job_incarnations import Incarnations
from slurm_tf.account.rows import Rows, lacked, missing
from slurm_tf.account.source import selected, with_diagnostics
from slurm_tf.account.table import Header, Table
from slurm_tf.account.usage_record import Key, UsageRecord, Window
from slurm_tf.errors import AccountingError

_BLOCK = 1 << 18
_LONGEST = 16 << 20
# Up to this many rows of running jobs are held back, as a later file may have a newer row of the same incarnation.
_HELD = 5_000


class FileSource:
    """Reads a file, or standard input for "-". `form`: the columns as for --format, if the file has no header.

    Times are local times of the environment's TZ, as sacct prints them, or seconds since the epoch
    (SLURM_TIME_FORMAT=%s). A running job is counted until the file was saved. The file may be a concatenation of
    several tables: each incarnation counts once, and a row of its end replaces one of the running job.
    """

    def __init__(self, path: str, form: str = "", delimiter: str = "") -> None:
        self.path, self.form, self.delimiter = path, form, delimiter
        self.diagnostics = Diagnostics()

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records of the file. Raises AccountingError if it is not a table of sacct, or is cut off."""
        diagnostics = self.diagnostics = Diagnostics()
        with self._open() as file:
            now = int(time.time() if self.path == "-" else os.fstat(file.fileno()).st_mtime)
            found = once(self._read(file, diagnostics, now), diagnostics)
            chosen = selected(found, window, now, frozenset(users), frozenset(accounts), frozenset(jobs))
            yield from with_diagnostics(chosen, diagnostics, window, now)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if self.path == "-":
            yield sys.stdin.buffer
            return
        try:
            with open(self.path, "rb") as file:
                yield file
        except OSError as error:
            raise AccountingError(f"it cannot be read: {error.strerror}", where=self.path) from error

    def _read(self, file: BinaryIO, diagnostics: Diagnostics, now: int) -> Iterator[UsageRecord]:
        table = Table(lines(file, self.path), self.path, diagnostics.unreadable)
        header: Header | None = table.begin(self.form, self.delimiter)
        while header is not None:
            lacking = missing(header.names)
            if lacking:
                raise AccountingError(
                    f"there is no column {', '.join(lacking)}", "it",
                    "sacct -P --duplicates --format=JobID,State,Submit,Start,End,ElapsedRaw,User,Account,AllocTRES,...",
                    where=self.path,
                )  # fmt: skip
            diagnostics.missing_fields += [
                name for name in lacked(header.names) if name not in diagnostics.missing_fields
            ]
            diagnostics.unknown_fields += [name for name in header.unknown if name not in diagnostics.unknown_fields]
            yield from Rows(header.names, diagnostics, now).records(table.rows(header))
            header = table.next_header


def once(records: Iterator[UsageRecord], diagnostics: Diagnostics) -> Iterator[UsageRecord]:
    """Yield each incarnation once: its row with an end, or else the row that has it running longest."""
    seen = Incarnations()
    running: dict[Key, UsageRecord] = {}
    for record in records:
        if record.ended is None and record.started is not None and len(running) < _HELD:
            key = record.key
            other = running.get(key)
            diagnostics.repeated += other is not None
            if other is None or (record.counted_until or 0) > (other.counted_until or 0):
                running[key] = record
        elif seen.add(record):
            yield record
        else:
            diagnostics.repeated += 1
    for record in running.values():
        if seen.add(record):
            yield record
        else:
            diagnostics.repeated += 1


def lines(file: BinaryIO, where: str) -> Iterator[str]:
    """Yield a file's lines, with bytes that are not UTF-8 as backslash, x and two digits.

    Raises AccountingError if the last line does not end with a newline.
    """
    first = file.readline(_LONGEST)
    mark = b"\r\n" if first.endswith(b"\r\n") else b"\n"
    rest = first
    while len(rest) <= _LONGEST:
        block = file.read(_BLOCK)
        whole, newline, rest = (rest + block).rpartition(mark)
        if newline:
            yield from whole.decode(errors="backslashreplace").split(mark.decode())
        if not block:
            break
    if rest:
        raise AccountingError(
            "the file ends inside a row, or is no text", "all that sacct printed",
            "save it again; or end it with a newline, if it is all", where=where,
        )  # fmt: skip
