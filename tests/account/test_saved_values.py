"""Values that a saved table may hold: what each means, and what is lost where one cannot be read."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.saved import FileSource
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window

HEADER = (
    "JobID|JobIDRaw|State|Submit|Eligible|Start|End|ElapsedRaw|TimelimitRaw|AllocTRES|NodeList|TotalCPU|MaxRSS|NTasks|"
    "ExitCode|JobName\n"
)
Saved = Callable[..., tuple[dict[str, UsageRecord], Diagnostics]]


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Saved:
    """Save rows, and return what is read of them, by id."""

    def read(*rows: str, zone: str = "UTC") -> tuple[dict[str, UsageRecord], Diagnostics]:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        path = tmp_path / "saved"
        path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
        source = FileSource(str(path))
        return {record.id: record for record in source.records(Window(0, 2**33))}, source.diagnostics

    return read


NAMES = (
    "submit",
    "eligible",
    "start",
    "end",
    "elapsed",
    "limit",
    "tres",
    "nodes",
    "cpu",
    "rss",
    "tasks",
    "code",
    "name",
)


def row(job: str = "12", raw: str = "", state: str = "COMPLETED", **more: str) -> str:
    values = {
        "submit": "1000", "eligible": "1000", "start": "2000", "end": "2600", "elapsed": "600", "limit": "60",
        "tres": "cpu=2,mem=4G,node=1", "nodes": "n1", "cpu": "00:10:00", "code": "0:0", "name": "x", **more,
    }  # fmt: skip
    return "|".join([job, raw or job, state, *(values.get(name, "") for name in NAMES)])


def test_each_value_says_what_it_means(saved: Saved) -> None:
    numbers = ["18446744073709551614", "18446744073709551615", "18446744073709551614K"]
    cut = row("9", state="RUNNING")  # sacct -T gives what runs the end of the window
    tasks = [*(row(f"8_{task}", "8") for task in (1, 2, 3)), row("8_3", "8")]
    first = [row("7.batch", rss="100K", tasks="1"), row("7.0", rss="1M", tasks="3", cpu="00:20:00"), row("7", cpu="")]
    never = row("6", state="CANCELLED by 1000", start="2600", elapsed="0", tres="", nodes="None assigned")
    none = [each for at, number in enumerate(numbers, 20)
            for each in (row(str(at), cpu=""), row(f"{at}.0", rss=number, tasks="1", cpu=""))]  # fmt: skip
    found, diagnostics = saved(cut, *tasks, *first, never, *none)
    assert (found["9"].ended, found["9"].counted_until, found["9"].elapsed(0, 2**32, 9999)) == (None, 2600, 600)
    assert sorted(id_ for id_ in found if id_.startswith("8")) == ["8_1", "8_2", "8_3"]
    assert (found["7"].used_memory, found["7"].used_cpu) == (3 * 2**20, 1800.0)
    assert (found["6"].started, found["6"].ended, found["6"].cpus) == (None, 2600, 0)
    assert {(found[str(at)].used_memory, found[str(at)].used_cpu) for at in (20, 21, 22)} == {(None, None)}
    assert (diagnostics.repeated, diagnostics.orphans.total, diagnostics.unreadable.total) == (1, 0, 0)


# Local times of Berlin, whose clocks went back at 03:00 on 25 October 2026, and for how many seconds a job ran.
CHANGES = (
    ("2026-10-25T01:30:00", "2026-10-25T03:30:00", 3 * 3600),
    ("2026-10-25T02:30:00", "2026-10-25T02:40:00", 600),
    ("2026-10-25T02:30:00", "2026-10-25T02:40:00", 4200),
    ("2026-10-25T02:50:00", "2026-10-25T02:10:00", 1200),
    ("2026-10-25T02:30:00", "2026-10-25T03:30:00", 3600),
    ("2026-10-25T02:30:00", "2026-10-25T03:30:00", 7200),
    ("2026-03-29T01:30:00", "2026-03-29T03:30:00", 3600),
)


def test_the_hour_that_a_change_of_clocks_repeats(saved: Saved) -> None:
    rows = [row(str(at), start=start, end=end, elapsed=str(length)) for at, (start, end, length) in enumerate(CHANGES)]
    found, _ = saved(*rows, zone="Europe/Berlin")
    lengths = [found[str(at)].elapsed(0, 2**33, 0) for at in range(len(CHANGES))]
    assert lengths == [length for _, _, length in CHANGES]


BAD: tuple[dict[str, str], ...] = (
    {"rss": "16?"}, {"cpu": "INVALID"}, {"code": "?"}, {"tres": "cpu=2,mem=16?,node=1"}, {"eligible": "soon"},
    {"submit": "x"}, {"limit": "INVALID"}, {"tasks": "?"},
)  # fmt: skip


def test_what_cannot_be_read_loses_itself_alone(saved: Saved) -> None:
    names = ("x", "a|b")
    cases = [(field, name) for field in BAD for name in names]
    found, diagnostics = saved(*(row(str(at), **field, name=name) for at, (field, name) in enumerate(cases)))
    assert {record.name for record in found.values()} == set(names)
    kept = [(found[str(at)].cpus, found[str(at)].elapsed(0, 2**32, 0)) for at in range(len(cases))]
    assert set(kept) == {(2, 600)}
    assert diagnostics.unreadable.total == 0


def test_a_value_of_a_step_that_cannot_be_read_is_named(saved: Saved) -> None:
    rows = [row("7", cpu=""), row("7.0", rss="16?", tasks="1"), row("7.1", rss="1M", tasks="1"), row("8", rss="16?")]
    _, diagnostics = saved(*rows)
    assert (diagnostics.values_of_steps.total, diagnostics.values_of_steps.first) == (1, ["step 7.0: MaxRSS '16?'"])
    assert diagnostics.values.first == ["job 8: MaxRSS '16?'"]


def test_one_task_does_not_stand_for_all(saved: Saved) -> None:
    def job(number: str, *steps: str) -> list[str]:
        return [row(number, cpu=""), *steps]

    known = job("1", row("1.batch", rss="1M"), row("1.0", rss="2M", tasks="3"))
    unknown = job("2", row("2.batch", rss="1M", tasks="1"), row("2.0", rss="2M"))
    own = [row("3", rss="5M")]
    found, diagnostics = saved(*known, *unknown, *own)
    assert [found[number].used_memory for number in "123"] == [6 << 20, None, None]
    assert (diagnostics.lack_tasks.total, diagnostics.lack_tasks.first) == (1, ["2"])
