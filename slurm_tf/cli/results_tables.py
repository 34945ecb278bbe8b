"""The results of runs as a text table, as CSV and as JSON."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from slurm_tf.cli import text_table
from slurm_tf.run import placeholders
from slurm_tf.watch import results, results_rows
from slurm_tf.watch.results import Goal, Result

# The last columns of CSV.
_TOTALS = ("seconds", "cpu_hours", "gpu_hours", "gpu_busy")


def text(rows: Sequence[Result], metric: str) -> str:
    """Return the results as a table that fits the terminal, with `metric` before the other ones, and what is common."""
    columns = results_rows.columns(rows, metric)
    heads, cells = [each.head for each in columns], [each.cells for each in columns]
    leave_out = [
        *(each.head for each in reversed(columns) if each.may_be_left_out),
        "GPU",
        "CPU-H",
        "GPU-H",
        "TIME",
        "STEP",
    ]
    table = text_table.table(heads, list(zip(*cells, strict=True)), leave_out, "--csv has all")
    return table + text_table.sentences(results_rows.lines(rows, metric))


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
