"""The ledger: rows of past days in a file of the user, so that slurmdbd is asked for each of them only once.

A day (UTC) is closed once no row that overlaps it is unfinished, and two days have passed: slurmctld may hold back
what slurmdbd did not take. Rows are stored once, whatever days they overlap; a report takes those of closed days from
here and asks for all other days at once.
"""

import json
import os
import pwd
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from slurm_tf import files
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.source import Source, present, selected, with_diagnostics
from slurm_tf.account.store import Span, Store
from slurm_tf.account.usage_record import UsageRecord, Window

DAY = 86400
SETTLED = 2 * DAY


def path(cluster: str) -> Path:
    """Return where the ledger of a cluster is."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "slurm-tf" / f"usage-{re.sub(r'[^A-Za-z0-9._-]', '_', cluster)}.sqlite"


class LedgerSource:
    """Closed days from the ledger at `path`, all else from `inner`, whose answers go into the ledger.

    `all_users`: whether `inner` tells of all users where none are named; else of oneself, and root of all.
    `rebuild`: forget what the ledger has.
    """

    def __init__(self, path: Path, inner: Source, all_users: bool = False, rebuild: bool = False) -> None:
        self.path, self.inner, self.all_users, self.rebuild = path, inner, all_users, rebuild
        self.diagnostics = Diagnostics()

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records; single jobs are always asked for. Raises LedgerError, and what `inner` raises.

        After any error the ledger is as it was, or has some more rows of days that are not closed.
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
        """Yield what `inner` says, store it, and close the days that this was all of."""
        settled = now - SETTLED
        unfinished = settled
        rows: list[Span] = []
        for record in self.inner.records(asked, users, accounts):
            yield record
            begin = record.ended if record.started is None else record.started
            if begin is None:
                continue  # it waits, and overlaps no day that is over
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
    """Return one time that has all open days: whole days, so that they can be closed, but not what is to come."""
    end = (open_days[-1] + 1) * DAY
    return Window(open_days[0] * DAY, end if end <= now - SETTLED else min(end, max(window.end, window.start + 1)))
