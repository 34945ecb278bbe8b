"""A saved file as a source of records."""

from collections.abc import Iterator, Sequence

from slurm_tf.account import saved_tables, saved_text
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.job_incarnations import Incarnations
from slurm_tf.account.rows import Rows, lacked, missing
from slurm_tf.account.saved_text import SavedText
from slurm_tf.account.source import selected, with_diagnostics
from slurm_tf.account.usage_record import Key, UsageRecord, Window
from slurm_tf.errors import AccountingError

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
        """Yield the records of the file. Raises AccountingError if it is not a table of sacct."""
        diagnostics = self.diagnostics = Diagnostics()
        with saved_text.opened(self.path) as saved:
            found = once(self._read(saved, diagnostics), diagnostics)
            chosen = selected(found, window, saved.saved, frozenset(users), frozenset(accounts), frozenset(jobs))
            yield from with_diagnostics(chosen, diagnostics, window, saved.saved)

    def _read(self, saved: SavedText, diagnostics: Diagnostics) -> Iterator[UsageRecord]:
        for table in saved_tables.read(saved, diagnostics.unreadable, self.form, self.delimiter):
            lacking = missing(table.names)
            if lacking:
                raise AccountingError(
                    f"there is no column {', '.join(lacking)}", "it",
                    "sacct -P --duplicates --format=JobID,State,Submit,Start,End,ElapsedRaw,User,Account,AllocTRES,...",
                    where=self.path,
                )  # fmt: skip
            diagnostics.missing_fields += [
                name for name in lacked(table.names) if name not in diagnostics.missing_fields
            ]
            diagnostics.unknown_fields += [name for name in table.unknown if name not in diagnostics.unknown_fields]
            yield from Rows(table.names, diagnostics, saved.saved).records(table.rows)


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
