"""The protocol of a source of records, and the source sacct; the others are in saved.py and ledger.py."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.rows import ASKED, Rows, lacked, missing
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.errors import SlurmError
from slurm_tf.slurm import sacct, sacct_fields
from slurm_tf.slurm.records import whole_job

_MOMENTS = 300


class Source(Protocol):
    """Yields each incarnation once that a window overlaps, and keeps none of them.

    `diagnostics` are those of the newest call of `records`, complete once it is through.
    """

    diagnostics: Diagnostics

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records of these users, accounts and jobs; of all that the source has where none are named.

        Raises SlurmError and what the source's own docstring says, also after some records: they are not all then.
        """


class SacctSource:
    """Asks sacct, once for each call; without `all_users` and without users, for one's own jobs (root: for all)."""

    def __init__(self, all_users: bool = False, seconds: float = sacct.SECONDS) -> None:
        self.all_users, self.seconds = all_users, seconds
        self.diagnostics = Diagnostics()

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield what sacct prints, as it prints it. Raises SlurmError."""
        diagnostics = self.diagnostics = Diagnostics()
        known = sacct.fields()
        names = [name for name in ASKED if name in known]
        lacking = missing(names)
        if lacking:
            raise SlurmError(f"sacct --helpformat does not name {', '.join(lacking)}", "Slurm 17.11 or newer")
        diagnostics.missing_fields = lacked(names)
        diagnostics.unknown_fields = sorted(known - sacct_fields.KNOWN)
        now = present(window)
        # asked for "42_3", sacct (22.05.8) finds nothing as long as the task is pending
        ids = list(dict.fromkeys(map(whole_job, jobs)))
        table = sacct.rows(names, *window, users, accounts, ids, self.all_users, self.seconds)
        yield from with_diagnostics(
            selected(Rows(names, diagnostics, now).records(table), window, now, jobs=jobs), diagnostics, window, now
        )


def present(window: Window) -> int:
    """Return the time now; for a window that was made moments ago to end now, that is its end."""
    now = int(time.time())
    return window.end if 0 <= now - window.end <= _MOMENTS else now


def selected(
    records: Iterable[UsageRecord],
    window: Window,
    now: int,
    users: Collection[str] = (),
    accounts: Collection[str] = (),
    jobs: Collection[str] = (),
) -> Iterator[UsageRecord]:
    """Yield those that the window overlaps, of these users, accounts and jobs, each of which may be no matter."""
    start, end = window
    for record in records:
        if (
            record.overlaps(start, end, now)
            and (not users or record.user in users)
            and (not accounts or record.account in accounts)
            and (not jobs or record.id in jobs or record.job in jobs or record.raw_id in jobs)
        ):
            yield record


def with_diagnostics(
    records: Iterable[UsageRecord], diagnostics: Diagnostics, window: Window, now: int
) -> Iterator[UsageRecord]:
    """Yield all records, and add what a report must say about them to `diagnostics`."""
    for record in records:
        diagnostics.add_record(record, *window, now)
        yield record
