"""What is unknown is "-", null, an empty cell or left out: in no column of any report is it 0, or a bound."""

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import PYTHONPATH
from tests.forkserver import command_line

# A job that completed and one that failed, of which only that and how long they ran is known.
BARE = """JobID|User|Account|State|Start|End|JobName
1|ann|vision|COMPLETED|2026-01-01T00:00:00|2026-01-01T10:00:00|a
2|ann|vision|FAILED|2026-01-02T00:00:00|2026-01-02T10:00:00|b
"""
# What AllocTRES has, but for nodes and billing.
PARTLY = """JobID|User|Account|State|Start|End|AllocTRES|JobName
1|ann|vision|COMPLETED|2026-01-01T00:00:00|2026-01-01T10:00:00|cpu=2|a
2|bob|vision|COMPLETED|2026-01-01T00:00:00|2026-01-01T10:00:00||a
"""
# What the rows of BARE and their kind do not say.
UNKNOWN = (
    "gpu_hours", "cpu_hours", "node_hours", "gpu_seconds", "cpu_seconds", "node_seconds", "billing_hours", "wait_p50",
    "wait_p90", "cpu_use", "memory_use", "gpu_use", "lost_gpu_hours_at_most", "lost_cpu_hours_at_most", "requeue_hours",
    "start_hours", "rollback_hours", "effective", "cost",
)  # fmt: skip


def typed(folder: Path, table: str, *words: str) -> str:
    """Return what `slurm-tf usage` prints of a table."""
    path = folder / "saved"
    path.write_text(table)
    variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    variables |= {
        "TZ": "UTC", "PYTHONPATH": PYTHONPATH, "SLURM_TF_RUNS": str(folder / "runs"), "XDG_STATE_HOME": str(folder),
    }  # fmt: skip
    done = command_line.slurm_tf(["usage", "--from", str(path), *words], variables, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(lines: Sequence[str], key: str) -> list[str]:
    line = next(line for line in lines if line.startswith(key))
    return re.split(r"  +", line.strip())


def test_a_report_of_groups(tmp_path: Path) -> None:
    lines = typed(tmp_path, BARE, "--by", "name").splitlines()
    assert cells(lines, "NAME")[1:] == [
        "GPU-H", "CPU-H", "NODE-H", "JOBS", "INCARNATIONS", "WAIT P50", "P90", "LOST CPU-H", "EFFECTIVE",
    ]  # fmt: skip
    # what completed has lost nothing, whatever it had
    assert cells(lines, "a ") == ["a", "-", "-", "-", "1", "1", "-", "-", "0.0", "-"]
    assert cells(lines, "b ") == ["b", "-", "-", "-", "1", "1", "-", "-", "-", "-"]
    assert cells(lines, "failed") == ["failed", "1", "-", "-", "-", "-"]
    assert "Note: 2 jobs have unknown CPUs, GPUs or nodes: hours of these are in no sum: 1, 2" in lines
    found = json.loads(typed(tmp_path, BARE, "--by", "name", "--json"))
    first, second = sorted(found["groups"], key=lambda group: str(group["name"]))
    assert {name: second[name] for name in UNKNOWN} == dict.fromkeys(UNKNOWN)
    assert [name for name in UNKNOWN if first[name] is not None] == ["lost_gpu_hours_at_most", "lost_cpu_hours_at_most"]
    assert set(second["ends"]["failed"].values()) == {1, None}
    rows = {row["name"]: row for row in csv.DictReader(typed(tmp_path, BARE, "--by", "name", "--csv").splitlines())}
    assert {rows["b"][name] for name in UNKNOWN} == {""}
    assert (rows["b"]["jobs"], rows["b"]["incarnations"]) == ("1", "1")


def test_what_is_known_of_some_jobs(tmp_path: Path) -> None:
    lines = typed(tmp_path, PARTLY, "--by", "user").splitlines()
    assert cells(lines, "ann") == ["ann", "0.0", "20.0", "-", "1", "1", "-", "-", "0.0", "-"]
    assert cells(lines, "bob") == ["bob", "-", "-", "-", "1", "1", "-", "-", "0.0", "-"]
    assert cells(lines, "TOTAL") == ["TOTAL", "0.0", "20.0", "-", "2", "2", "-", "-", "0.0", "-"]


def test_the_report_for_a_leader(tmp_path: Path) -> None:
    lines = typed(tmp_path, BARE, "--group").splitlines()
    assert lines[0].endswith("vision: unknown hours in 2 jobs.")
    assert cells(lines, "ann") == ["ann", "-", "2", "-", "-"]
    found = json.loads(typed(tmp_path, BARE, "--group", "--json"))
    names = ("gpu_hours", "cpu_hours", "wait_p50", "gpu_use", "cpu_use", "idle_gpu_hours")
    assert [found["members"][0][name] for name in names] == [None] * len(names)
    assert (found["idle_gpus"], found["less_than_half_used"]) == ([], [])


@pytest.mark.parametrize("table", [BARE, PARTLY])
def test_the_page(table: str, tmp_path: Path) -> None:
    typed(tmp_path, table, "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "effective" not in page
    figures = re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", page)
    lost = [] if table is BARE else [("20.0", "CPU-hours"), ("0.0", "CPU-hours lost at most")]
    assert sorted(figures) == sorted([("2", "jobs, 2 incarnations"), *lost])


def test_no_bound_of_all_the_time_is_a_figure(tmp_path: Path) -> None:
    waited = BARE.replace("|Start|", "|Submit|Eligible|Start|").replace(
        "|2026-01-01T00:00:00|", "|2025-12-31T23:59:59|2025-12-31T23:59:59|2026-01-01T00:00:00|"
    ).replace("|2026-01-02T00:00:00|", "|2026-01-01T23:00:00|2026-01-01T23:00:00|2026-01-02T00:00:00|")  # fmt: skip
    lines = typed(tmp_path, waited, "--by", "name").splitlines()
    assert (cells(lines, "a ")[-1], cells(lines, "b ")[-1]) == ("-", "<=91%")
