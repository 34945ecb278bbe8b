"""The HTML page of the report for the leader of an account: the plots of a report, and the leader's tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slurm_tf.account.group import GroupReport, Oversized
from slurm_tf.account.html_report import Page
from slurm_tf.account.person import Sums
from slurm_tf.account.report import Report
from slurm_tf.account.usage_table import Number, Table, hours, length, of_items, share
from slurm_tf.plots import html_page

_ROWS = 500


class LimitTable(NamedTuple):
    """What may still be used, in words: whose it is, the table, and the sentences below it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[str]


class _Section(NamedTuple):
    """A table of the page with its head; `words`: a sentence in its place. `more`: rows that are not shown."""

    title: str
    table: Table
    words: str = ""
    more: int = 0


def write(path: Path, page: Page, report: Report, group: GroupReport, limits: LimitTable | None) -> None:
    """Write the page of the leader's report. `limits`: None where they are of no interest. Raises UsageError."""
    values = page.values(report)
    accounts = ", ".join(group.accounts) or "the accounts"
    own = {"title": f"{values['title']}: {accounts}", "sections": _sections(group), "limits": limits}
    html_page.write(path, Path(__file__).with_name("group.html.j2"), {**values, **own})


def _sections(group: GroupReport) -> list[_Section]:
    found = [
        _of_sums("Members", "user", group.members),
        _of_sums("Templates", "template", group.templates),
        _of_jobs("Idle GPUs: less than 10% busy", group.idle, group.idle_words),
        _of_jobs("Less than half used of what was asked for", group.oversized, group.oversized_words),
    ]
    return [each for each in found if each.table.rows or each.words]


def _of_sums(title: str, head: str, rows: Sequence[Sums]) -> _Section:
    has_gpus = any(each.gpu_seconds for each in rows)
    numbers: list[Number[Sums]] = [
        Number("GPU-hours", "hours times GPUs", lambda each: each.gpu_seconds if has_gpus else None, hours),
        Number("CPU-hours", "hours times CPUs", lambda each: each.cpu_seconds, hours),
        Number("jobs", "jobs that ran", lambda each: each.jobs, "{:,.0f}".format),
        Number("wait", "median time from eligible to start", lambda each: each.wait, length),
        Number("CPU", "use of the CPUs", lambda each: each.cpu_use, share),
        Number("GPU", "use of the GPUs", lambda each: each.gpu_use, share),
        Number("idle GPU-h", "hours of GPUs less than 10% busy", lambda each: each.idle_seconds, hours),
        Number(
            f"wasted {'GPU' if has_gpus else 'CPU'}-h at most", "hours that were wasted",
            lambda each: each.wasted_gpu_seconds if has_gpus else each.wasted_cpu_seconds, hours,
        ),
    ]  # fmt: skip
    shown = rows[:_ROWS]
    return _Section(title, of_items([(head, [each.label for each in shown])], numbers, shown), more=len(rows[_ROWS:]))


def _of_jobs(title: str, rows: Sequence[Oversized], words: str) -> _Section:
    unit = "GPU" if any(each.gpus for each in rows) else "CPU"
    numbers: list[Number[Oversized]] = [
        Number("GPUs", "GPUs that it had", lambda each: each.gpus, "{:,.0f}".format),
        Number(f"{unit}-hours", f"hours times {unit}s", lambda each: each.hours * 3600, hours),
        Number("GPU", "use of the GPUs", lambda each: each.gpu_use, share),
        Number("CPU", "use of the CPUs", lambda each: each.cpu_use, share),
        Number("memory", "use of the memory", lambda each: each.memory_use, share),
    ]
    shown = rows[:_ROWS]
    columns = [
        ("job", [each.job for each in shown]),
        ("user", [each.user for each in shown]),
        ("template", [each.label for each in shown]),
    ]
    return _Section(title, of_items(columns, numbers, shown), words, len(rows[_ROWS:]))
