"""States of runs as rows: what a table shows and what --json holds. "unknown" is what nobody said."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from slurm_tf.run.attempts import KILLED, Attempt
from slurm_tf.run.status import Progress, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm import pending_reasons
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.watch.run_state import PointState

UNKNOWN = "unknown"
# In the order in which they say most.
_LEADS = ("chief", "worker")


def point(state: PointState) -> dict[str, Any]:
    """Return all that is known of one run or point, for --json; None is unknown. Times: seconds since the epoch."""
    first = state.records[0] if state.records else None
    attempt, progress = state.attempt, _lead_progress(state.attempt)
    return {
        "run": state.target.name,
        "job": state.job or None,
        "state": state.state.name if state.job else None,
        "reason": first.reason or None if first else None,
        "reason_words": why(state) or None,
        "nodes": [record.nodes for record in state.records if record.nodes],
        "submitted": _seconds(first.submitted if first else None),
        "started": _seconds(first.started if first else None),
        "ended": _seconds(_ended(state)),
        "exit_code": state.exit_code,
        "cancelled": state.cancelled,
        "step": progress.step if progress else None,
        "steps": progress.steps if progress else None,
        "rate": progress.rate if progress else None,
        "values": progress.values if progress else None,
        "checkpoint": asdict(state.checkpoint) if state.checkpoint else None,
        "restarts": attempt.restarts if attempt else None,
        "requeues": first.restarts if first else None,
        "attempt": {key: getattr(attempt, key) for key in ("state", "code", "reason", "written")} if attempt else None,
        "attempts": None if state.attempts is None else [_attempt(each) for each in state.attempts],
        "bad_nodes": None
        if state.bad_nodes is None
        else {node: asdict(found) for node, found in state.bad_nodes.items()},
        "stragglers": asdict(attempt.stragglers) if attempt and attempt.stragglers else None,
        "roles": roles(state),
        "tasks": {name: _task(task) for name, task in attempt.tasks.items()} if attempt else {},
        "notes": list(state.notes),
    }


def roles(state: PointState) -> list[dict[str, Any]]:
    """Return one row a role: how many tasks registered and run, progress of its first task, restarts."""
    tasks = state.attempt.tasks if state.attempt else {}
    grouped: dict[str, list[TaskStatus]] = {}
    for name, task in sorted(tasks.items(), key=lambda item: _number(item[0])):
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
                "restarts": sum(task.restarts or 0 for task in members),
            }
        )
    return rows


def why(state: PointState) -> str:
    """Return in words why a run is where it is; "" where nothing needs saying."""
    if not state.job:
        return "it was not submitted"
    if not state.records:
        return "; ".join(state.notes) or f"Slurm has no record of job {state.job}"
    record = state.records[0]
    if state.state is JobState.PENDING and record.reason:
        never = " (it will never start)" if pending_reasons.is_permanent(record.reason) else ""
        return f"{pending_reasons.explain(record.reason)}{never}"
    reason = state.attempt.reason if state.attempt and state.is_over else ""
    return reason.partition("\n")[0]


def state_words(state: PointState) -> str:
    """Return the state as squeue writes it in long form; "unknown" where Slurm does not say."""
    if not state.job:
        return "not submitted"
    words = UNKNOWN if state.state is JobState.UNKNOWN else state.state.name
    return f"{words} (cancelled)" if state.cancelled and not state.is_over else words


def amount(value: object, digits: int = 4) -> str:
    """Return a number for a table."""
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def ago(seconds: float | None) -> str:
    """Return how long ago a time was, in its largest unit."""
    if seconds is None:
        return UNKNOWN
    past = max(0.0, time.time() - seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if past >= 2 * size:
            return f"{past / size:.0f} {unit} ago"
    return f"{past:.0f} s ago"


def elapsed(state: PointState) -> str:
    """Return how long the newest incarnation has run, as squeue does; "" if it has not."""
    first = state.records[0] if state.records else None
    if first is None or first.started is None or state.state is JobState.PENDING:
        return ""
    end = _ended(state) or datetime.now().astimezone()
    return _clock((end - first.started).total_seconds())


def attempt(each: Attempt, is_over: bool) -> list[str]:
    """Return the cells of one attempt: name, start, length, steps that it saved, why the run went on, how it ended.

    `is_over`: it does not run any more, also where it has not said so.
    """
    steps = "-" if each.last is None else f"{each.first}-{each.last}" if each.first != each.last else str(each.last)
    reason = each.reason.partition("\n")[0]
    cause = each.cause.value or "-"
    if each.ended is None:
        end = "; ".join(filter(None, [reason, KILLED if is_over else ""]))
        return [each.id, ago(each.started), UNKNOWN if is_over else "-", steps, cause, end]
    end = reason or f"exit code {each.code}"
    return [each.id, ago(each.started), _clock(each.ended - each.started), steps, cause, end]


def _attempt(each: Attempt) -> dict[str, Any]:
    """Return one attempt for --json, where its cause is called "meaning"."""
    return {"meaning" if key == "cause" else key: value for key, value in asdict(each).items()}


def is_between(state: PointState) -> bool:
    """Whether no attempt runs."""
    return state.is_over or state.state is JobState.PENDING


def bad_nodes(state: PointState) -> list[str]:
    """Return a line for each node that the next attempt leaves out."""
    if state.bad_nodes is None:
        return [UNKNOWN]
    return [f"{node}  {found.reason}, {ago(found.at)}" for node, found in sorted(state.bad_nodes.items())]


def slow(state: PointState) -> list[str]:
    """Return a line for each task that others wait for; nothing where no two tasks run."""
    if state.attempt is None or is_between(state) or len(state.attempt.tasks) < 2:
        return []
    tasks, known = state.attempt.tasks, state.attempt.stragglers
    if known is None:
        return [UNKNOWN]
    names = sorted(known.slow, key=_number)
    nodes = {name: tasks[name].node if name in tasks else None for name in names}
    return [f"{name} on {nodes[name] or UNKNOWN} {known.slow[name].words}" for name in names] or ["none"]


def _clock(length: float) -> str:
    seconds = max(0, int(length))
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _ended(state: PointState) -> datetime | None:
    if not state.is_over:
        return None
    return max((record.ended for record in state.records if record.ended), default=None)


def _lead_progress(attempt: RunStatus | None) -> Progress | None:
    """Return the progress of the chief or of worker 0."""
    tasks = attempt.tasks if attempt else {}
    found = (tasks[f"{role}:0"].progress for role in _LEADS if f"{role}:0" in tasks)
    return next((progress for progress in found if progress), None)


def _task(task: TaskStatus) -> dict[str, Any]:
    """Return what is known of a task, for --json: the code of one that is lost is known to be unknown."""
    lost = task.state is TaskState.LOST
    return {key: value for key, value in asdict(task).items() if value is not None or (lost and key == "code")}


def _number(name: str) -> tuple[int, int]:
    role, _, index = name.partition(":")
    order = ("chief", "worker", "ps", "evaluator")
    return (order.index(role) if role in order else len(order), int(index) if index.isdigit() else 0)


def _seconds(when: datetime | None) -> float | None:
    return when.timestamp() if when else None


def nodes(records: Sequence[JobRecord]) -> str:
    """Return the node lists of all components."""
    return ",".join(record.nodes for record in records if record.nodes)
