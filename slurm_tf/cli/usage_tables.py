"""The report of `slurm-tf usage` as a text table and as CSV."""

import csv
import textwrap
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import NamedTuple

import msgspec

from slurm_tf.account.amounts import NUMBERS, Amounts
from slurm_tf.account.report import Report
from slurm_tf.account.usage import Row
from slurm_tf.cli import text_table
from slurm_tf.cli.terminal import Screen, printable

_GAP = "  "
# A column of this weight is never left out.
_FIRST = 99


class Column(NamedTuple):
    """One column of numbers. On a narrow terminal those with the lowest `weight` are left out first."""

    head: str
    cell: Callable[[Amounts], str]
    weight: int


def hours(seconds: float | None) -> str:
    """Return `seconds` in hours, as a cell of a table; "-" if they are unknown."""
    if seconds is None:
        return "-"
    amount = seconds / 3600
    if amount >= 10_000:
        return f"{amount:.0f}"
    return f"{amount:.1f}" if amount >= 10 or not amount else f"{amount:.2f}"


def duration(seconds: float | None) -> str:
    """Return a duration in its largest unit; "-" if it is unknown."""
    if seconds is None:
        return "-"
    for size, least, unit in ((86400, 172800, "d"), (3600, 7200, "h"), (60, 120, "min")):
        if seconds >= least:
            return f"{seconds / size:.1f} {unit}" if unit != "min" else f"{seconds / size:.0f} min"
    return f"{seconds:.0f} s"


def share(value: float | None) -> str:
    """Return a share in percent; "-" if it is unknown."""
    return "-" if value is None else f"{100 * value:.0f}%"


def _effective(amounts: Amounts) -> str:
    return ("" if amounts.is_told or amounts.effective is None else "<=") + share(amounts.effective)


def _columns(report: Report) -> list[Column]:
    """Return the columns for which the report has any value, in their order."""
    total = report.total
    gpus = bool(total.gpu_seconds)
    lost = (lambda each: hours(each.lost_gpu_seconds)) if gpus else (lambda each: hours(each.lost_cpu_seconds))
    money = report.currency and Column(
        report.currency, lambda each: "unknown" if each.cost is None else f"{each.cost:.2f}", 95
    )
    rows = [
        Column("GPU-H", lambda each: hours(each.gpu_seconds), 99),
        Column("CPU-H", lambda each: hours(each.cpu_seconds), 98),
        Column("NODE-H", lambda each: hours(each.node_seconds), 30),
        total.billing_seconds and Column("SU", lambda each: hours(each.billing_seconds), 40),
        money,
        Column("JOBS", lambda each: str(each.jobs), 97),
        Column("INCARNATIONS", lambda each: str(each.incarnations), 50),
        Column("WAIT P50", lambda each: duration(each.waited(50)), 80),
        Column("P90", lambda each: duration(each.waited(90)), 70),
        total.known_cpu and Column("CPU", lambda each: share(each.cpu_use), 75),
        bool(total.known_memory) and Column("MEM", lambda each: share(each.memory_use), 65),
        total.known_gpu and Column("GPU", lambda each: share(each.gpu_use), 85),
        Column("LOST GPU-H" if gpus else "LOST CPU-H", lost, 96),
        Column("EFFECTIVE", _effective, 60),
    ]
    return [row for row in rows if row]


def text(report: Report, screen: Screen) -> str:
    """Return the report for `screen`; without a width as wide as necessary."""
    lines = [*_wrapped(report.about(), screen.width), ""]
    if report.rows:
        more = f"{report.left_out} more groups are in TOTAL.\n" if report.left_out else ""
        tables = [_groups(report, screen) + more, _ends(report.total, screen)]
        lines += [*tables, *_wrapped(_losses(report.total), screen.width)]
    lines += _wrapped([f"Note: {remark}" for remark in report.remarks()], screen.width)
    return "\n".join(line.rstrip(" ") for line in lines).rstrip() + "\n"


def _wrapped(lines: Sequence[str], width: int | None) -> list[str]:
    """Return sentences, wrapped at `width`."""
    plain = [printable(line) for line in lines]
    return [part for line in plain for part in textwrap.wrap(line, width)] if width else plain


def _groups(report: Report, screen: Screen) -> str:
    heads = [word.upper() for word in report.by]
    keys = [[word or "-" for word in row.key] for row in report.rows]
    amounts = [row.amounts for row in report.rows]
    if heads and len(keys) + report.left_out > 1:
        keys.append(["TOTAL", *[""] * (len(heads) - 1)])
        amounts.append(report.total)
    columns = _columns(report)
    leave_out = sorted((each for each in columns if each.weight < _FIRST), key=lambda each: each.weight)
    return text_table.table(
        [*heads, *(each.head for each in columns)],
        [[*key, *(each.cell(amount) for each in columns)] for key, amount in zip(keys, amounts, strict=True)],
        [each.head for each in leave_out],
        "--csv and --json have all",
        names=heads,
        right=[each.head for each in columns],
        screen=screen,
    )


def _ends(total: Amounts, screen: Screen) -> str:
    rows = [[each.end.word, str(each.incarnations), *map(hours, each[2:])] for each in total.ends]
    numbers = ["INCARNATIONS", "GPU-H", "CPU-H", "LOST GPU-H", "LOST CPU-H"]
    leave_out = ("CPU-H", "LOST CPU-H", "INCARNATIONS")
    return text_table.table(["ENDED", *numbers], rows, leave_out, "--json has all", right=numbers, screen=screen)


def _losses(total: Amounts) -> list[str]:
    lines = []
    if total.requeue_seconds:
        lines.append(f"Jobs that were requeued waited {duration(total.requeue_seconds)} in all for their next starts.")
    if total.told_seconds:
        whole = "all" if total.is_told else duration(total.told_seconds)
        lines.append(
            f"Of {whole} that runs of slurm-tf tell of, {duration(total.start_seconds)} were start-up, "
            f"{duration(total.rollback_seconds)} came after the last checkpoint."
        )
    if not total.is_told:
        lines.append("Lost hours and effective time are upper bounds: most jobs do not say what they kept.")
    return lines


def comma_separated(report: Report) -> str:
    """Return a header line and one line for each group: times in seconds, shares from 0 to 1, empty if unknown."""
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="")
    writer.writerow([*report.by, *NUMBERS])
    writer.writerows((*row.key, "") for row in report.rows)
    return "".join(f"{line}{numbers}\n" for line, numbers in zip(lines, ["", *_numbers(report.rows)], strict=True))


def _numbers(rows: Sequence[Row]) -> list[str]:
    """Return the numbers of each row, as CSV. They are written as JSON: the module csv takes fifteen times as long."""
    text = msgspec.json.encode([row.amounts.numbers() for row in rows]).decode()
    for word, in_csv in (("null", ""), ("true", "True"), ("false", "False")):
        text = text.replace(word, in_csv)
    return text[2:-2].split("],[") if rows else []
