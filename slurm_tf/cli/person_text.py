"""The reports for a person and for the leader of an account, as text, as JSON and, for the leader, as CSV."""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from slurm_tf.account.amounts import in_hours
from slurm_tf.account.person import PersonReport, Sums
from slurm_tf.account.report import local
from slurm_tf.account.waste import Cause
from slurm_tf.cli import limits_table, text_table
from slurm_tf.cli.terminal import Screen, printable
from slurm_tf.cli.usage_tables import duration, hours, share
from slurm_tf.slurm.usage_limits import Limits

if TYPE_CHECKING:
    from slurm_tf.account.group import GroupReport, Oversized

_CAUSES, _ROWS = 3, 10
_SOME = 18
_LEAVE_OUT = ("CPU", "WAIT", "CPU-H", "GPU", "WASTED")
_GROUP_CSV = (
    "table", "user", "template", "job", "jobs", "gpus", "gpu_hours", "cpu_hours", "wait_p50", "gpu_use", "cpu_use",
    "memory_use", "idle_gpu_hours", "wasted_gpu_hours_at_most", "wasted_cpu_hours_at_most",
)  # fmt: skip


def person(report: PersonReport, limits: Limits | None, notes: Sequence[str], screen: Screen) -> str:
    """Return the report for a person. `limits`: None where they are of no interest, as for a saved table."""
    if not report.total.jobs:
        parts = [[f"{_since(report)}, no job ran."]]
    else:
        parts = [[f"{_since(report)}: {_hours(report.total)} in {_jobs(report.total.jobs)}."]]
        parts += [_table("TEMPLATE", report.templates, screen), _waste(report, screen)]
    if limits:
        parts.append([_head("What you may still use", screen), *limits_table.text(limits, screen)])
    return _joined([*parts, _notes(notes)], screen)


def group(report: "GroupReport", limits: Limits | None, notes: Sequence[str], screen: Screen) -> str:
    """Return the report for the leader of accounts."""
    accounts = printable(", ".join(report.accounts)) or "the accounts"
    if not report.total.jobs:
        return _joined([[f"{_since(report)}, no job of {accounts} ran."], _notes(notes)], screen)
    parts = [
        [f"{_since(report)}, {accounts}: {_hours(report.total)} in {_jobs(report.total.jobs)}."],
        [_head("Members", screen), *_table("USER", report.members, screen, with_idle=True)],
        [_head("Templates", screen), *_table("TEMPLATE", report.templates, screen, with_idle=True)],
        _idle(report, screen),
        _oversized(report, screen),
    ]
    if limits:
        parts.append([_head(f"What {limits.user} may still use", screen), *limits_table.text(limits, screen)])
    return _joined([*parts, _notes(notes)], screen)


def _notes(notes: Sequence[str]) -> list[str]:
    return [printable(f"Note: {note}") for note in notes]


def person_dict(report: PersonReport, limits: Limits | None, notes: Sequence[str]) -> dict[str, Any]:
    """Return the report for JSON; null: unknown."""
    gpus, cpus = report.wasted
    return {
        "since": local(report.window.start),
        "until": local(report.window.end),
        "total": report.total.as_dict("template"),
        "templates": [each.as_dict("template") for each in report.templates],
        "wasted": {
            "gpu_hours": in_hours(gpus),
            "cpu_hours": in_hours(cpus),
            "is_at_most": not all(each.is_known for each in report.causes),
            "causes": [each.as_dict() for each in report.causes],
        },
        "limits": limits_table.as_dict(limits) if limits else None,
        "notes": list(notes),
    }


def group_dict(report: "GroupReport", limits: Limits | None, notes: Sequence[str]) -> dict[str, Any]:
    """Return the report for JSON; null: unknown."""
    return {
        "since": local(report.window.start),
        "until": local(report.window.end),
        "accounts": list(report.accounts),
        "total": report.total.as_dict("user"),
        **report.tables(),
        "limits": limits_table.as_dict(limits) if limits else None,
        "notes": list(notes),
    }


def group_csv(report: "GroupReport") -> str:
    """Return the rows of all tables as CSV, the name of the table first; empty means unknown, or no column of it."""
    rows = [{"table": name, **row} for name, table in report.tables().items() for row in table]
    text = io.StringIO()
    writer = csv.DictWriter(text, _GROUP_CSV, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _since(report: "PersonReport | GroupReport") -> str:
    start, end = report.window
    days = (end - start) / 86400
    length = f" ({days:.0f} days)" if start and days >= 2 else ""
    since = f"From {local(start)}" if start else "All that there is"
    return f"{since} until {local(end)}{length}"


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _hours(each: Sums | Cause) -> str:
    """Return GPU-hours, or CPU-hours where there are none."""
    return _amount(each.gpu_seconds, each.cpu_seconds)


def _amount(gpu_seconds: float | None, cpu_seconds: float | None) -> str:
    if gpu_seconds:
        return f"{hours(gpu_seconds)} GPU-hours"
    return "unknown hours" if cpu_seconds is None else f"{hours(cpu_seconds)} CPU-hours"


def _head(text: str, screen: Screen) -> str:
    return click.style(text, bold=True) if screen.colour else text


def _joined(parts: Sequence[Sequence[str]], screen: Screen) -> str:
    """Return sections with an empty line between them; sentences are wrapped, tables are as wide as they are."""
    kept = [part for part in parts if part]
    return "\n\n".join("\n".join(_wrapped(part, screen)) for part in kept) + "\n"


def _wrapped(lines: Sequence[str], screen: Screen) -> list[str]:
    return [part for line in lines for part in _folded(line, screen.width)]


def _folded(line: str, width: int | None) -> list[str]:
    if width is None or len(click.unstyle(line)) <= width:
        return [line]
    return text_table.folded(line, width)


def _table(key: str, rows: Sequence[Sums], screen: Screen, with_idle: bool = False) -> list[str]:
    """Return a table of sums: the columns of which anything is known."""
    has_gpus = any(each.gpu_seconds for each in rows)
    wasted = [each.wasted_gpu_seconds if has_gpus else each.wasted_cpu_seconds for each in rows]
    columns: list[tuple[str, list[str]]] = [(key, [each.label or "-" for each in rows])]
    if has_gpus:
        columns.append(("GPU-H", [hours(each.gpu_seconds) for each in rows]))
    columns += [
        ("CPU-H", [hours(each.cpu_seconds) for each in rows]),
        ("JOBS", [str(each.jobs) for each in rows]),
        ("WAIT", [duration(each.wait) for each in rows]),
    ]
    if any(each.cpu_use is not None for each in rows):
        columns.append(("CPU", [share(each.cpu_use) for each in rows]))
    if any(each.gpu_use is not None for each in rows):
        columns.append(("GPU", [share(each.gpu_use) for each in rows]))
    if with_idle and has_gpus:
        columns.append(
            ("IDLE GPU-H", ["-" if each.idle_seconds is None else hours(each.idle_seconds) for each in rows])
        )
    columns.append(("WASTED", [hours(each) for each in wasted]))
    return _limited(columns, _LEAVE_OUT, screen)


def _limited(columns: Sequence[tuple[str, list[str]]], leave_out: Sequence[str], screen: Screen) -> list[str]:
    heads = [head for head, _ in columns]
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    names = [head for head in heads if head in ("TEMPLATE", "USER", "JOB")]
    lines = text_table.table(
        heads, rows[:_ROWS], [head for head in leave_out if head in heads], "--json has all", names=names,
        right=[head for head in heads if head not in names], screen=screen,
    ).splitlines()  # fmt: skip
    return [*lines, f"{len(rows) - _ROWS} more are in --json."] if len(rows) > _ROWS else lines


def _waste(report: PersonReport, screen: Screen) -> list[str]:
    """Return what was wasted, with the most expensive causes."""
    if not report.causes:
        return [_head("Nothing was wasted, as far as Slurm knows.", screen)]
    gpus, cpus = report.wasted
    amount = _amount(gpus, cpus)
    is_known = all(each.is_known for each in report.causes)
    lines = [_head(f"Wasted: {amount}{'' if is_known else ' at most'}", screen)]
    # of hours that are printed as 0.00 nobody wants to know
    causes = [each for each in report.causes if _is_some(each)][:_CAUSES]
    return lines + [line for each in causes for line in _cause(each, screen.width)]


def _is_some(each: Cause) -> bool:
    known = [seconds for seconds in (each.gpu_seconds, each.cpu_seconds) if seconds is not None]
    return not known or max(known) >= _SOME


def _cause(each: Cause, width: int | None) -> list[str]:
    """Return the lines of a cause; where it is too long, what to do begins a line: somebody copies it."""
    what, advice = printable(f"{each.what}: {_hours(each)};"), printable(each.advice)
    if width is None or len(what) + len(advice) + 5 <= width:
        return [f"  - {what} {advice}"]
    first, *more = [part for text in (what, advice) for part in text_table.folded(text, width - 4, breaks=False)]
    return [f"  - {first}", *(f"    {line}" for line in more)]


def _idle(report: "GroupReport", screen: Screen) -> list[str]:
    head = _head("Idle GPUs: less than 10% busy", screen)
    if report.idle_words:
        return [head, report.idle_words] if report.total.idle_seconds is None else [report.idle_words]
    return [head, *_few(report.idle, screen)] if report.idle else []


def _oversized(report: "GroupReport", screen: Screen) -> list[str]:
    if report.oversized_words:
        return [report.oversized_words]
    head = _head("Less than half used of what was asked for", screen)
    return [head, *_few(report.oversized, screen), "slurm-tf efficiency JOB says what to ask for."]


def _few(rows: "Sequence[Oversized]", screen: Screen) -> list[str]:
    unit = "GPU-H" if any(each.gpus for each in rows) else "CPU-H"
    columns = [
        ("JOB", [each.job for each in rows]),
        ("USER", [each.user or "-" for each in rows]),
        ("TEMPLATE", [each.label or "-" for each in rows]),
        ("GPUS", ["-" if each.gpus is None else str(each.gpus) for each in rows]),
        (unit, [hours(each.hours * 3600) for each in rows]),
        ("GPU", [share(each.gpu_use) for each in rows]),
        ("CPU", [share(each.cpu_use) for each in rows]),
        ("MEM", [share(each.memory_use) for each in rows]),
    ]
    return _limited(columns, ("MEM", "CPU", "GPUS"), screen)
