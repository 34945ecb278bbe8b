"""Sources of accounting: what they share, and the source that calls sacct. Others are in saved.py and ledger.py."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from slurm_tf.account import database, sacct_stream
from slurm_tf.account.database import Tables
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.fields import ASKED, lacked, missing
from slurm_tf.account.literals import one_of
from slurm_tf.account.window import Window
from slurm_tf.errors import SlurmError
from slurm_tf.slurm import sacct, sacct_fields
from slurm_tf.slurm.records import whole_job

if TYPE_CHECKING:
    from slurm_tf.account.usage_record import UsageRecord

_MOMENTS = 300


class Source(ABC):
    """A source of accounting, which fills the tables of a report."""

    def __init__(self) -> None:
        self.diagnostics = Diagnostics()

    @abstractmethod
    def fill(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        """Read the rows of these users, accounts and jobs that overlap the window, and perhaps others; an empty
        sequence selects all. Raises SlurmError and the errors in the source's docstring.
        """

    def read(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        """Fill the tables with each incarnation of these users, accounts and jobs that overlaps the window. Raises what
        `fill` raises.
        """
        self.fill(found, window, users, accounts, jobs)
        found.complete()
        found.select(window, chosen(users, accounts, jobs))

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> "Iterator[UsageRecord]":
        """Yield the same incarnations as records; `diagnostics` are those of the tables. Raises what `read` raises."""
        with database.opened() as found:
            self.read(found, window, users, accounts, jobs)
            self.diagnostics = found.noticed().result()
            yield from found.records()


class SacctSource(Source):
    """Calls sacct once for each call of `read`.

    If no users are named, sacct is asked for the jobs of this user; for root or with `all_users`, for all jobs. If no
    clusters are named, it is asked for those of the one that it runs on.
    """

    def __init__(
        self,
        all_users: bool = False,
        seconds: float = sacct.SECONDS,
        clusters: Sequence[str] = (),
        known: Callable[[], frozenset[str]] | None = None,
    ) -> None:
        """`known`: what returns the fields that sacct has; None: it is asked for them."""
        super().__init__()
        self.all_users, self.seconds, self.clusters, self._known = all_users, seconds, clusters, known or sacct.fields

    def fill(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        """Read what sacct prints. Raises SlurmError."""
        found.now = present(window)
        known = self._known()
        names = [name for name in ASKED if name in known]
        lacking = missing(names)
        if lacking:
            raise SlurmError(f"sacct --helpformat does not name {', '.join(lacking)}", "Slurm 17.11 or newer")
        found.diagnostics.missing_fields = lacked(names)
        found.diagnostics.unknown_fields = sorted(known - sacct_fields.KNOWN)
        # sacct --jobs=42_3 (22.05.8) finds nothing while the task is pending, so sacct is asked for job 42
        ids = list(dict.fromkeys(map(whole_job, jobs)))
        printed = sacct.printed(names, *window, users, accounts, ids, self.all_users, self.seconds, self.clusters)
        sacct_stream.read(found, printed, names)

    def read(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        """Fill the tables; sacct selects users and accounts, which may be numbers. Raises SlurmError."""
        self.fill(found, window, users, accounts, jobs)
        found.complete()
        found.select(window, chosen(jobs=jobs))


def present(window: Window) -> int:
    """Return the current time, or the end of the window if that is less than _MOMENTS ago: it was made to end now."""
    now = int(time.time())
    return window.end if 0 <= now - window.end <= _MOMENTS else now


def chosen(users: Collection[str] = (), accounts: Collection[str] = (), jobs: Collection[str] = ()) -> list[str]:
    """Return the conditions for rows of these users, accounts and jobs; an empty collection selects all."""
    return [
        *one_of(["user"], users),
        *one_of(["account"], accounts),
        *one_of(["id", "raw_id", "split_part(split_part(id, '_', 1), '+', 1)"], jobs),
    ]
