"""The ledger: a file of the user with the rows of past days, so that slurmdbd is asked for each day only once.

A day (UTC) is closed once two days have passed since and no row that overlaps it is unfinished: slurmctld queues rows
while slurmdbd is down. Each row is stored once, even if it overlaps several days. A report takes the rows of closed
days from the ledger, and asks slurmdbd once for all other days.
"""

import json
import os
import pwd
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from slurm_tf import files, search_path
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.source import Source, present, selected, with_diagnostics
from slurm_tf.account.store import Span, Store
from slurm_tf.account.usage_record import UsageRecord, Window

DAY = 86400
SETTLED = 2 * DAY


def path(cluster: str) -> Path:
    """Return the path of a cluster's ledger."""
    return search_path.user_state() / f"usage-{re.sub(r'[^A-Za-z0-9._-]', '_', cluster)}.sqlite"


class LedgerSource:
    """Reads closed days from the ledger at `path`, and other days from `inner`, whose rows it adds to the ledger.

    `all_users`: whether `inner` yields the rows of all users if none is named; otherwise those of this user, for root
    those of all users. `rebuild`: empty the ledger first.
    """

    def __init__(self, path: Path, inner: Source, all_users: bool = False, rebuild: bool = False) -> None:
        self.path, self.inner, self.all_users, self.rebuild = path, inner, all_users, rebuild
        self.diagnostics = Diagnostics()

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records. Raises LedgerError, and what `inner` raises.

        If `jobs` are given, only `inner` is asked. After an error the ledger is unchanged, or has more rows of days
        that are not closed.
        """
        now = present(window)
        diagnostics = self.diagnostics = Diagnostics()
        if jobs:
            found = self.inner.records(window, users, accounts, jobs)
        else:
            found = self._records(window, users, accounts, now)
        yield from with_diagnostics(selected(found, window, now, users, accounts, jobs), diagnostics, window, now)
        if jobs:
            diagnostics.add_reading(self.inner.diagnostics)

    def _records(
        self, window: Window, users: Sequence[str], accounts: Sequence[str], now: int
    ) -> Iterator[UsageRecord]:
        if not users and not self.all_users and os.getuid():
            users = (pwd.getpwuid(os.getuid()).pw_name,)
        scope = _scope(users, accounts)
        files.own_folder(str(self.path.parent))
        with Store.open(self.path, self.rebuild) as store:
            self.rebuild = False
            open_days = store.open_days(range(window.start // DAY, -(-window.end // DAY)), (scope, _scope((), ())))
            if not open_days:
                yield from store.records(window, None, users)
                return
            asked = _asked(open_days, window, now)
            yield from store.records(window, asked, users)
            yield from self._fresh(store, asked, scope, users, accounts, now)

    def _fresh(
        self, store: Store, asked: Window, scope: str, users: Sequence[str], accounts: Sequence[str], now: int
    ) -> Iterator[UsageRecord]:
        """Yield the records of `inner` and store them; then close the days whose rows are now complete."""
        settled = now - SETTLED
        unfinished = settled
        rows: list[Span] = []
        for record in self.inner.records(asked, users, accounts):
            yield record
            begin = record.ended if record.started is None else record.started
            if begin is None:
                continue  # a pending job, which overlaps no past day
            if record.ended is None:
                unfinished = min(unfinished, begin)
            elif begin < settled:
                rows.append(Span(record.ended, begin, record))
            if len(rows) >= store.PORTION:
                store.add(rows)
                rows = []
        store.add(rows)
        diagnostics = self.inner.diagnostics
        self.diagnostics.add_reading(diagnostics)
        if not diagnostics.unreadable.total and not diagnostics.orphans.total:
            last = min(unfinished, asked.end) // DAY
            store.close(scope, range(-(-asked.start // DAY), last))


def _scope(users: Sequence[str], accounts: Sequence[str]) -> str:
    """Return the users and accounts that a day is closed for, as text; no names: all users and accounts."""
    return json.dumps([sorted(users), sorted(accounts)])


def _asked(open_days: Sequence[int], window: Window, now: int) -> Window:
    """Return one window that contains all open days: whole days, so that they can be closed, but not the future."""
    end = (open_days[-1] + 1) * DAY
    return Window(open_days[0] * DAY, end if end <= now - SETTLED else min(end, max(window.end, window.start + 1)))
