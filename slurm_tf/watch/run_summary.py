"""What is known about one run or a sweep as rows of (name, text), for a terminal and for the page."""

from collections.abc import Mapping, Sequence

from slurm_tf.slurm.records import whole_job
from slurm_tf.watch import gpu_use, reasons, run_params, status_rows, sweeps, waiting
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview

# Number of failed points of a sweep that are shown.
_POINTS = 10


def of_sweep(points: Sequence[RunOverview], waits: Mapping[str, str] = {}) -> list[tuple[str, str]]:
    """Return what is known of all points of a sweep, and of those that failed; `waits` as for of_run."""
    run = SelectedRun(points[0].selected.run)
    over, start = ", ".join(run_params.of_point(points[0].selected)), waiting.earliest(points)
    rows = [
        ("Run", f"{run.name}, {len(points)} points{f' over {over}' if over else ''}"),
        ("Job", sweeps.jobs(points) or "-"),
        ("State", sweeps.state_words(points)),
        ("Why", sweeps.reason_words(points)),
        ("Limit", next((waits[point.job] for point in points if point.job in waits), "")),
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


def of_run(state: RunOverview, waits: Mapping[str, str] = {}) -> list[tuple[str, str]]:
    """Return what is known of a run or sweep point. `waits`: which limit of Slurm a job waits for, by its id."""
    attempt = state.attempt
    rows = [("Run", state.selected.name), ("Job", f"{state.job or '-'}  {status_rows.state_text(state)}")]
    if params := run_params.words(run_params.of_run(state.selected)):
        rows.append(("Params", params))
    if why := reasons.reason_words(state):
        rows.append(("Why", why))
    rows += [("Limit", text) for job, text in waits.items() if job == state.job]
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
