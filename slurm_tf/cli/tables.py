"""Tables of runs, attempts and checkpoints, as text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from slurm_tf.cli import text_table
from slurm_tf.slurm.records import whole_job
from slurm_tf.watch import find_run, gpu_use, reasons, run_params, status_rows, sweeps, waiting
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview

# Number of attempts that are shown; --json has all that are kept.
_ATTEMPTS = 10
# Number of failed points of a sweep that are shown.
_POINTS = 10
# Of the names before the values of a status.
_NAME_WIDTH = 11
_MORE = "--json has all"


def status(points: Sequence[RunOverview], each_point: bool = False) -> str:
    """Return the full status of one run or sweep point; of a sweep what is known of all points, or a table of them."""
    if len(points) > 1:
        return run_list(points, each_point) if each_point else text_table.summary(_sweep_rows(points), _NAME_WIDTH)
    state = points[0]
    lines = [text_table.summary(_summary_rows(state), _NAME_WIDTH)]
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
        heads = ["ATTEMPT", "STARTED", "TIME", "CHECKPOINTS", "MEANING", "REASON"]
        known = _known(heads, cells, ("CHECKPOINTS",))
        lines.append(text_table.table(*known, ("STARTED", "CHECKPOINTS", "TIME", "MEANING"), _MORE))
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


def _sweep_rows(points: Sequence[RunOverview]) -> list[tuple[str, str]]:
    """Return what is known of all points of a sweep, and of those that failed."""
    run = SelectedRun(points[0].selected.run)
    over, start = ", ".join(run_params.of_point(points[0].selected)), waiting.earliest(points)
    rows = [
        ("Run", f"{run.name}, {len(points)} points{f' over {over}' if over else ''}"),
        ("Job", sweeps.jobs(points) or "-"),
        ("State", sweeps.state_words(points)),
        ("Why", sweeps.reason_words(points)),
        ("Starts", f"the next one {status_rows.start_text(start)}, as Slurm expects now" if start else ""),
        ("Sooner", next((words for each in points if (words := waiting.sooner_words(each, whole_job(each.job)))), "")),
        ("Params", run_params.words(run_params.of_run(run))),
        ("Best", sweeps.best_words(points).removeprefix("best: ")),
        ("Nodes", sweeps.node_lists(points)),
    ]
    failed = sweeps.failed(points)
    for point in failed[:_POINTS]:
        why = reasons.reason_words(point) or f"exit code {point.exit_code}"
        rows.append(("Failed", f"{run_params.named(point.selected)}: {why}"))
    if len(failed) > _POINTS:
        rows.append(("Failed", f"and {len(failed) - _POINTS} more"))
    rows += [("Bad node", line) for line in status_rows.bad_node_lines(points[0])]
    rows += [("Note", note) for note in points[0].notes]
    return [(name, text) for name, text in rows if text]


def _summary_rows(state: RunOverview) -> list[tuple[str, str]]:
    attempt = state.attempt
    rows = [("Run", state.selected.name), ("Job", f"{state.job or '-'}  {status_rows.state_text(state)}")]
    if params := run_params.words(run_params.of_run(state.selected)):
        rows.append(("Params", params))
    if why := reasons.reason_words(state):
        rows.append(("Why", why))
    rows += _waiting_rows(state)
    if time := status_rows.elapsed_text(state):
        rows.append(("Time", time))
    if nodes := status_rows.node_lists(state.records):
        rows.append(("Nodes", nodes))
    if attempt:
        doing = attempt.staging.words if attempt.staging else attempt.state.value
        said = f"{doing}, {attempt.restarts} restarts, as of {status_rows.age_text(attempt.written)}"
        rows.append(("Attempt", said))
    rows += [("TensorFlow", line) for line in status_rows.tensorflow_lines(state)]
    if newest := state.checkpoint:
        rows.append(("Checkpoint", f"step {newest.step}, {status_rows.age_text(newest.written)}"))
    elif any(each.speaks for each in state.attempts or ()):
        rows.append(("Checkpoint", "none"))
    rows += [("Slow", line) for line in status_rows.straggler_lines(state)]
    if state.attempts is None:
        rows.append(("Attempts", status_rows.UNKNOWN))
    rows += [("GPUs", line) for line in gpu_use.problem_lines(state)]
    rows += [("Bad node", line) for line in status_rows.bad_node_lines(state)]
    if state.exit_code is not None:
        rows.append(("Exit code", str(state.exit_code)))
    paths = status_rows.places(state)
    rows += [(name.capitalize(), paths[name] or "") for name in ("log", "task log", "model") if paths[name]]
    return rows + [("Note", note) for note in state.notes]


def _waiting_rows(state: RunOverview) -> list[tuple[str, str]]:
    """Return how long a run has waited and, while it waits, when Slurm expects to start it, and what is sooner."""
    when = waiting.expected_start(state)
    starts = f"{status_rows.start_text(when)}, at {when:%Y-%m-%dT%H:%M:%S}, as Slurm expects now" if when else ""
    if not when and waiting.may_start(state):
        starts = f"{status_rows.UNKNOWN}: Slurm expects no time yet"
    waited, sooner = status_rows.waited_text(state), waiting.sooner_words(state)
    return [(name, text) for name, text in (("Waited", waited), ("Starts", starts), ("Sooner", sooner)) if text]
