"""Tries what would make a job start sooner, with sbatch --test-only: a shorter time limit, fewer workers.

Nothing is submitted, and a job that may start at once is not tried.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from slurm_tf import units
from slurm_tf.errors import ConfigError, SlurmError, UnreachableError
from slurm_tf.jobspec import plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import TOPOLOGIES
from slurm_tf.jobspec.plan import Plan
from slurm_tf.slurm import in_job, reservations, start_estimate
from slurm_tf.slurm.reservations import Reservation
from slurm_tf.slurm.start_estimate import StartEstimate
from slurm_tf.submit import new_run, render

# What is tried of time limits and of numbers of workers, at most, and how long each may take.
_TRIES = 2
_SECONDS = 10.0
# A job that would start within this time need not start sooner, and no change that saves less is worth a word.
_SOON = timedelta(minutes=2)
# No time limit shorter than this is tried.
_SHORTEST = 5


@dataclass(frozen=True, slots=True)
class Change:
    """A job with another time limit or number of workers, and the options of the command line that say so."""

    words: str
    job: Job


@dataclass(frozen=True, slots=True)
class Trial:
    """When the job would start with a change; `start` is None where sbatch refused it, or said nothing to believe."""

    words: str
    start: datetime | None


@dataclass(frozen=True, slots=True)
class Trials:
    """What was tried. `reservation`: the one that the job would run into; `stopped`: why no more was tried."""

    trials: tuple[Trial, ...] = ()
    reservation: Reservation | None = None
    stopped: str = ""

    def better(self, start: datetime) -> tuple[Trial, ...]:
        """Return the trials that would start well before `start`, and before a trial that changes less."""
        found = []
        for each in self.trials:
            if each.start and start - each.start >= _SOON:
                found.append(each)
                start = each.start
        return tuple(found)


def estimate(script: str, seconds: float = 60.0) -> StartEstimate:
    """Ask sbatch when the job of a script's text would start. Raises SlurmError."""
    with tempfile.NamedTemporaryFile("w", suffix=".sbatch") as file:
        file.write(script)
        file.flush()
        return start_estimate.ask(file.name, in_job.environ_for_sbatch(os.environ), seconds)


def lines(fitted: Plan, start: datetime, now: datetime) -> list[str]:
    """Try what would make a job start sooner that Slurm expects to start at `start`; return what to tell the user."""
    found = try_changes(fitted, start, now)
    told = []
    if each := found.reservation:
        told.append(f"waits   reservation {each.name} begins at {_clock(each.start)} and ends at {_clock(each.end)}")
    better = found.better(start)
    told += [f"sooner  {each.words}: would start at {_clock(each.start)}" for each in better if each.start]
    if found.trials and not better:
        told.append(f"sooner  none of {', '.join(each.words for each in found.trials)} would start sooner")
    if found.stopped:
        told.append(f"sooner  what else would start sooner is unknown: {found.stopped}")
    return told


def _clock(when: datetime) -> str:
    """Return a time as Slurm prints it."""
    return f"{when:%Y-%m-%dT%H:%M:%S}"


def try_changes(fitted: Plan, start: datetime, now: datetime) -> Trials:
    """Try changes of a job that Slurm expects to start at `start`."""
    if start - now < _SOON:
        return Trials()
    known, stopped = _reservation(fitted, start, now)
    limit = known.minutes_until(now) if known else (_minutes(fitted) or 0) // 2
    trials: list[Trial] = []
    try:
        # not extend(): what was tried before an error counts
        for trial in itertools.chain(_try_limits(fitted, limit, known), _try_fewer(fitted, limit, known)):
            trials.append(trial)  # noqa: PERF402
    except UnreachableError as error:
        stopped = error.found
    return Trials(tuple(trials), known, stopped)


def _try_limits(fitted: Plan, limit: int, known: Reservation | None) -> Iterator[Trial]:
    """Yield what sbatch says of shorter time limits, in minutes. Raises UnreachableError."""
    for _ in range(_TRIES):
        if limit < _SHORTEST:
            return
        change = _with_limit(fitted.job, limit)
        start = _start(change.job, fitted)
        believed = _believable(start, change.job, known)
        yield Trial(change.words, believed)
        # from when nodes are free until the reservation, else half
        left = known.minutes_until(start) if known and start and not believed else 0
        limit = left if left >= _SHORTEST else limit // 2


def _try_fewer(fitted: Plan, limit: int, known: Reservation | None) -> Iterator[Trial]:
    """Yield what sbatch says of fewer workers, before a reservation with the time limit. Raises UnreachableError."""
    # fewer workers alone would run into the reservation as well
    base = _with_limit(fitted.job, limit) if known and limit >= _SHORTEST else Change("", fitted.job)
    for change in _fewer(base):
        yield Trial(change.words, _believable(_start(change.job, fitted), change.job, known))


def _start(job: Job, fitted: Plan) -> datetime | None:
    """Return when a changed job would start, None where it cannot be fitted or sbatch refuses it.

    Raises UnreachableError.
    """
    try:
        changed = plan.fit(job, fitted.run, fitted.chdir, fitted.submission.number, new_run.nodes_of)
        return estimate(render.script(changed), _SECONDS).start
    except UnreachableError:
        raise
    except (ConfigError, SlurmError):
        return None


def _believable(start: datetime | None, job: Job, known: Reservation | None) -> datetime | None:
    """Return `start`, None where the job would then run into the reservation.

    Where jobs wait, sbatch adds up their time limits and does not look at reservations again (22.05.8).
    """
    if start is None or known is None:
        return start
    limit = units.parse_time(str(job.spec.time)) if job.spec.time is not None else None
    fits = start >= known.end or (limit is not None and start + limit <= known.start)
    return start if fits else None


def _reservation(fitted: Plan, start: datetime, now: datetime) -> tuple[Reservation | None, str]:
    """Return the first reservation that begins before a job could start and end, and what Slurm did not say."""
    if fitted.job.spec.sbatch.get("reservation"):
        return None, ""
    try:
        coming = reservations.coming(now)
    except SlurmError as error:
        return None, error.found
    limit = _minutes(fitted)
    found = (each for each in coming if each.start < start and (limit is None or each.minutes_until(now) < limit))
    return next(found, None), ""


def _minutes(fitted: Plan) -> int | None:
    """Return the time limit in minutes; None where the job has none, or the partition's default."""
    length = fitted.time_limit.length if fitted.time_limit else None
    return int(length.total_seconds() // 60) if length else None


def _with_limit(job: Job, minutes: int) -> Change:
    """Return the job with another time limit."""
    text = units.format_time(timedelta(minutes=minutes))
    return Change(f"--time={text}", replace(job, spec=msgspec.structs.replace(job.spec, time=text)))


def _fewer(base: Change) -> Iterator[Change]:
    """Yield a job with fewer workers: half of them, and half of these."""
    spec = base.job.spec
    worker = spec.roles.worker
    if worker is None:
        return
    least, _ = TOPOLOGIES[spec.strategy]["worker"]
    for count in (worker.count // 2**number for number in range(1, _TRIES + 1)):
        if count >= least:
            roles = msgspec.structs.replace(spec.roles, worker=msgspec.structs.replace(worker, count=count))
            job = replace(base.job, spec=msgspec.structs.replace(spec, roles=roles))
            yield Change(f"{base.words} --set roles.worker.count={count}".lstrip(), job)
