"""Sources of records: the protocol, and the source that calls sacct. Others are in saved.py and ledger.py."""

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
    """A source of records: yields each incarnation that overlaps a window once, and stores none.

    `diagnostics` are those of the latest call of `records`, complete once it has yielded all records.
    """

    diagnostics: Diagnostics

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records of these users, accounts and jobs; an empty sequence selects all.

        Raises SlurmError and the errors in the source's docstring. An error may come after some of the records.
        """


class SacctSource:
    """Calls sacct once for each call of `records`.

    If no users are named, sacct is asked for the jobs of this user; for root or with `all_users`, for all jobs.
    """

    def __init__(self, all_users: bool = False, seconds: float = sacct.SECONDS) -> None:
        self.all_users, self.seconds = all_users, seconds
        self.diagnostics = Diagnostics()

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records while sacct prints them. Raises SlurmError."""
        diagnostics = self.diagnostics = Diagnostics()
        known = sacct.fields()
        names = [name for name in ASKED if name in known]
        lacking = missing(names)
        if lacking:
            raise SlurmError(f"sacct --helpformat does not name {', '.join(lacking)}", "Slurm 17.11 or newer")
        diagnostics.missing_fields = lacked(names)
        diagnostics.unknown_fields = sorted(known - sacct_fields.KNOWN)
        now = present(window)
        # sacct --jobs=42_3 (22.05.8) finds nothing while the task is pending, so sacct is asked for job 42
        ids = list(dict.fromkeys(map(whole_job, jobs)))
        table = sacct.rows(names, *window, users, accounts, ids, self.all_users, self.seconds)
        yield from with_diagnostics(
            selected(Rows(names, diagnostics, now).records(table), window, now, jobs=jobs), diagnostics, window, now
        )


def present(window: Window) -> int:
    """Return the current time, or the end of the window if that is less than _MOMENTS ago: it was made to end now."""
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
    """Yield the records that overlap the window, of these users, accounts and jobs; an empty collection selects all."""
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
    """Yield all records, after adding each to `diagnostics`."""
    for record in records:
        diagnostics.add_record(record, *window, now)
        yield record
