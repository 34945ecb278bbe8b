"""Turns the results of runs into the columns of tables, and into lines that hold for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slurm_tf.run import placeholders
from slurm_tf.watch import gpu_use, results, run_params, status_rows
from slurm_tf.watch.results import Goal, Result

# How many failed runs a line names.
_NAMED = 10
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of results. `may_be_left_out`: where a table is too wide."""

    head: str
    cells: Sequence[str]
    may_be_left_out: bool = False


def columns(rows: Sequence[Result], metric: str) -> list[Column]:
    """Return the columns: the run, params that differ, state, step, metrics (`metric` first), time and hours."""
    shared = shared_params(rows)
    names = [name for name in _all_params(rows) if name not in shared]
    found = [
        Column("RUN", [each.name for each in rows]),
        *(Column(name, [_param(each, name) for each in rows]) for name in names),
        Column("STATE", [each.state for each in rows]),
        Column("STEP", [_NONE if each.step is None else str(each.step) for each in rows]),
    ]
    metrics = results.all_metrics(rows)
    for name in sorted(metrics, key=lambda each: (each != metric, metrics.index(each))):
        found += _of_metric(rows, name, may_be_left_out=name != metric)
    found.append(Column("TIME", [duration(each.seconds) for each in rows]))
    for head, hours in (("GPU-H", [each.gpu_hours for each in rows]), ("CPU-H", [each.cpu_hours for each in rows])):
        if any(hours):
            found.append(Column(head, [_NONE if each is None else f"{each:.4g}" for each in hours]))
            break
    busy = [each.gpu_busy for each in rows]
    if any(each is not None for each in busy):
        found.append(Column("GPU", [gpu_use.busy_text(each) for each in busy]))
    return found


def lines(rows: Sequence[Result], metric: str) -> list[str]:
    """Return what holds for all rows: the params that they share, the best one by `metric`, and which have failed."""
    found = []
    if shared := shared_params(rows):
        found.append(f"all: {run_params.words(shared)}")
    best = results.best(rows, metric)
    if best:
        found.append(best_line(best, metric))
    failed = [each.name for each in rows if each.has_failed]
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        found.append(f"{len(failed)} of {len(rows)} failed: {', '.join(failed[:_NAMED])}{more}")
    return found


def best_line(best: Result, metric: str) -> str:
    """Return which result is the best by a metric, and with which params."""
    found = best.metrics[metric]
    name = run_params.named(best.overview.selected)
    return f"best: {found.goal.value} {metric} {number(found.best)} at step {found.best_step} of {name}"


def shared_params(rows: Sequence[Result]) -> dict[str, Any]:
    """Return the params that have the same value in all of several rows."""
    if len(rows) < 2:
        return {}
    first = rows[0].params
    return {
        name: value
        for name, value in first.items()
        if all(name in each.params and each.params[name] == value for each in rows)
    }


def number(value: float | None) -> str:
    """Return a value of a metric as a cell."""
    return "nan" if value is None else f"{value:.5g}"


def duration(seconds: float | None) -> str:
    """Return a time as a cell, as squeue prints it."""
    return _NONE if seconds is None else status_rows.duration_text(seconds)


def _of_metric(rows: Sequence[Result], name: str, may_be_left_out: bool) -> list[Column]:
    """Return the columns of the last and, where its name says which is the best, of the best value of a metric."""
    found = [each.metrics.get(name) for each in rows]
    kind = results.goal(name)
    last = Column(name, [_NONE if each is None else number(each.last) for each in found], may_be_left_out)
    if kind is Goal.UNKNOWN:
        return [last]
    best = [_NONE if each is None else number(each.best) for each in found]
    return [Column(f"{kind.value} {name}", best, may_be_left_out), last]


def _all_params(rows: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for each in rows for name in each.params))


def _param(result: Result, name: str) -> str:
    return placeholders.value_text(result.params[name]) if name in result.params else _NONE
