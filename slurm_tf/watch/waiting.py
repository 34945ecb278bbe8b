"""How long a run has waited, when Slurm expects to start it, and what would make it start sooner."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from slurm_tf.slurm import pending_reasons
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch.run_overview import RunOverview


def waited(state: RunOverview, now: datetime | None = None) -> timedelta | None:
    """Return how long the newest job has waited: since it was submitted or requeued, until it started or ended."""
    first = state.records[0] if state.records else None
    if first is None or first.submitted is None:
        return None
    end = first.started or (first.ended if first.state.ended else None) or now or datetime.now().astimezone()
    return max(timedelta(), end - first.submitted)


def expected_start(state: RunOverview, now: datetime | None = None) -> datetime | None:
    """Return when Slurm expects to start a run that is pending; None where it does not say, or that time has passed."""
    if state.state is not JobState.PENDING:
        return None
    times = [record.expected_start for record in state.records if record.expected_start]
    return max(times) if times and max(times) > (now or datetime.now().astimezone()) else None


def is_pending(state: RunOverview) -> bool:
    """Return whether a run's newest job is in the queue and has not started."""
    return state.state is JobState.PENDING and bool(state.records)


def may_start(state: RunOverview) -> bool:
    """Return whether a run is pending, and for no reason for which it would never start."""
    return state.state is JobState.PENDING and not pending_reasons.is_permanent(state.records[0].reason)


def earliest(points: Sequence[RunOverview], now: datetime | None = None) -> datetime | None:
    """Return when Slurm expects to start the first of the points that are pending."""
    return min(filter(None, (expected_start(point, now) for point in points)), default=None)


def reservation_as_dict(state: RunOverview) -> dict[str, Any] | None:
    """Return the reservation that a run waits behind, for --json: times in s since the epoch."""
    found = state.reservation
    if found is None:
        return None
    return {"name": found.name, "start": found.start.timestamp(), "end": found.end.timestamp()}


def sooner_words(state: RunOverview, job: str = "", now: datetime | None = None) -> str:
    """Return what would make a pending run start sooner; "" where that is not known. `job`: to change, else its own."""
    found, now = state.reservation, now or datetime.now().astimezone()
    minutes = found.minutes_until(now) if found else 0
    if found is None or not minutes:
        return ""
    change = f"scontrol update JobId={job or state.job} TimeLimit={minutes}"
    return f"it cannot end before reservation {found.name} begins at {found.start:%H:%M}; {change} makes it fit"
