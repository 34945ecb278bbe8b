"""The page: one file, nothing from outside, hostile names as text, shapes where they belong."""

import html.parser
import re
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.html_report import Page
from slurm_tf.account.report import Report
from slurm_tf.account.run_records import RunRecord
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.errors import UsageError
from slurm_tf.jobspec.sites import Prices
from slurm_tf.run.attempts import Attempt
from tests.account import stored

DAY = 86400
START = 20_000 * DAY
HOSTILE = "</title><script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp; \x1b[2J"


class Parsed(html.parser.HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [values for tag, values in self.tags if tag == name]


def record(job: int, **more: Any) -> UsageRecord:
    values = {
        "state_text": "COMPLETED", "started": START + job * 3600, "ended": START + (job + 2) * 3600, "cpus": 4,
        "gpus": 2, "memory": 1024, "user": "ann", "account": "vision", **more,
    }  # fmt: skip
    return UsageRecord(id=str(job), raw_id=str(job), **values)


WINDOW = Window(START, START + 40 * DAY)


def page(
    tmp_path: Path,
    records: list[UsageRecord],
    own: Any = lambda _: RunRecord(),
    run: str = "",
    by: tuple[str, ...] = ("account", "user"),
    window: Window = WINDOW,
) -> Parsed:
    prices = Prices("EUR", 0.5, 2.0)
    database = stored.jobs(records, [(each, own(each)) for each in records])
    diagnostics = Diagnostics()
    diagnostics.add_jobs(database, window, window.end)
    aggregate = Aggregate(database, window, by, prices, now=window.end)
    report = Report(window, aggregate.by, aggregate.rows(), aggregate.total(), lambda: diagnostics, "EUR")
    made = Page(database, window, run, now=window.end, by=by)
    made.write(tmp_path / "usage.html", report)
    return Parsed((tmp_path / "usage.html").read_text())


def test_it_needs_nothing_else_and_names_are_text(tmp_path: Path) -> None:
    own = RunRecord(HOSTILE, HOSTILE)
    found = page(tmp_path, [record(1, account=HOSTILE, user=HOSTILE, state_text=HOSTILE)], lambda _: own)
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "img", "link", "iframe", "object"}
    assert not {name for _, values in found.tags for name in values} & {"src", "href", "onerror", "onload"}
    assert found.text.count("alert('x')") >= 4
    assert "url(" not in (tmp_path / "usage.html").read_text()
    (policy,) = [values for values in found.named("meta") if "http-equiv" in values]
    assert str(policy["content"]).startswith("default-src 'none'")


def test_its_plots(tmp_path: Path) -> None:
    records = [
        record(1, used_cpu=2 * 7200.0, used_memory=512 * 1024**2, gpu_use=35.0),
        record(30, account="nlp", state_text="FAILED"),
        record(60, state_text="PREEMPTED", gpus=4),
    ]
    found = page(tmp_path, records)
    words = re.findall(r"GPU-hours a day, by account|use of the \w+|GPU-hours lost at most", found.text)
    assert set(words) == {
        "GPU-hours a day, by account", "use of the GPUs", "use of the CPUs", "use of the memory",
        "GPU-hours lost at most",
    }  # fmt: skip
    for title in (
        "vision: 4.0 GPU-hours", "nlp: 4.0 GPU-hours", "vision: 8.0 GPU-hours", "30 to 40%: 4.0 GPU-hours",
        "50 to 60%: 8.0 CPU-hours", "preempted: 8.0 GPU-hours", "failed: 4.0 GPU-hours",
    ):  # fmt: skip
        assert title in found.text, title
    assert "No attempts of runs of slurm-tf" in found.text
    for box in found.named("rect"):
        assert float(str(box["height"])) > 0 or float(str(box["width"])) > 0
    empty = page(tmp_path, [])
    assert "No rows were seen." in empty.text
    assert not empty.named("rect")


def test_the_timeline_of_the_run_with_most_attempts(tmp_path: Path) -> None:
    made = Attempt("1.0", "1", 0.0, speaks=True, began=START + 3600 + 600.0, saved=START + 3600 + 6000.0)
    owns = {
        "1": RunRecord("flowers", "flowers-1", made),
        "2": RunRecord("flowers", "flowers-1"),
        "9": RunRecord("bert", "bert-1"),
    }
    records = [record(1, state_text="PREEMPTED", eligible=START), record(2), record(9), record(4, started=START - 500)]
    owns["4"] = owns["2"]
    found = page(tmp_path, records, lambda each: owns[each.id])
    for title in (
        "Attempts of run flowers-1", "job 1: waited for 3600 s", "job 1: start-up for 600 s",
        "job 1: ran, preempted for 5400 s", "job 1: after the last checkpoint for 1200 s",
        "job 2: ran, completed for 7200 s", f"job 4: ran, completed for {500 + 6 * 3600} s",
    ):  # fmt: skip
        assert title in found.text, title
    assert "job 9" not in found.text
    other = page(tmp_path, records, lambda each: owns[each.id], "bert-1")
    assert "job 9: ran, completed" in other.text
    assert "No attempts of run x-1" in page(tmp_path, records, lambda each: owns[each.id], "x-1").text


def test_days_without_jobs_are_on_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    # of a file, which has no window: from the first day of a job to the last one
    found = page(tmp_path, [record(1), record(24 * 9)], window=Window(0, START + 9000 * DAY))
    assert "Usage from 2024-10-04 to 2024-10-13" in found.text
    days = re.findall(r"2024-10-\d\d(?=\n)", found.text)
    assert {"2024-10-04", "2024-10-06", "2024-10-08"} <= set(days)
    wide = found.named("rect")[:2]
    assert float(str(wide[1]["x"])) - float(str(wide[0]["x"])) > 700


def test_hours_are_stacked_by_the_first_word(tmp_path: Path) -> None:
    records = [record(number, user=f"user{number}", qos="q") for number in range(9)] + [record(9, user="")]
    found = page(tmp_path, records, by=("day", "user"))
    assert "GPU-hours a day, by user" in found.text
    # who is not known is not one of the others, and no two layers have the same colour
    legend = re.findall(r'<i style="background: (#\w+)"></i>([^<]+)', (tmp_path / "usage.html").read_text())
    shades = dict(legend[:9])
    assert sorted(shades.values())[-1] == "user6"
    assert (len(shades), {"2 others", "unknown"} < set(shades.values())) == (9, True)
    assert "by qos" in page(tmp_path, records, by=("qos",)).text


def test_ends_have_colours_of_their_own() -> None:
    assert len({end.colour for end in ExitClass}) == len(ExitClass)


def test_the_table_can_be_sorted_and_has_what_is_known(tmp_path: Path) -> None:
    records = [
        record(1, user="ann", eligible=START, billing=7, used_cpu=3600.0),
        record(2, user="bob", gpus=9, eligible=START + 7200, billing=1),
        record(3, user="", gpus=1, cpus=64),
    ]
    found = page(tmp_path, records, by=("user",))
    heads = [values["title"] for values in found.named("label")]
    assert [str(head).partition(";")[0] for head in heads] == [
        "sort by user", "hours times GPUs", "hours times CPUs", "hours times billing", "price", "jobs that ran",
        "starts of jobs", "median time from eligible to start", "nine of ten jobs waited no longer", "use of the CPUs",
        "hours whose work was lost",
    ]  # fmt: skip
    ranks = [str(values["style"]) for values in found.named("tr") if values.get("style")]
    order = [[int(rank) for rank in re.findall(r"rank\d+: (\d+);", row)] for row in ranks]
    # bob, ann, unknown: by GPU-hours; by user, CPU-hours and SU
    assert [row[0] for row in order] == [1, 0, 2]
    assert [row[1] for row in order] == [0, 1, 2]
    assert [row[2] for row in order] == [1, 1, 0]
    assert [row[3] for row in order] == [1, 0, 2]
    # what is unknown comes last
    assert [row[9] for row in order] == [1, 0, 1]
    assert len(found.named("input")) == len(heads)


def test_a_site_without_gpus_sees_cpu_hours_and_no_bound_is_a_figure(tmp_path: Path) -> None:
    found = page(tmp_path, [record(1, gpus=0), record(30, gpus=0, state_text="FAILED")])
    assert "GPU" not in found.text
    assert re.search(r"16.0\s*CPU-hours", found.text)
    assert "CPU-hours lost at most" in found.text
    assert "effective" not in found.text
    assert "≤" not in found.text


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        page(tmp_path / "none", [])
