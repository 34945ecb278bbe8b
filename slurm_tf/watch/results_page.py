"""The HTML page of results: a table of all runs, and the curves of their metrics."""

from collections.abc import Sequence
from pathlib import Path

from slurm_tf.plots import charts, html_page
from slurm_tf.plots.charts import Plot, Series
from slurm_tf.watch import results, results_rows, run_params
from slurm_tf.watch.results import Result

# How many curves of a plot are named and have a colour, how many points one has, and of how many metrics there are any.
_NAMED, _POINTS, _PLOTS = 8, 300, 24


def write(path: Path, rows: Sequence[Result], metric: str) -> None:
    """Write the page, with the curves of `metric` first. Raises UsageError."""
    columns = results_rows.columns(rows, metric)
    names = sorted({each.overview.selected.run.name for each in rows})
    values = {
        "title": f"Results of {', '.join(names)}",
        "heads": [each.head for each in columns],
        "rows": list(zip(*(each.cells for each in columns), strict=True)),
        "failed": [each.has_failed for each in rows],
        "lines": results_rows.lines(rows, metric),
        "plots": plots(rows, metric),
    }
    html_page.write(path, Path(__file__).with_name("results.html.j2"), values)


def plots(rows: Sequence[Result], metric: str, width: int = charts.WIDE) -> list[Plot]:
    """Return a plot of each metric, `metric` first, with a curve for each run; `width`: WIDE or NARROW of charts."""
    metrics = results.all_metrics(rows)
    found = []
    for name in sorted(metrics, key=lambda each: (each != metric, metrics.index(each)))[:_PLOTS]:
        # the best runs have the colours, and lie on top
        known = [each for each in results.ordered(rows, name) if each.values(name)]
        if known:
            series = [_series(each, name, number < _NAMED) for number, each in enumerate(known)]
            which = f", in colour the first {_NAMED} of {len(known)} by it" if len(known) > _NAMED else ""
            found.append(charts.curves(series, f"{name}{which}", width=width))
    return found


def _series(result: Result, metric: str, is_named: bool) -> Series:
    values, found = result.values(metric), result.metrics[metric]
    label = run_params.named(result.overview.selected)
    best = "" if found.best is None else f", {found.goal.value} {results_rows.number(found.best)} at {found.best_step}"
    title = f"{label}: last {results_rows.number(found.last)}{best}"
    every = -(-len(values) // _POINTS)
    return Series(label if is_named else "", title, [*values[:-1:every], values[-1]])
