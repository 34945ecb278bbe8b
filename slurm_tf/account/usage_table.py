"""The figures and the sortable tables of a report's HTML page; what is unknown everywhere has no column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from slurm_tf.account.amounts import Amounts
from slurm_tf.account.report import Report
from slurm_tf.account.usage import Row

Item = TypeVar("Item")


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


@dataclass(frozen=True, slots=True)
class Number(Generic[Item]):
    """A column of numbers: how that of an item is read, None for unknown, and how it is written."""

    head: str
    meaning: str
    value: Callable[[Item], float | None]
    form: Callable[[float], str]


def tiles(report: Report) -> list[tuple[str, str]]:
    """Return the figures at the top of the page, each with what it is."""
    total = report.total
    unit, lost = ("GPU", total.lost_gpu_seconds) if total.gpu_seconds else ("CPU", total.lost_cpu_seconds)
    found = [(hours(total.gpu_seconds), "GPU-hours")] if total.gpu_seconds else []
    found += [(hours(total.cpu_seconds), "CPU-hours")] if total.cpu_seconds is not None else []
    if report.currency:
        found.append(("unknown" if total.cost is None else f"{total.cost:,.2f}", report.currency))
    jobs = "job" if total.jobs == 1 else "jobs"
    found.append((f"{total.jobs:,}", f"{jobs}, {total.incarnations:,} incarnations"))
    wait = total.waited(50)
    if wait is not None:
        found.append((length(wait), "median wait"))
    if lost is not None:
        found.append((hours(lost), f"{unit}-hours lost{'' if total.is_told else ' at most'}"))
    if total.is_told and total.effective is not None:
        found.append((share(total.effective), "effective training time"))
    return found


def table(by: Sequence[str], rows: Sequence[Row], report: Report) -> Table:
    """Return the table of groups."""
    words = [(word, [row.key[at] for row in rows]) for at, word in enumerate(by)]
    return of_items(words, _numbers(report), [row.amounts for row in rows])


def of_items(
    words: Sequence[tuple[str, Sequence[str]]], numbers: Sequence[Number[Item]], items: Sequence[Item]
) -> Table:
    """Return a table of items: the columns of words, each a head and its cells, and those of numbers that are known."""
    known = [each for each in numbers if any(each.value(item) is not None for item in items)]
    columns = [Column(head, f"sort by {head}", True) for head, _ in words]
    columns += [Column(each.head, f"{each.meaning}; sort by it", False) for each in known]
    cells = [_words(texts) for _, texts in words] + [_cells(each, items) for each in known]
    return Table(columns, [list(row) for row in zip(*cells, strict=True)] if items else [])


def _numbers(report: Report) -> list[Number[Amounts]]:
    """Return the columns of numbers of which there is any."""
    total = report.total
    at_most, unit = "" if total.is_told else " at most", "GPU" if total.gpu_seconds else "CPU"
    columns = [
        total.gpu_seconds and Number("GPU-hours", "hours times GPUs", lambda each: each.gpu_seconds, hours),
        Number("CPU-hours", "hours times CPUs", lambda each: each.cpu_seconds, hours),
        total.billing_seconds and Number("SU", "hours times billing", lambda each: each.billing_seconds, hours),
        report.currency and Number(report.currency, "price", lambda each: each.cost, "{:,.2f}".format),
        Number("jobs", "jobs that ran", lambda each: each.jobs, "{:,.0f}".format),
        Number("incarnations", "starts of jobs", lambda each: each.incarnations, "{:,.0f}".format),
        Number("wait", "median time from eligible to start", lambda each: each.waited(50), length),
        Number("wait p90", "nine of ten jobs waited no longer", lambda each: each.waited(90), length),
        Number("CPU", "use of the CPUs", lambda each: each.cpu_use, share),
        Number("memory", "use of the memory", lambda each: each.memory_use, share),
        Number("GPU", "use of the GPUs", lambda each: each.gpu_use, share),
        Number(f"lost {unit}-h{at_most}", "hours whose work was lost", _lost(total), hours),
    ]
    return [each for each in columns if each]


def _lost(total: Amounts) -> Callable[[Amounts], float | None]:
    if total.gpu_seconds:
        return lambda each: each.lost_gpu_seconds
    return lambda each: each.lost_cpu_seconds


def _words(words: Sequence[str]) -> list[Cell]:
    ranks = {word: rank for rank, word in enumerate(sorted(set(words), key=lambda word: (not word, word)))}
    return [Cell(word or "-", ranks[word]) for word in words]


def _cells(column: Number[Item], items: Sequence[Item]) -> list[Cell]:
    """Return the cells of one column; the largest number comes first, what is unknown last."""
    values = [column.value(each) for each in items]
    known = sorted({value for value in values if value is not None}, reverse=True)
    ranks = {value: rank for rank, value in enumerate(known)}
    return [Cell("-", len(known)) if value is None else Cell(column.form(value), ranks[value]) for value in values]


def hours(seconds: float) -> str:
    """Return seconds as hours."""
    return f"{seconds / 3600:,.1f}"


def share(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.0f}%"


def length(seconds: float) -> str:
    """Return a duration in its largest unit."""
    for size, least, unit in ((86400, 172800, "d"), (3600, 7200, "h")):
        if seconds >= least:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
