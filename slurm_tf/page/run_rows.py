"""What the page shows of runs in words, as the terminal does: a line of the list, a state with its colour, tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request

from slurm_tf.page.run_cache import RunCache
from slurm_tf.plots import charts
from slurm_tf.plots.charts import Plot, Series
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import (
    find_run,
    gpu_use,
    reasons,
    results,
    results_rows,
    run_params,
    run_summary,
    status_rows,
    stored_checkpoints,
    sweeps,
    waiting,
)
from slurm_tf.watch.results import Result
from slurm_tf.watch.run_overview import RunOverview

_UNKNOWN = "-"
# How many points a plot has, of how many metrics there are plots, and how many rows a table has.
_POINTS, _PLOTS, _ROWS = 300, 24, 50
_HELD_OUT = "val_"
# The addresses of a run, and of one point of a sweep.
RUN_ROUTES = ("/runs/{key}/{name}", "/runs/{key}/{name}/{point:int}")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the list: a run, or one point of a sweep. `colour`: a class of page.css."""

    address: str
    label: str
    state: str
    colour: str
    why: str
    step: str = _UNKNOWN
    loss: str = _UNKNOWN
    gpus: str = _UNKNOWN
    time: str = _UNKNOWN
    starts: str = _UNKNOWN


def named_points(request: Request, cache: RunCache) -> tuple[str, tuple[RunOverview, ...]]:
    """Return the key of the run that an address names, and its points, or the one named. Raises HTTPException."""
    key, point = request.path_params["key"], request.path_params.get("point")
    points = cache.find(key, point)
    if not points or points[0].selected.run.name != request.path_params["name"]:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such run; the list has all that there are")
    return key, points


def address(key: str, points: Sequence[RunOverview]) -> str:
    """Return the address of a run, or of a point where that is all of `points`; its name is there for the reader."""
    selected = points[0].selected
    found = run_address(key, selected.run.name)
    return found if len(points) > 1 or selected.point is None else f"{found}/{selected.point}"


def run_address(key: str, name: str) -> str:
    """Return the address of a whole run."""
    return f"/runs/{key}/{quote(name, safe='')}"


def run_row(key: str, points: Sequence[RunOverview], label: str) -> RunRow:
    """Return the line of a run, a sweep folded into one."""
    first, at = points[0], address(key, points)
    start = status_rows.start_text(waiting.earliest(points))
    if len(points) > 1:
        why = sweeps.best_words(points) or sweeps.reason_words(points)
        return RunRow(at, label, sweeps.state_words(points), colour(points), why, starts=start)
    progress = status_rows.leading_progress(first.attempt)
    return RunRow(
        address=at,
        label=label,
        state=state_words(first),
        colour=colour(points),
        why=why_words(first),
        step=_of_all(progress.step, progress.steps) if progress else _UNKNOWN,
        loss=status_rows.number_text(progress.values.get("loss")) if progress else _UNKNOWN,
        gpus=_UNKNOWN if first.is_over else _busy(first),
        time=status_rows.elapsed_text(first) or _UNKNOWN,
        starts=start,
    )


def point_rows(key: str, points: Sequence[RunOverview]) -> list[RunRow]:
    """Return a line for each point of a sweep."""
    return [run_row(key, [point], run_params.named(point.selected)) for point in points]


def labels(runs: Sequence[Sequence[RunOverview]]) -> list[str]:
    """Return for each run the name that tells it from the others."""
    return find_run.labels([find_run.SelectedRun(points[0].selected.run) for points in runs])


def state_words(point: RunOverview) -> str:
    """Return the state of a run or point; of one that runs what its attempt does now."""
    text = status_rows.state_text(point)
    words = text.lower().replace("_", " ") if point.job else text
    if point.state is not JobState.RUNNING or point.attempt is None or point.attempt.job != point.job:
        return words
    doing = point.attempt.staging.words if point.attempt.staging else point.attempt.state.value
    return words if doing == words else f"{words}: {doing}"


def why_words(point: RunOverview) -> str:
    """Return why a run waits or how it ended; "" where Slurm does not say, which the notes explain for all runs."""
    return "" if point.job and not point.records and point.notes else reasons.reason_words(point)


def colour(points: Sequence[RunOverview]) -> str:
    """Return the class of a state: of several points that of the worst."""
    found = set(map(_colour, points))
    return next(each for each in ("failed", "waiting", "running", "done", "unknown") if each in found)


def _colour(point: RunOverview) -> str:
    if point.is_over:
        return "done" if point.exit_code == 0 else "failed"
    known = {JobState.PENDING: "waiting", JobState.RUNNING: "running", JobState.COMPLETING: "running"}
    return known.get(point.state, "unknown")


def facts(points: Sequence[RunOverview]) -> list[tuple[str, str]]:
    """Return what is known of a run or sweep, by name, without what its view says elsewhere."""
    found = run_summary.of_sweep(points) if len(points) > 1 else run_summary.of_run(points[0])
    return [(name, text) for name, text in found if name not in ("Run", "Why", "State")]


def task_rows(point: RunOverview) -> list[list[str]]:
    """Return the cells of each task of the newest attempt: name, state, node, step, restarts, GPU use and memory."""
    tasks = point.attempt.tasks if point.attempt else {}
    gpus = gpu_use.of_tasks(point)
    return [
        [
            name,
            task.state.value + (f", exit code {task.code}" if task.code else ""),
            task.node or _UNKNOWN,
            status_rows.number_text(task.progress.step if task.progress else None),
            status_rows.number_text(task.restarts),
            *gpu_use.cells(gpu_use.of_role(name, {each: use for each, use in gpus.items() if each == name})),
        ]
        for name, task in tasks.items()
    ]


def attempt_rows(point: RunOverview) -> list[list[str]]:
    """Return the cells of each attempt, the newest first."""
    if not point.attempts:
        return []
    *former, last = point.attempts
    cells = [
        *(status_rows.attempt_cells(each, True) for each in former[-_ROWS:]),
        status_rows.last_attempt_cells(last, point),
    ]
    return cells[::-1]


def checkpoint_rows(point: RunOverview) -> list[list[str]]:
    """Return the cells of each checkpoint, the newest first."""
    try:
        found = stored_checkpoints.describe(point.selected.folder.checkpoints)
    except FileNotFoundError:
        return []
    return [
        [
            str(row["step"]),
            status_rows.age_text(row["written"]),  # type: ignore[arg-type]
            _UNKNOWN if row["size"] is None else f"{row['size'] / 1e6:.1f} MB",  # type: ignore[operator]
            str(row["problem"] or "whole"),
        ]
        for row in found[:_ROWS]
    ]


def log_names(point: RunOverview) -> list[tuple[str, str]]:
    """Return the logs of a run in words, each with the query that its address has."""
    found = [("Output of the job", "")] if point.job else []
    tasks = point.attempt.tasks if point.attempt else {}
    return found + [(name, f"task={quote(name, safe='')}") for name in tasks]


def plots(found: Result) -> list[tuple[Plot, str]]:
    """Return a plot of each metric, with that on held-out data beside it, and its last values in words."""
    groups: dict[str, list[str]] = {}
    for name in results.all_metrics([found]):
        groups.setdefault(name.removeprefix(_HELD_OUT), []).append(name)
    drawn = []
    for names in list(groups.values())[:_PLOTS]:
        series = [_series(found, name) for name in names if found.values(name)]
        if series:
            drawn.append((charts.curves(series, ", ".join(names), width=charts.NARROW), _last_words(found, names)))
    return drawn


def _series(result: Result, metric: str) -> Series:
    values = result.values(metric)
    every = -(-len(values) // _POINTS)
    return Series(metric, metric, [*values[:-1:every], values[-1]])


def _last_words(found: Result, names: Sequence[str]) -> str:
    """Return the last value of each metric of a run."""
    last = [(name, *found.values(name)[-1]) for name in names if found.values(name)]
    return ", ".join(f"{name} {results_rows.number(value)} at step {step}" for name, step, value in last)


def _busy(point: RunOverview) -> str:
    rows = [row for row in status_rows.roles(point) if row["gpu_busy"] is not None]
    return ", ".join(gpu_use.busy_text(row["gpu_busy"]) for row in rows) or _UNKNOWN


def _of_all(step: float | None, steps: float | None) -> str:
    if step is None:
        return _UNKNOWN
    return f"{step:.10g} of {steps:.10g}" if steps else f"{step:.10g}"
