"""The ledger: the same records with and without it, days that close when they may, and what can happen to its file."""

import contextlib
import random
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from slurm_tf.account import day_files, ledger
from slurm_tf.account.columns import JOBS as JOB_COLUMNS
from slurm_tf.account.columns import STEPS
from slurm_tf.account.database import Tables
from slurm_tf.account.day_files import DAY
from slurm_tf.account.ledger import LedgerSource
from slurm_tf.account.source import Source
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.errors import RunError, SlurmError
from tests.account import printed
from tests.conftest import ROOT

TODAY = int(time.time()) // DAY
NOW = int(time.time())


class Listed(Source):
    """A source that has these records, and remembers for what it was asked; it fails after `fails_after` of them."""

    def __init__(self, records: Sequence[UsageRecord], fails_after: int | None = None) -> None:
        super().__init__()
        self.damaged = ""
        self.all, self.asked, self.fails_after = list(records), list[Window](), fails_after
        self.jobs = list[list[str]]()

    def fill(
        self,
        found: Tables,
        window: Window,
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> None:
        self.asked.append(window)
        self.jobs.append([*jobs])
        chosen = [
            record
            for record in self.all
            if record.overlaps(*window, NOW)
            and (not users or record.user in users)
            and (not accounts or record.account in accounts)
            and (not jobs or record.id in jobs)
        ]
        rows = [row for record in chosen[: self.fails_after] for row in printed.rows(record)]
        found.now = NOW
        for row in rows:
            row["Start"] = "x" if row["JobID"] == self.damaged else row["Start"]
        found.read_rows([[row[name] for name in printed.COLUMNS] for row in rows], printed.COLUMNS)
        if self.fails_after is not None:
            raise SlurmError("sacct was killed")


def record(number: int, start: float | None, end: float | None, user: str = "alice") -> UsageRecord:
    """Return a job that ran between two times, in days from today's first second."""
    started, ended = (None if when is None else int((TODAY + when) * DAY) for when in (start, end))
    return UsageRecord(
        id=str(number), raw_id=str(number), state_text="COMPLETED", submitted=1, started=started, ended=ended,
        user=user, account="vision", gpus=2, nodes="n1", counted_until=NOW if started and not ended else None,
    )  # fmt: skip


def days(start: float, end: float) -> Window:
    return Window(int((TODAY + start) * DAY), int((TODAY + end) * DAY))


def ids(records: Iterator[UsageRecord]) -> list[str]:
    return sorted(each.id for each in records)


JOBS = [record(1, -9.5, -9.2), record(2, -8.5, -6.5), record(3, -6.2, -6.1, "bob"), record(4, -0.5, -0.4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "usage-c"


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


def test_what_runs_is_asked_for_alone(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    made, _ = source([*JOBS, record(5, -7.5, None)])
    assert ids(made.records(days(-10, 0))) == ["1", "2", "3", "4", "5"]
    made, inner = source([*JOBS, record(5, -7.5, -3.5)])
    found = {each.id: each for each in made.records(days(-10, -4))}
    assert sorted(found) == ["1", "2", "3", "5"]
    assert found["5"].ended == days(0, -3.5).end
    assert inner.jobs == [["5"]]
    made, inner = source([*JOBS, record(5, -7.5, None)])
    assert ids(made.records(days(-10, 0))) == ["1", "2", "3", "4", "5"]
    # it is among those of the days that are open
    assert inner.jobs == [[]]


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
@settings(max_examples=3)
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
            assert sorted(made.records(window), key=repr) == sorted(
                (each for each in records if each.overlaps(*window, NOW)), key=repr
            )


def test_a_source_that_fails_half_way_closes_nothing(source: Callable[..., tuple[LedgerSource, Listed]]) -> None:
    made, _ = source(fails_after=2)
    with pytest.raises(SlurmError, match="killed"):
        list(made.records(days(-10, 0)))
    made, inner = source()
    assert ids(made.records(days(-10, 0))) == ["1", "2", "3", "4"]
    assert inner.asked == [days(-10, 0)]


def test_the_ledger_is_its_owners_alone(source: Callable[..., tuple[LedgerSource, Listed]], path: Path) -> None:
    made, _ = source()
    list(made.records(days(-10, 0)))
    assert {each.stat().st_mode & 0o777 for each in (path, path / "2" / "all")} == {0o700}
    path.chmod(0o777)
    with pytest.raises(RunError, match="others can change it"):
        list(made.records(days(-10, 0)))


@pytest.mark.parametrize("how", ["cut", "overwritten", "empty"])
def test_a_damaged_file_is_named_and_its_day_is_asked_for_again(
    source: Callable[..., tuple[LedgerSource, Listed]], path: Path, how: str
) -> None:
    made, _ = source()
    list(made.records(days(-10, 0)))
    (file,) = (path / "2" / "all").glob(f"{day_files.text(TODAY - 7)}.jobs.*")
    data = file.read_bytes()
    half = len(data) // 2
    damaged = {"cut": data[:half], "overwritten": data[:half] + b"x" * (len(data) - half), "empty": b""}
    file.write_bytes(damaged[how])
    made, inner = source()
    assert ids(made.records(days(-10, -3))) == ["1", "2", "3"]
    assert made.diagnostics.ledger == [f"{file}: it is damaged; its day is asked for again"]
    assert inner.asked == [days(-7, -6)]
    made, inner = source()
    assert ids(made.records(days(-10, -3))) == ["1", "2", "3"]
    assert (made.diagnostics.ledger, inner.asked) == ([], [])


def test_a_ledger_is_made_again(source: Callable[..., tuple[LedgerSource, Listed]], path: Path) -> None:
    made, _ = source()
    list(made.records(days(-10, -4)))
    inner = Listed(JOBS[1:])
    assert ids(LedgerSource(path, inner, all_users=True).records(days(-10, -4))) == ["1", "2", "3"]
    assert ids(LedgerSource(path, inner, all_users=True, rebuild=True).records(days(-10, -4))) == ["2", "3"]
    assert ids(LedgerSource(path, inner, all_users=True).records(days(-10, -4))) == ["2", "3"]


def test_a_row_that_cannot_be_read_closes_its_days_and_is_asked_for_alone(
    source: Callable[..., tuple[LedgerSource, Listed]],
) -> None:
    made, _ = source([*JOBS, record(9, -7.5, -7.4)])
    for _ in range(2):
        made, inner = source([*JOBS, record(9, -7.5, -7.4)])
        inner.damaged = "9"
        assert ids(made.records(days(-10, -4))) == ["1", "2", "3"]
        assert made.diagnostics.unreadable.first == ["job 9: Start 'x'"]
    assert inner.jobs == [["9"]]


def test_the_schema_changes_with_the_columns() -> None:
    """Column by column: whoever changes them raises ledger.SCHEMA, and then this."""
    stored = [(column.name, column.type) for column in (*JOB_COLUMNS, *STEPS)]
    assert (ledger.SCHEMA, zlib.crc32(repr(stored).encode())) == (2, 3811809383)


WRITER = """
import sys
from pathlib import Path
from slurm_tf.account.ledger import LedgerSource
from tests.account.test_ledger import Listed, days, record
records = [record(number, -9 + number / 500, -8 + number / 500) for number in range(500)]
inner = Listed(records)
found = LedgerSource(Path(sys.argv[1]), inner, all_users=True).records(days(-10, 0))
print(len(list(found)), flush=True)
"""


def run_writers(path: Path, rounds: int, seed: int) -> None:
    """Let two processes write at once, one of which is killed at a random moment; both are right afterwards."""
    rng, slowest = random.Random(seed), 5.0
    argv = [sys.executable, "-c", WRITER, str(path)]
    for _ in range(rounds):
        shutil.rmtree(path, ignore_errors=True)
        start = time.monotonic()
        writers = [
            subprocess.Popen(
                argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(2)
        ]
        with contextlib.suppress(subprocess.TimeoutExpired):
            writers[0].wait(timeout=rng.uniform(0, slowest))
        writers[0].kill()
        killed, other = (writer.communicate(timeout=120) for writer in writers)
        slowest = time.monotonic() - start
        assert other[0] == b"500\n", other[1].decode()
        assert killed[0] in (b"", b"500\n"), killed[1].decode()
        for _ in range(2):
            done = subprocess.run(
                argv, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120, check=True
            )
            assert done.stdout == b"500\n", done.stderr.decode()


@pytest.mark.slow
def test_two_writers_one_of_which_is_killed(path: Path) -> None:
    run_writers(path, 2, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_writers_fifty_times(path: Path) -> None:
    run_writers(path, 50, seed=2)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert ledger.path("one") == Path("/somewhere/slurm-tf/usage-one")
    assert ledger.path("../x y").name == "usage-.._x_y"
    assert (ledger._view([], []), ledger._view(["ann"], [])) == ("all", "user-ann")
