"""The results of runs as a text table, as CSV and as JSON."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len

from slurm_tf.cli import tables
from slurm_tf.cli.terminal import printable
from slurm_tf.run import placeholders
from slurm_tf.watch import results, results_rows
from slurm_tf.watch.results import Goal, Result
from slurm_tf.watch.results_rows import Column

_GAP = 2
# The last columns of CSV.
_TOTALS = ("seconds", "cpu_hours", "gpu_hours", "gpu_busy")


def text(rows: Sequence[Result], metric: str, width: int | None) -> str:
    """Return the results for a terminal of `width` columns, with `metric` before the other ones; None: no limit."""
    columns, left_out = _fitting(results_rows.columns(rows, metric), width)
    heads, cells = [each.head for each in columns], [each.cells for each in columns]
    lines = results_rows.lines(rows, metric)
    if left_out:
        lines.append(f"too wide for {width} columns: {', '.join(left_out)}; --csv has all")
    return tables.table(heads, list(zip(*cells, strict=True))) + "".join(f"{printable(each)}\n" for each in lines)


def as_dict(result: Result) -> dict[str, Any]:
    """Return one result for --json; None: unknown, times in seconds."""
    return {
        "run": result.name,
        "params": dict(result.params),
        "state": result.state,
        "failed": result.has_failed,
        "step": result.step,
        "metrics": {
            name: {"last": each.last, "best": each.best, "best_step": each.best_step, "goal": each.goal.value or None}
            for name, each in result.metrics.items()
        },
        "seconds": result.seconds,
        "cpu_hours": result.cpu_hours,
        "gpu_hours": result.gpu_hours,
        "gpu_busy": result.gpu_busy,
    }


def comma_separated(rows: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of a CSV table; a metric has a column NAME, its best one "min NAME" or "max NAME"."""
    names, metrics = list(dict.fromkeys(name for each in rows for name in each.params)), results.all_metrics(rows)
    bests = {name: f"{results.goal(name).value} {name}" for name in metrics if results.goal(name) is not Goal.UNKNOWN}
    yield _line(["run", *names, "state", "step", *(_heads(metrics, bests)), *_TOTALS])
    for each in rows:
        cells: list[object] = [
            each.name,
            *(placeholders.value_text(each.params[name]) if name in each.params else None for name in names),
            each.state,
            each.step,
        ]
        for name in metrics:
            found = each.metrics.get(name)
            cells.append(found.last if found else None)
            if name in bests:
                cells.append(found.best if found else None)
        yield _line([*cells, *(getattr(each, name) for name in _TOTALS)])


def _heads(metrics: Sequence[str], bests: dict[str, str]) -> list[str]:
    return [head for name in metrics for head in (name, bests.get(name, "")) if head]


def _line(cells: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(["" if each is None else each for each in cells])
    return out.getvalue()


def _fitting(columns: list[Column], width: int | None) -> tuple[list[Column], list[str]]:
    """Return the columns that fit into `width`, and the heads of the others: the last metrics are left out first."""
    kept, left_out = list(columns), list[str]()
    while width is not None and _width(kept) > width:
        optional = [number for number, each in enumerate(kept) if each.may_be_left_out]
        if not optional:
            break
        left_out.insert(0, kept.pop(optional[-1]).head)
    return kept, left_out


def _width(columns: Sequence[Column]) -> int:
    cells = [max(cell_len(printable(text)) for text in (each.head, *each.cells)) for each in columns]
    return sum(cells) + _GAP * (len(columns) - 1)
