"""The ledger: the same records with and without it, days that close when they may, and what can happen to its file."""

import json
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from slurm_tf.account import ledger, store
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.ledger import DAY, LedgerSource
from slurm_tf.account.source import selected
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.errors import LedgerError, RunError, SlurmError
from tests.conftest import ROOT

TODAY = int(time.time()) // DAY
NOW = int(time.time())


class Listed:
    """A source that has these records, and remembers for what it was asked; it fails after `fails_after` of them."""

    def __init__(self, records: Sequence[UsageRecord], fails_after: int | None = None) -> None:
        self.all, self.asked, self.diagnostics, self.fails_after = (
            list(records),
            list[Window](),
            Diagnostics(),
            fails_after,
        )

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        self.asked.append(window)
        self.diagnostics = Diagnostics()
        for count, record in enumerate(selected(self.all, window, NOW, users, accounts, jobs)):
            if count == self.fails_after:
                raise SlurmError("sacct was killed")
            yield record


def record(number: int, start: float | None, end: float | None, user: str = "alice") -> UsageRecord:
    """Return a job that ran between two times, in days from today's first second."""
    started, ended = (None if when is None else int((TODAY + when) * DAY) for when in (start, end))
    return UsageRecord(
        id=str(number), raw_id=str(number), state_text="COMPLETED", submitted=1, started=started, ended=ended,
        user=user, account="vision", gpus=2,
    )  # fmt: skip


def days(start: float, end: float) -> Window:
    return Window(int((TODAY + start) * DAY), int((TODAY + end) * DAY))


def ids(records: Iterator[UsageRecord]) -> list[str]:
    return sorted(each.id for each in records)


JOBS = [record(1, -9.5, -9.2), record(2, -8.5, -6.5), record(3, -6.2, -6.1, "bob"), record(4, -0.5, -0.4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "usage-c.sqlite"


@pytest.fixture
def source(path: Path) -> Callable[..., tuple[LedgerSource, Listed]]:
    """Return a source with the ledger at `path`, and the one inside."""

    def make(records: Sequence[UsageRecord] = JOBS, **more: int) -> tuple[LedgerSource, Listed]:
        inner = Listed(records, **more)
        return LedgerSource(path, inner, all_users=True), inner

    return make


def test_only_open_days_are_asked_for_again(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    for _ in range(3):
        made, inner = source()
        assert ids(made.records(days(-9.9, 0))) == ["1", "2", "3", "4"]
        assert made.diagnostics.records == 4
        assert made.diagnostics.users == {"alice", "bob"}
    assert len(inner.asked) == 1
    assert inner.asked[0].start >= days(-2, 0).start - DAY
    assert ids(made.records(days(-8, -7.5))) == ["2"]
    assert len(inner.asked) == 1


def test_what_runs_keeps_its_days_open(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    made, _ = source([*JOBS, record(5, -7.5, None)])
    assert ids(made.records(days(-10, 0))) == ["1", "2", "3", "4", "5"]
    made, inner = source([*JOBS, record(5, -7.5, -3.5)])
    found = {each.id: each for each in made.records(days(-10, 0))}
    assert found["5"].ended == days(0, -3.5).end
    assert [window.start for window in inner.asked] == [days(-8, 0).start]


def test_what_waits_closes_no_day_and_is_in_none(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    made, _ = source([*JOBS, record(5, None, None)])
    assert ids(made.records(days(-10, 0))) == ["1", "2", "3", "4"]
    made, inner = source()
    assert ids(made.records(days(-9, -4))) == ["2", "3"]
    assert inner.asked == []


def test_a_day_is_closed_for_those_who_were_asked_for(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    made, inner = source()
    assert ids(made.records(days(-10, -4), users=["bob"])) == ["3"]
    assert ids(made.records(days(-10, -4), users=["bob"])) == ["3"]
    assert len(inner.asked) == 1
    assert ids(made.records(days(-10, -4))) == ["1", "2", "3"]
    assert len(inner.asked) == 2
    assert ids(made.records(days(-10, -4), users=["alice"])) == ["1", "2"]
    assert ids(made.records(days(-10, -4), accounts=["nlp"])) == []
    assert len(inner.asked) == 2
    assert ids(made.records(days(-10, -4), jobs=["2"])) == ["2"]
    assert len(inner.asked) == 3


@pytest.mark.slow
@settings(max_examples=60)
@given(
    some.lists(some.tuples(some.floats(-9, -1), some.floats(0, 5), some.booleans()), max_size=8),
    some.lists(some.tuples(some.floats(-12, 0), some.floats(-12, 0)), min_size=1, max_size=4),
)
def test_with_a_ledger_and_without_it_is_the_same(
    jobs: list[tuple[float, float, bool]], windows: list[tuple[float, float]]
) -> None:
    records = [
        record(number, start, None if runs else min(start + length, -0.01))
        for number, (start, length, runs) in enumerate(jobs)
    ]
    with TemporaryDirectory() as folder:
        for first, second in windows:
            window = days(*sorted((first, second + 0.1)))
            made = LedgerSource(Path(folder) / "own" / "ledger", Listed(records), all_users=True)
            assert sorted(made.records(window), key=repr) == sorted(selected(records, window, NOW), key=repr)


def test_a_source_that_fails_half_way_closes_nothing(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    made, _ = source(fails_after=2)
    with pytest.raises(SlurmError, match="killed"):
        list(made.records(days(-10, 0)))
    made, inner = source()
    assert ids(made.records(days(-10, 0))) == ["1", "2", "3", "4"]
    assert inner.asked == [days(-10, 0)]


def test_a_report_that_nobody_reads_to_the_end_closes_nothing(
    source: Callable[..., tuple[LedgerSource, Listed]],
) -> None:
    made, _ = source()
    next(made.records(days(-10, 0)))
    made, inner = source()
    assert len(ids(made.records(days(-10, 0)))) == 4
    assert inner.asked == [days(-10, 0)]


def test_the_ledger_is_its_owners_alone(source: Callable[..., tuple[LedgerSource, Listed]], path: Path) -> None:
    made, _ = source()
    list(made.records(days(-10, 0)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o666)
    with pytest.raises(RunError, match="others can change it"):
        list(made.records(days(-10, 0)))


def test_a_ledger_that_another_process_holds(
    source: Callable[..., tuple[LedgerSource, Listed]], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = source()
    list(made.records(days(-10, -4)))
    before = path.read_bytes()
    monkeypatch.setattr(store, "_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(LedgerError, match="another process holds it"):
            list(made.records(days(-10, 0)))
    assert path.read_bytes() == before
    assert len(ids(made.records(days(-10, 0)))) == 4


@pytest.mark.parametrize("how", ["cut", "overwritten", "no database", "a record"])
def test_a_corrupt_ledger_is_said_and_made_again(
    source: Callable[..., tuple[LedgerSource, Listed]], path: Path, how: str
) -> None:
    many = [record(number, -9 + number / 1000, -8) for number in range(1000)]
    made, _ = source(many)
    list(made.records(days(-10, 0)))
    data = path.read_bytes()
    if how == "a record":
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("update spans set record = x'ff' where raw_id = '7'")
    else:
        half = len(data) // 2
        torn = {"cut": data[:half], "overwritten": data[:half] + b"x" * 40_000, "no database": b"x" * len(data)}
        path.write_bytes(torn[how])
    broken = path.read_bytes()
    made, _ = source(many)
    with pytest.raises(LedgerError, match=r"it is corrupt\nHINT: --rebuild"):
        list(made.records(days(-10, 0)))
    assert path.read_bytes() == broken
    made = LedgerSource(path, Listed(many), all_users=True, rebuild=True)
    assert len(ids(made.records(days(-10, 0)))) == 1000
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_ledger_is_left_alone(source: Callable[..., tuple[LedgerSource, Listed]], path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table recipes (name text)")
    path.chmod(0o600)
    made, _ = source()
    for rebuild in (False, True):
        made.rebuild = rebuild
        with pytest.raises(LedgerError, match="no ledger of slurm-tf's"):
            list(made.records(days(-10, 0)))


@pytest.mark.parametrize(("version", "is_error"), [(store.SCHEMA - 1, False), (store.SCHEMA + 1, True)])
def test_a_ledger_of_another_schema(
    source: Callable[..., tuple[LedgerSource, Listed]], path: Path, version: int, is_error: bool
) -> None:
    made, inner = source()
    list(made.records(days(-10, 0)))
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"pragma user_version = {version}")
    if is_error:
        with pytest.raises(LedgerError, match="a newer slurm-tf wrote it"):
            list(made.records(days(-10, 0)))
    else:
        assert len(ids(made.records(days(-10, 0)))) == 4
        assert inner.asked[-1] == days(-10, 0)


def test_the_schema_changes_with_the_records() -> None:
    """Field by field: whoever changes them raises store.SCHEMA, and then this."""
    assert (store.SCHEMA, hash_of(UsageRecord.__struct_fields__)) == (1, 557768459)


def hash_of(names: Sequence[str]) -> int:
    return zlib.crc32(" ".join(names).encode())


WRITER = """
import sys
from pathlib import Path
from slurm_tf.account.ledger import LedgerSource
from tests.account.test_ledger import Listed, days, record
records = [record(number, -9 + number / 5000, -8 + number / 5000) for number in range(5000)]
for _ in range(3):
    found = LedgerSource(Path(sys.argv[1]), Listed(records), all_users=True).records(days(-10, 0))
    print(len({each.id for each in found}))
"""


@pytest.mark.slow
def test_two_writers_at_once(path: Path) -> None:
    argv = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen(argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert out.split() == [b"5000"] * 3, err.decode()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("select count(*) from spans").fetchone() == (5000,)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert ledger.path("one") == Path("/somewhere/slurm-tf/usage-one.sqlite")
    assert ledger.path("../x y").name == "usage-.._x_y.sqlite"
    assert json.loads(ledger._scope(["b", "a"], [])) == [["a", "b"], []]
