"""The report for the leader of an account as a page and as CSV: the tables that the text has, names as text."""

import csv
import re
from pathlib import Path

from slurm_tf.account import group, group_page
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.group_page import LimitTable
from slurm_tf.account.html_report import Page
from slurm_tf.account.report import Report
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.cli import person_text
from tests.account import stored
from tests.account.test_html_report import HOSTILE, Parsed
from tests.account.test_person import GIB, HOUR, RECORDS, WINDOW, job

LIMITS = LimitTable("What vision may still use", ["Left", "Of"], [["1", HOSTILE]], ["Slurm does not forget."])


def page(tmp_path: Path, records: list[UsageRecord], limits: LimitTable | None = None) -> Parsed:
    database = stored.jobs(records)
    aggregate = Aggregate(database, WINDOW, ("user",), now=WINDOW.end)
    report = Report(WINDOW, aggregate.by, aggregate.rows(), aggregate.total(), Diagnostics)
    found = group.report(database, WINDOW)
    made = Page(database, WINDOW, now=WINDOW.end, by=("user",))
    group_page.write(tmp_path / "group.html", made, report, found, limits)
    return Parsed((tmp_path / "group.html").read_text())


def words(found: Parsed) -> str:
    return " ".join(found.text.split())


def rows(tmp_path: Path) -> list[list[str]]:
    """Return the cells of each row of a table that can be sorted."""
    found = re.findall(r"<tr.*?</tr>", (tmp_path / "group.html").read_text(), re.DOTALL)
    return [re.findall(r"<(?:td[^>]*|label[^>]*)>([^<]*)<", row) for row in found]


def test_the_page_has_each_table_of_the_report(tmp_path: Path) -> None:
    found = words(page(tmp_path, RECORDS))
    assert "Usage from 2026-09-21 to 2026-09-22: vision" in found
    assert "GPU-hours a day, by user" in found
    assert "Idle GPUs: less than 10% busy" in found
    of_all = rows(tmp_path)
    assert of_all[:3] == [
        ["user", "GPU-hours", "CPU-hours", "jobs", "wait", "CPU", "GPU", "idle GPU-h", "wasted GPU-h at most"],
        ["ann", "138.0", "276.0", "19", "90 s", "-", "3%", "24.1", "137.9"],
        ["bob", "22.0", "76.0", "3", "90 s", "56%", "70%", "0.0", "2.0"],
    ]
    assert ["prepare", "0.0", "32.0", "1", "90 s", "12%", "-", "-", "0.0"] in of_all
    assert of_all[-4:] == [
        ["job", "user", "template", "GPUs", "GPU-hours", "GPU"], ["21", "ann", "notebook", "4", "24.0", "4%"],
        ["job", "user", "template", "GPUs", "CPU-hours", "CPU", "memory"],
        ["23", "bob", "prepare", "0", "32.0", "12%", "3%"],
    ]  # fmt: skip


def test_each_table_is_sorted_by_itself(tmp_path: Path) -> None:
    found = page(tmp_path, RECORDS)
    names = [str(values["id"]) for values in found.named("input")]
    assert len(names) == len(set(names)) == len(found.named("label"))
    assert {name.partition("-")[0] for name in names} == {"table1", "table2", "table3", "table4"}


def test_names_are_text_and_limits_are_shown(tmp_path: Path) -> None:
    records = [job(1, "COMPLETED", 2, gpu_use=1.0, name=HOSTILE, user=HOSTILE, account=HOSTILE)]
    found = page(tmp_path, records, LIMITS)
    assert not {tag for tag, _ in found.tags} & {"script", "img", "link", "iframe", "object"}
    assert found.text.count("alert('x')") >= 6
    assert "What vision may still use" in found.text
    assert "Slurm does not forget." in found.text


def test_what_is_unknown_or_nothing_is_said_in_words(tmp_path: Path) -> None:
    unknown = words(page(tmp_path, [job(1, "COMPLETED", 2)]))
    assert "Unknown: neither Slurm (gres/gpuutil) nor a run recorded how busy any GPU was." in unknown
    assert "No job used less than half of what it asked for" in unknown
    used = {"used_cpu": 0.9 * 8 * 2 * HOUR, "used_memory": 30 * GIB}
    assert "No GPUs were idle" in words(page(tmp_path, [job(1, "COMPLETED", 2, gpu_use=90.0, **used)]))
    assert "Idle GPUs" not in words(page(tmp_path, [job(1, "COMPLETED", 2, gpus=0, **used)]))
    assert "No rows were seen." in page(tmp_path, []).text


def test_csv_has_the_rows_of_each_table() -> None:
    database = stored.jobs(RECORDS)
    Aggregate(database, WINDOW, now=WINDOW.end)
    report = group.report(database, WINDOW)
    rows = list(csv.DictReader(person_text.group_csv(report).splitlines(keepends=True)))
    assert [row["table"] for row in rows].count("members") == len(report.members)
    (idle,) = [row for row in rows if row["table"] == "idle_gpus"]
    assert (idle["job"], idle["user"], idle["template"], idle["gpu_hours"], idle["gpu_use"], idle["cpu_use"]) == (
        "21", "ann", "notebook", "24.0", "0.035", "",
    )  # fmt: skip
    (bob,) = [row for row in rows if row["table"] == "members" and row["user"] == "bob"]
    assert (bob["jobs"], bob["gpu_hours"], bob["job"], bob["idle_gpu_hours"]) == ("3", "22.0", "", "0.0")
    (hostile,) = [row for row in rows if "hostile" in row["template"]]
    assert hostile["template"] == "\x1b[2Jhostile|name\n"
