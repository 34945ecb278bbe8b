"""The ledger: a folder of the user with the rows of past days, so that slurmdbd is asked for each day only once.

A day (UTC) is closed once two days have passed since: slurmctld queues rows while slurmdbd is down. A row stands in the
file of the day on which it ended, and is found from every day on which it ran. A row that had not ended, or could not
be read, when its days were closed stands in a file of the last of them: Slurm is asked for it alone until it is over.
"""

import json
import os
import pwd
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from slurm_tf import files, search_path
from slurm_tf.account import day_files, ledger_closing
from slurm_tf.account.database import Tables
from slurm_tf.account.day_files import DAY, DayFile
from slurm_tf.account.literals import literal
from slurm_tf.account.source import Source, chosen, present
from slurm_tf.account.window import Window

SETTLED = 2 * DAY
# Increase it with every change of the columns: files of another schema are not read.
SCHEMA = 2
# sacct's command line has no place for more.
_IDS = 5000
# Files of so many bytes have some ten thousand rows, for which memory has room.
_FEW_BYTES = 1 << 20
# A row has so many bytes of a file, or more of a small one.
_BYTES_OF_ROW = 32
_ALL = "all"


def path(cluster: str) -> Path:
    """Return the path of a cluster's ledger."""
    return search_path.user_state() / f"usage-{re.sub(r'[^A-Za-z0-9._-]', '_', cluster)}"


class LedgerSource(Source):
    """Reads closed days from the ledger at `path`, and other days from `inner`, whose rows it adds to the ledger.

    `all_users`: whether `inner` has the rows of all users if none is named; otherwise those of this user, for root
    those of all users. `rebuild`: empty the ledger first.
    """

    def __init__(self, path: Path, inner: Source, all_users: bool = False, rebuild: bool = False) -> None:
        super().__init__()
        self.path, self.inner, self.all_users, self.rebuild = path, inner, all_users, rebuild

    def fill(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        """Ask `inner` alone."""
        self.inner.fill(found, window, users, accounts, jobs)

    def read(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        """Fill the tables. Raises LedgerError, and what `inner` raises; the ledger is then as it was before.

        If `jobs` are given, only `inner` is asked.
        """
        if jobs:
            self.inner.read(found, window, users, accounts, jobs)
            return
        if not users and not self.all_users and os.getuid():
            users = (pwd.getpwuid(os.getuid()).pw_name,)
        ledger = _Ledger(self._opened(), _view(users, accounts), window, found)
        found.connection.optimize_for(ledger.size // _BYTES_OF_ROW)
        now = present(window)
        asked = ledger.asked(now)
        if asked:
            self.inner.fill(found, asked, users, accounts)
            found.complete()
        alone = ledger.open_ids(bool(asked))
        for at in range(0, len(alone), _IDS):
            found.origin = 1
            self.inner.fill(found, window, users, accounts, alone[at : at + _IDS])
        if alone:
            found.complete()
        if asked:
            ledger.close(asked, now)
        found.now = now
        rows = ledger.rows(asked, bool(alone))
        found.select(window, chosen(users, accounts), *rows, are_few=ledger.size <= _FEW_BYTES)

    def _opened(self) -> Path:
        """Return the folder of this schema's files."""
        if self.rebuild:
            shutil.rmtree(self.path, ignore_errors=True)
            self.rebuild = False
        files.own_folder(str(self.path.parent))
        files.own_folder(str(self.path))
        return self.path / str(SCHEMA)


class _Ledger:
    """What the ledger has for one report: the best file of each day, of the view of all users or of this one."""

    def __init__(self, folder: Path, view: str, window: Window, found: Tables) -> None:
        self._folder, self._window, self._found = folder / view, window, found
        self._closed: dict[int, DayFile] = {}
        self._steps: dict[tuple[Path, int], DayFile] = {}
        self._open: dict[int, DayFile] = {}
        self._some: list[DayFile] = []
        for each in dict.fromkeys((folder / _ALL, folder / view)):
            self._read(each)

    def _read(self, folder: Path) -> None:
        files = [file for file in day_files.listed(folder) if self._is_needed(file)]
        damaged = [file for file in files if not file.is_sound]
        for file in damaged:
            self._found.diagnostics.ledger.append(f"{file.path}: it is damaged; its day is asked for again")
        bad_days = {file.day for file in damaged}
        day_files.remove(folder, [file for file in files if file.day in bad_days], time.time())
        for file in files:
            if file.day not in bad_days:
                self._add(file)

    def _add(self, file: DayFile) -> None:
        if not file.is_closed:
            self._some += [file] if file.table == "jobs" else []
        elif file.table == "steps":
            self._steps.setdefault((file.path.parent, file.day), file)
        else:
            (self._open if file.table == "open" else self._closed).setdefault(file.day, file)

    def _is_needed(self, file: DayFile) -> bool:
        return file.day >= self._window.start // DAY and file.first * DAY < self._window.end

    def asked(self, now: int) -> Window | None:
        """Return one window with all days that are not closed: whole days, so that they can be; None for none."""
        start, end = self._window
        days = [day for day in range(start // DAY, -(-end // DAY)) if day not in self._closed]
        if not days:
            return None
        last = (days[-1] + 1) * DAY
        return Window(days[0] * DAY, last if last <= now - SETTLED else min(last, max(end, start + 1)))

    def open_ids(self, has_fresh: bool) -> list[str]:
        """Return the ids of rows that were open when their days were closed, and are over in no file.

        `has_fresh`: whether other rows were read, in which they may be over.
        """
        if not self._open:
            return []
        run, end = self._found.database.execute, self._window.end
        run(f"""create or replace table open_rows as
            select incarnation(cluster, sluid, id, started, submitted) as incarnation, id
            from ({_query(self._open.values())}) where started is null or started < {end}""")
        closed = self._with_rows()
        for known in ([f"({_query(closed)})"] if closed else []) + ["completed_rows"] * has_fresh:
            run(f"""delete from open_rows where incarnation in (
                select incarnation(cluster, sluid, id, started, submitted) from {known}
                where id in (select id from open_rows))""")
        return [str(job) for (job,) in run("select distinct id from open_rows order by 1").fetchall()]

    @property
    def size(self) -> int:
        """How many bytes the files of jobs have."""
        return sum(file.path.stat().st_size for file in (*self._with_rows(), *self._some))

    def _with_rows(self) -> list[DayFile]:
        return [file for file in self._closed.values() if file.table != day_files.NONE]

    def rows(self, asked: Window | None, has_open: bool) -> tuple[str, list[str], list[str]]:
        """Return the condition for rows that were asked for, "" for none, and the queries of the ledger's rows and
        steps. `has_open`: whether open rows were asked for.
        """
        closed = ", ".join(map(str, self._closed)) or "-1"
        parts = [f"origin = 0 and (ended is null or ended // {DAY} not in ({closed}))"] if asked else []
        if has_open:
            key = "incarnation(cluster, sluid, id, started, submitted)"
            parts.append(f"origin = 1 and {key} in (select incarnation from open_rows)")
        fresh = f"({' or '.join(parts)})" if parts else ""
        queries, steps = [], []
        if with_rows := self._with_rows():
            queries.append(_query(with_rows))
        some = [file for file in self._some if file.day not in self._closed]
        if some:
            without = f"not (coalesce(started, ended) < {asked.end} and ended > {asked.start})" if asked else "true"
            queries.append(f"""select * from ({_query(some)}) where {without} qualify row_number() over (
                partition by incarnation(cluster, sluid, id, started, submitted)) = 1""")
        folders = {(file.path.parent, day) for day, file in self._closed.items()}
        of_steps = [file for at, file in self._steps.items() if at in folders]
        if of_steps:
            steps.append(_query(of_steps))
        return fresh, queries, steps

    def close(self, asked: Window, now: int) -> None:
        """Close the days that were asked for and are over; the report then reads their files."""
        settled = (now - SETTLED) // DAY
        days = [day for day in range(-(-asked.start // DAY), min(asked.end // DAY, settled)) if day not in self._closed]
        if not days:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in ledger_closing.close(self._found, self._folder, days, settled, self._closed):
            if file.is_closed:
                self._add(file)


def _query(files: Iterable[DayFile]) -> str:
    return f"select * from read_parquet([{', '.join(literal(str(file.path)) for file in files)}])"


def _view(users: Sequence[str], accounts: Sequence[str]) -> str:
    """Return the name of the folder of what is asked for: the rows of these users and accounts; none: of all."""
    if not users and not accounts:
        return _ALL
    if len(users) == 1 and not accounts and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", users[0], re.ASCII):
        return f"user-{users[0]}"
    import hashlib  # OpenSSL takes milliseconds

    words = json.dumps([sorted(users), sorted(accounts)])
    return f"view-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
