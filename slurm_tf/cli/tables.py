"""Tables of runs, attempts and checkpoints, as text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from slurm_tf.cli import text_table
from slurm_tf.watch import find_run, gpu_use, reasons, run_params, run_summary, status_rows, sweeps, waiting
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview

# Number of attempts that are shown; --json has all that are kept.
_ATTEMPTS = 10
# Of the names before the values of a status.
_NAME_WIDTH = 11
_MORE = "--json has all"


def status(points: Sequence[RunOverview], each_point: bool = False, waits: Mapping[str, str] = {}) -> str:
    """Return the full status of one run or sweep point; of a sweep what is known of all points, or a table of them.

    `waits`: which limit of Slurm a job waits for, by its id.
    """
    if len(points) > 1:
        return (
            run_list(points, each_point)
            if each_point
            else text_table.summary(run_summary.of_sweep(points, waits), _NAME_WIDTH)
        )
    state = points[0]
    lines = [text_table.summary(run_summary.of_run(state, waits), _NAME_WIDTH)]
    rows = [
        [
            row["role"],
            f"{row['registered']}/{row['tasks']}",
            f"{row['running']}/{row['tasks']}",
            *(status_rows.number_text(row[key]) for key in ("step", "rate", "loss")),
            *gpu_use.cells(row),
            str(row["restarts"]),
        ]
        for row in status_rows.roles(state)
    ]
    if rows:
        heads = ["ROLE", "REGISTERED", "RUNNING", "STEP", "STEPS/S", "LOSS", "GPU", "GPU-MEM", "RESTARTS"]
        known = _known(heads, rows, ("STEP", "STEPS/S", "LOSS", "GPU", "GPU-MEM"))
        leave_out = ("RESTARTS", "REGISTERED", "GPU-MEM", "GPU", "LOSS", "STEPS/S")
        lines.append(text_table.table(*known, leave_out, _MORE))
    if state.attempts:
        *former, last = state.attempts[-_ATTEMPTS:]
        cells = [
            *(status_rows.attempt_cells(each, True) for each in former),
            status_rows.last_attempt_cells(last, state),
        ]
        heads = ["ATTEMPT", "STARTED", "TIME", "CHECKPOINTS", "CAUSE", "REASON"]
        known = _known(heads, cells, ("CHECKPOINTS",))
        lines.append(text_table.table(*known, ("STARTED", "CHECKPOINTS", "TIME", "CAUSE"), _MORE))
    return "\n".join(lines).rstrip() + "\n"


def run_list(points: Sequence[RunOverview], each_point: bool = False) -> str:
    """Return a table with one line for each run; for each point of a sweep, if `each_point`."""
    groups = [[point] for point in points] if each_point else list(sweeps.by_run(points))
    shown = [group[0].selected if len(group) == 1 else SelectedRun(group[0].selected.run) for group in groups]
    rows = [
        [label, *(_run_cells(group[0]) if len(group) == 1 else _sweep_cells(group))]
        for group, label in zip(groups, find_run.labels(shown), strict=True)
    ]
    heads = ["RUN", "PARAMS", "JOB", "STATE", "TIME", "STARTS", "STEP", "LOSS", "CHECKPOINT", "NODES", "REASON"]
    known = _known(heads, rows, ("PARAMS", "STARTS", "STEP", "LOSS", "CHECKPOINT"))
    leave_out = ("NODES", "CHECKPOINT", "LOSS", "STEP", "STARTS", "TIME", "PARAMS", "JOB")
    return text_table.table(*known, leave_out, _MORE)


def _run_cells(state: RunOverview) -> list[str]:
    """Return the cells of a run or sweep point."""
    known = status_rows.as_dict(state)
    return [
        run_params.words(run_params.of_point(state.selected)) or "-",
        state.job or "-",
        status_rows.state_text(state),
        status_rows.elapsed_text(state) or "-",
        status_rows.start_text(waiting.expected_start(state)),
        status_rows.number_text(known["step"]),
        status_rows.number_text((known["values"] or {}).get("loss")),
        str(state.checkpoint.step) if state.checkpoint else "-",
        status_rows.node_lists(state.records) or "-",
        reasons.reason_words(state),
    ]


def _sweep_cells(points: Sequence[RunOverview]) -> list[str]:
    """Return the cells of a sweep, folded into one line."""
    reason = sweeps.best_words(points) or sweeps.reason_words(points)
    nodes = sweeps.node_lists(points) or "-"
    start = status_rows.start_text(waiting.earliest(points))
    return ["-", sweeps.jobs(points) or "-", sweeps.state_words(points), "-", start, "-", "-", "-", nodes, reason]


def checkpoint_cells(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of one checkpoint: step, time since it was written, size, and "whole" or what is wrong."""
    size = "-" if row["size"] is None else f"{row['size'] / 1e6:.1f} MB"
    return [str(row["step"]), status_rows.age_text(row["written"]), size, row["problem"] or "whole"]


def size_text(size: int) -> str:
    """Return an amount of bytes in its largest unit, as `df -H` does."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


def _known(
    heads: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows without the columns of `optional` in which nothing is known."""
    kept = [n for n, head in enumerate(heads) if head not in optional or any(row[n] != "-" for row in rows)]
    return [heads[n] for n in kept], [[row[n] for n in kept] for row in rows]
