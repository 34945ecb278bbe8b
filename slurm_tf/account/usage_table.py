"""The figures and the sortable table of a report's HTML page; what is unknown everywhere has no column."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from slurm_tf.account.amounts import Amounts
from slurm_tf.account.report import Report
from slurm_tf.account.usage import Row


class Cell(NamedTuple):
    """One cell: its text, and its rank where the table is sorted by this column: 0 comes first."""

    text: str
    rank: int


class Column(NamedTuple):
    """One column: its head, what it means (a tooltip), and whether it has words instead of numbers."""

    head: str
    meaning: str
    is_word: bool


class Table(NamedTuple):
    """The table: its columns and rows; the rows are in the order of the report."""

    columns: list[Column]
    rows: list[list[Cell]]


class _Number(NamedTuple):
    """A column of numbers: how one is read, None for unknown, and how it is written."""

    head: str
    meaning: str
    value: Callable[[Amounts], float | None]
    form: Callable[[float], str]


def tiles(report: Report) -> list[tuple[str, str]]:
    """Return the figures at the top of the page, each with what it is."""
    total = report.total
    unit, lost = ("GPU", total.lost_gpu_seconds) if total.gpu_seconds else ("CPU", total.lost_cpu_seconds)
    found = [(_hours(total.gpu_seconds), "GPU-hours")] if total.gpu_seconds else []
    found += [(_hours(total.cpu_seconds), "CPU-hours")] if total.cpu_seconds is not None else []
    if report.currency:
        found.append(("unknown" if total.cost is None else f"{total.cost:,.2f}", report.currency))
    jobs = "job" if total.jobs == 1 else "jobs"
    found.append((f"{total.jobs:,}", f"{jobs}, {total.incarnations:,} incarnations"))
    wait = total.waited(50)
    if wait is not None:
        found.append((_length(wait), "median wait"))
    if lost is not None:
        found.append((_hours(lost), f"{unit}-hours lost{'' if total.is_told else ' at most'}"))
    if total.is_told and total.effective is not None:
        found.append((_share(total.effective), "effective training time"))
    return found


def table(by: Sequence[str], rows: Sequence[Row], report: Report) -> Table:
    """Return the table of groups."""
    amounts = [row.amounts for row in rows]
    numbers = [each for each in _numbers(report) if any(each.value(one) is not None for one in amounts)]
    words = [Column(word, f"sort by {word}", True) for word in by]
    cells = [_words([row.key[at] for row in rows]) for at in range(len(by))]
    cells += [_cells(each, amounts) for each in numbers]
    columns = words + [Column(each.head, f"{each.meaning}; sort by it", False) for each in numbers]
    return Table(columns, [list(row) for row in zip(*cells, strict=True)] if rows else [])


def _numbers(report: Report) -> list[_Number]:
    """Return the columns of numbers of which there is any."""
    total = report.total
    at_most, unit = "" if total.is_told else " at most", "GPU" if total.gpu_seconds else "CPU"
    columns = [
        total.gpu_seconds and _Number("GPU-hours", "hours times GPUs", lambda each: each.gpu_seconds, _hours),
        _Number("CPU-hours", "hours times CPUs", lambda each: each.cpu_seconds, _hours),
        total.billing_seconds and _Number("SU", "hours times billing", lambda each: each.billing_seconds, _hours),
        report.currency and _Number(report.currency, "price", lambda each: each.cost, "{:,.2f}".format),
        _Number("jobs", "jobs that ran", lambda each: each.jobs, "{:,.0f}".format),
        _Number("incarnations", "starts of jobs", lambda each: each.incarnations, "{:,.0f}".format),
        _Number("wait", "median time from eligible to start", lambda each: each.waited(50), _length),
        _Number("wait p90", "nine of ten jobs waited no longer", lambda each: each.waited(90), _length),
        _Number("CPU", "use of the CPUs", lambda each: each.cpu_use, _share),
        _Number("memory", "use of the memory", lambda each: each.memory_use, _share),
        _Number("GPU", "use of the GPUs", lambda each: each.gpu_use, _share),
        _Number(f"lost {unit}-h{at_most}", "hours whose work was lost", _lost(total), _hours),
    ]
    return [each for each in columns if each]


def _lost(total: Amounts) -> Callable[[Amounts], float | None]:
    if total.gpu_seconds:
        return lambda each: each.lost_gpu_seconds
    return lambda each: each.lost_cpu_seconds


def _words(words: Sequence[str]) -> list[Cell]:
    ranks = {word: rank for rank, word in enumerate(sorted(set(words), key=lambda word: (not word, word)))}
    return [Cell(word or "-", ranks[word]) for word in words]


def _cells(column: _Number, amounts: Sequence[Amounts]) -> list[Cell]:
    """Return the cells of one column; the largest number comes first, what is unknown last."""
    values = [column.value(each) for each in amounts]
    known = sorted({value for value in values if value is not None}, reverse=True)
    ranks = {value: rank for rank, value in enumerate(known)}
    return [Cell("-", len(known)) if value is None else Cell(column.form(value), ranks[value]) for value in values]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.0f}%"


def _length(seconds: float) -> str:
    for size, least, unit in ((86400, 172800, "d"), (3600, 7200, "h")):
        if seconds >= least:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
