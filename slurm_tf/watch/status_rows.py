"""Turns the states of runs into cells of tables and into JSON; what is not recorded anywhere is "unknown"."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from slurm_tf.run import attempts
from slurm_tf.run.attempts import KILLED, Attempt, EndCause
from slurm_tf.run.settings import DATA_SERVICE
from slurm_tf.run.status import Progress, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.watch import gpu_use, logs, reasons, run_params, waiting
from slurm_tf.watch.run_overview import RunOverview

UNKNOWN = "unknown"
# The cause of the end of a job that Slurm itself ended, in the words of an attempt where it has them.
_CAUSES = {
    JobState.CANCELLED: EndCause.CANCEL.value,
    JobState.DEADLINE: "deadline",
    JobState.NODE_FAIL: "node failure",
    JobState.OUT_OF_MEMORY: "out of memory",
    JobState.PREEMPTED: EndCause.PREEMPTION.value,
    JobState.TIMEOUT: EndCause.TIMEOUT.value,
}
# Roles whose first task reports the progress of the training, in this order.
_LEADING_ROLES = ("chief", "worker")


def as_dict(state: RunOverview) -> dict[str, Any]:
    """Return all that is known about a run or sweep point, for --json; None: unknown, times in s since the epoch."""
    first = state.records[0] if state.records else None
    attempt, progress = state.attempt, leading_progress(state.attempt)
    return {
        "run": state.selected.name,
        "folder": state.selected.folder.path,
        "params": run_params.of_run(state.selected),
        "job": state.job or None,
        "state": state.state.name if state.job or state.is_over else None,
        "reason": first.reason or None if first else None,
        "reason_words": reasons.reason_words(state) or None,
        "nodes": [record.nodes for record in state.records if record.nodes],
        "submitted": _epoch_seconds(first.submitted if first else None),
        "started": _epoch_seconds(first.started if first else None),
        "waited": length.total_seconds() if (length := waiting.waited(state)) else None,
        "expected_start": _epoch_seconds(waiting.expected_start(state)),
        "reservation": waiting.reservation_as_dict(state),
        "ended": _epoch_seconds(_end_time(state)),
        "exit_code": state.exit_code,
        "cancelled": state.cancelled,
        "step": progress.step if progress else None,
        "steps": progress.steps if progress else None,
        "rate": progress.rate if progress else None,
        "values": progress.values if progress else None,
        **{name.replace(" ", "_"): path for name, path in places(state).items()},
        "failed": (attempt.failed or None) if attempt else None,
        "checkpoint": asdict(state.checkpoint) if state.checkpoint else None,
        "restarts": attempt.restarts if attempt else None,
        "requeues": first.restarts if first else None,
        "attempt": {key: getattr(attempt, key) for key in ("state", "code", "reason", "written")} if attempt else None,
        "attempts": None if state.attempts is None else [asdict(each) for each in state.attempts],
        "bad_nodes": None
        if state.bad_nodes is None
        else {node: asdict(found) for node, found in state.bad_nodes.items()},
        "stragglers": asdict(attempt.stragglers) if attempt and attempt.stragglers else None,
        "staging": asdict(attempt.staging) if attempt and attempt.staging else None,
        "roles": roles(state),
        "tasks": {name: _task_as_dict(task) for name, task in attempt.tasks.items()} if attempt else {},
        "gpus": gpu_use.as_dict(state),
        "notes": list(state.notes),
    }


def places(state: RunOverview) -> dict[str, str | None]:
    """Return the paths of what a run wrote, None for what is not there.

    The job's log; that of the task that failed first; the folder of checkpoints; the exported model, or the folder of
    several.
    """
    folder, attempt = state.selected.folder, state.attempt
    failed = attempt.failed if attempt and attempt.job == state.job else ""
    role, _, index = failed.partition(":")
    log = logs.job_output(state.selected) if state.job else ""
    task_log = folder.log(role, int(index)) if index.isdigit() else ""
    checkpoints = folder.checkpoints if state.checkpoint else ""
    found = {"log": log, "task log": task_log, "checkpoints": checkpoints, "model": folder.model_path()}
    return {name: path if path and os.path.exists(path) else None for name, path in found.items()}


def roles(state: RunOverview) -> list[dict[str, Any]]:
    """Return a row for each role: its number of tasks, registered and running; progress of a task; restarts."""
    tasks = state.attempt.tasks if state.attempt else {}
    gpus = gpu_use.of_tasks(state)
    grouped: dict[str, list[TaskStatus]] = {}
    for name, task in sorted(tasks.items(), key=lambda item: _task_order(item[0])):
        grouped.setdefault(name.partition(":")[0], []).append(task)
    rows = []
    for role, members in grouped.items():
        progress = next((task.progress for task in members if task.progress), None)
        rows.append(
            {
                "role": role,
                "tasks": len(members),
                "registered": sum(task.state is not TaskState.MISSING for task in members),
                "running": sum(task.state is TaskState.RUNNING for task in members),
                "step": progress.step if progress else None,
                "rate": progress.rate if progress else None,
                "loss": progress.values.get("loss") if progress else None,
                **gpu_use.of_role(role, gpus),
                "restarts": sum(task.restarts or 0 for task in members),
            }
        )
    return rows


def state_text(state: RunOverview) -> str:
    """Return the state as squeue prints it in long form; "unknown" if Slurm does not say.

    A run without a job that has an attempt is one of `slurm-tf run`.
    """
    if not state.job:
        return "without Slurm" if state.attempt else "not submitted"
    words = UNKNOWN if state.state is JobState.UNKNOWN else state.state.name
    return f"{words} (cancelled)" if state.cancelled and not state.is_over else words


def number_text(value: object, digits: int = 4) -> str:
    """Return a number as a cell: `digits` significant digits of a float, "-" for None."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def age_text(seconds: float | None) -> str:
    """Return how long ago `seconds` since the epoch was, in its largest unit."""
    if seconds is None:
        return UNKNOWN
    return f"{_largest_unit(time.time() - seconds)} ago"


def start_text(when: datetime | None) -> str:
    """Return how far ahead the expected start of a job is, in its largest unit; "-" if it is unknown."""
    return f"in {_largest_unit(when.timestamp() - time.time())}" if when else "-"


def waited_text(state: RunOverview) -> str:
    """Return how long the job has waited, or waited until it started; "" if that is unknown."""
    length = waiting.waited(state)
    return "" if length is None else duration_text(length.total_seconds())


def _largest_unit(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def elapsed_text(state: RunOverview) -> str:
    """Return how long the job has run since its last start, as squeue prints it; "" if it has not started."""
    first = state.records[0] if state.records else None
    if first is None or first.started is None or state.state is JobState.PENDING:
        return ""
    end = _end_time(state) or datetime.now().astimezone()
    return duration_text((end - first.started).total_seconds())


def attempt_cells(each: Attempt, is_over: bool) -> list[str]:
    """Return the cells of one attempt: id, start, duration, checkpointed steps, cause and reason of its end.

    `is_over`: whether it has ended, even if it has not recorded its end.
    """
    steps = _saved_steps(each)
    reason = each.reason.partition("\n")[0]
    cause = each.cause.value or "-"
    if each.ended is None:
        end = "; ".join(filter(None, [reason, KILLED if is_over else ""]))
        return [each.id, age_text(each.started), UNKNOWN if is_over else "-", steps, cause, end]
    end = reason or f"exit code {each.code}"
    return [each.id, age_text(each.started), duration_text(each.ended - each.started), steps, cause, end]


def _saved_steps(each: Attempt) -> str:
    """Return the first and the last step that an attempt saved, "-" for none."""
    if each.last is None:
        return "-"
    return str(each.last) if each.first == each.last else f"{each.first}-{each.last}"


def last_attempt_cells(each: Attempt, state: RunOverview) -> list[str]:
    """Return the cells of the run's last attempt: where it could not record its end, Slurm says its cause."""
    is_over = has_no_running_attempt(state)
    *cells, cause, end = attempt_cells(each, is_over)
    if each.ended is None and is_over and each.cause is EndCause.NONE:
        cause = _CAUSES.get(state.state, cause)
    return [*cells, cause, end]


def has_no_running_attempt(state: RunOverview) -> bool:
    """Return whether the run is over or pending."""
    return state.is_over or state.state is JobState.PENDING


def bad_node_lines(state: RunOverview) -> list[str]:
    """Return a line for each node that the next attempt excludes."""
    if state.bad_nodes is None:
        return [UNKNOWN]
    return [f"{node}  {found.reason}, {age_text(found.at)}" for node, found in sorted(state.bad_nodes.items())]


def tensorflow_lines(state: RunOverview) -> list[str]:
    """Return the TensorFlow of the newest attempt, with what it was before that; by role where roles differ."""
    *former, last = state.attempts or (Attempt("", "", 0.0),)
    texts = dict(sorted(last.tensorflow.items()))
    for role, version in last.tensorflow.items():
        before = attempts.tensorflow_before(former, role)
        texts[role] = f"{version}, before that {before}" if before not in ("", version) else version
    if len(set(texts.values())) < 2:
        return [*texts.values()][:1]
    return [f"{role}: {text}" for role, text in texts.items()]


def straggler_lines(state: RunOverview) -> list[str]:
    """Return a line for each straggler; none unless there are at least two tasks, and one is running."""
    if state.attempt is None or has_no_running_attempt(state) or len(state.attempt.tasks) < 2:
        return []
    tasks, known = state.attempt.tasks, state.attempt.stragglers
    if known is None:
        return [UNKNOWN] if any(task.state is TaskState.RUNNING for task in tasks.values()) else []
    names = sorted(known.slow, key=_task_order)
    nodes = {name: tasks[name].node if name in tasks else None for name in names}
    return [f"{name} on {nodes[name] or UNKNOWN} {known.slow[name].words}" for name in names] or ["none"]


def duration_text(length: float) -> str:
    """Return a time as squeue prints it."""
    seconds = max(0, int(length))
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _end_time(state: RunOverview) -> datetime | None:
    if not state.is_over:
        return None
    return max((record.ended for record in state.records if record.ended), default=None)


def leading_progress(attempt: RunStatus | None) -> Progress | None:
    """Return the progress that the chief or worker 0 reported; None if there is none."""
    tasks = attempt.tasks if attempt else {}
    found = (tasks[f"{role}:0"].progress for role in _LEADING_ROLES if f"{role}:0" in tasks)
    return next((progress for progress in found if progress), None)


def _task_as_dict(task: TaskStatus) -> dict[str, Any]:
    """Return the known fields of a task, for --json; a lost task has the code None, since its end is unknown."""
    lost = task.state is TaskState.LOST
    return {key: value for key, value in asdict(task).items() if value is not None or (lost and key == "code")}


def _task_order(name: str) -> tuple[int, int]:
    role, _, index = name.partition(":")
    order = ("driver", "chief", "worker", "ps", "evaluator", "scheduler", *DATA_SERVICE)
    return (order.index(role) if role in order else len(order), int(index) if index.isdigit() else 0)


def _epoch_seconds(when: datetime | None) -> float | None:
    return when.timestamp() if when else None


def node_lists(records: Sequence[JobRecord]) -> str:
    """Return the node lists of all components."""
    return ",".join(record.nodes for record in records if record.nodes)
