"""Reads what is known about runs: from Slurm, and from the files that their coordinators and programs write.

A value that is not recorded anywhere is unknown: None, or JobState.UNKNOWN.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from slurm_tf.errors import RunError, SlurmError, UnreachableError
from slurm_tf.run import attempts, bad_nodes, checkpoint_folder, status
from slurm_tf.run.attempts import Attempt, EndCause
from slurm_tf.run.bad_nodes import BadNode
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.status import AttemptState, RunStatus
from slurm_tf.slurm import reservations, sacct
from slurm_tf.slurm.client import Client
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.slurm.reservations import Reservation
from slurm_tf.watch.find_run import SelectedRun

_Value = TypeVar("_Value")
_SLURMCTLD = "slurmctld"
# A job submits the one that follows it before it ends; its end is by Slurm's clock, which may differ from ours.
_CLOCKS_DIFFER_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class JobRecords:
    """Slurm's records of jobs, by the id that was asked for. `notes`: why there may be more, a line for each source.

    `silent`: sources that did not answer, and may know more. Where a site keeps no accounting, there is none to wait
    for.
    """

    records: Mapping[str, tuple[JobRecord, ...]]
    notes: tuple[str, ...]
    silent: frozenset[str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint; `written`: seconds since the epoch."""

    step: int
    written: float


@dataclass(frozen=True, slots=True)
class RunOverview:
    """What is known about a run or one sweep point. `job`: the id of its newest job, "" if it was never submitted.

    `records`: Slurm's record of each component; empty if Slurm does not know the job. `attempt`: status.json of the
    newest attempt. `cancelled`: whether it was cancelled for good. `notes`: why Slurm's records may be incomplete;
    `silent`: which of its daemons do not answer.
    `attempts`, oldest first, and `bad_nodes` (run/bad_nodes.py): None if they cannot be read. `memory_used`: of a job
    that ran out of memory the bytes that Slurm saw in use, None if it does not say, as of any other job. `reservation`:
    the one that a pending job waits behind, as it could not end before; None if that is not known.
    """

    selected: SelectedRun
    job: str
    records: tuple[JobRecord, ...]
    attempt: RunStatus | None
    checkpoint: Checkpoint | None
    cancelled: bool
    notes: tuple[str, ...] = field(default=())
    attempts: tuple[Attempt, ...] | None = ()
    bad_nodes: Mapping[str, BadNode] | None = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    memory_used: int | None = None
    reservation: Reservation | None = None

    @property
    def recorded_end(self) -> Attempt | None:
        """The job's last attempt, where the run alone knows how the job ended.

        slurmctld has forgotten the job, which lives no more then, and accounting has no record of it, or there is none.
        """
        last = self.attempts[-1] if self.attempts else None
        is_forgotten = bool(self.job) and not self.records and _SLURMCTLD not in self.silent
        said = self.attempt is not None and self.attempt.state is AttemptState.ENDED and self.attempt.code is not None
        return last if last and is_forgotten and said and last.job == self.job else None

    @property
    def state(self) -> JobState:
        """The job's state; of a heterogeneous job that of a failed component, otherwise that of the first one."""
        if not self.records:
            return self._recorded_state
        failed = [record.state for record in self.records if record.state.ended and not record.state.succeeded]
        return (failed or [record.state for record in self.records])[0]

    @property
    def _recorded_state(self) -> JobState:
        end = self.recorded_end
        if end is None:
            return JobState.UNKNOWN
        if end.cause is EndCause.CANCEL:
            return JobState.CANCELLED
        return JobState.FAILED if self.attempt and self.attempt.code else JobState.COMPLETED

    @property
    def is_over(self) -> bool:
        """Whether every component has ended; False if neither Slurm nor the run says.

        Slurm (22.05.8) keeps no record of an array task that was cancelled before it started.
        """
        if not self.records:
            return self.recorded_end is not None or (self.cancelled and bool(self.job) and not self.silent)
        return all(record.state.ended for record in self.records)

    @property
    def ended(self) -> datetime | None:
        """When its last component ended, as Slurm says; None if it is not over, or Slurm does not say."""
        return max((record.ended for record in self.records if record.ended), default=None) if self.is_over else None

    @property
    def exit_code(self) -> int | None:
        """The exit code, as sbatch --wait has it; None if the run is not over.

        It is the highest of all components, and 1 for a signal or an end without an exit. slurmdbd has 0 of a job that
        Slurm ended, as it is told before the script has ended; slurmctld, and so sbatch --wait, has the script's
        (22.05.8), which the run wrote as well.
        """
        if not self.is_over:
            return None
        if self.recorded_end and self.attempt:
            return self.attempt.code
        last = self.attempts[-1] if self.attempts else None
        written = last.code if last and last.job == self.job else None
        return max((_exit_code(record, written) for record in self.records), default=1)


def query_jobs(slurm: Client, ids: Sequence[str]) -> JobRecords:
    """Return Slurm's records of the jobs `ids`: from slurmctld, and from slurmdbd for those that it has forgotten."""
    notes: list[str] = []
    silent: set[str] = set()
    found: dict[str, list[JobRecord]] = {}
    for source, call in ((_SLURMCTLD, slurm.jobs), ("accounting", slurm.history)):
        missing = [each for each in dict.fromkeys(ids) if each not in found]
        if not missing:
            break
        try:
            answered = call(missing)
        except UnreachableError as error:
            notes.append(f"{source} does not answer: {error.found}")
            silent.add(source)
            continue
        except SlurmError as error:
            notes.append(f"{source}: {error.found}")
            silent |= {source} & {_SLURMCTLD}
            continue
        for record in answered:
            for key in {record.id, record.job} & set(missing):
                found.setdefault(key, []).append(record)
    return JobRecords({key: tuple(records) for key, records in found.items()}, tuple(notes), frozenset(silent))


def read_overviews(slurm: Client, selected_runs: Sequence[SelectedRun]) -> list[RunOverview]:
    """Return what is known about each selected run, one for each sweep point; Slurm is asked once for all of them."""
    begun, single = time.time(), _jobs(selected_runs)
    answers = query_jobs(slurm, [job for _, job in single if job])
    bad = {run: _read_or_none(bad_nodes.of_run, run) for run in {selected.run for selected in selected_runs}}
    points = [
        with_files(
            RunOverview(
                selected,
                job,
                answers.records.get(job, ()),
                None,
                None,
                False,
                answers.notes,
                bad_nodes=bad[selected.run],
                silent=answers.silent,
            )
        )
        for selected, job in single
    ]
    # a job that has ended meanwhile may have submitted the job that follows it
    meanwhile = {point.selected.run for point in points if _may_have_ended_since(point, begun)}
    now = _jobs([each for each in selected_runs if each.run in meanwhile])
    if now != [(each, job) for each, job in single if each.run in meanwhile]:
        return read_overviews(slurm, selected_runs)
    return _with_answers(points)


def with_files(known: RunOverview) -> RunOverview:
    """Return what is known of a run or sweep point, its files read again; what Slurm said of it stays."""
    return replace(
        known,
        attempt=_read_or_none(status.read, known.selected.folder),
        checkpoint=newest_checkpoint(known.selected.folder),
        cancelled=os.path.exists(known.selected.folder.cancelled) or os.path.exists(known.selected.run.cancelled),
        attempts=_read_or_none(lambda folder: tuple(attempts.read(folder)), known.selected.folder),
    )


def ended_here(folder: RunFolder, code: int, started: datetime, ended: datetime) -> RunOverview:
    """Return what is known about a run without Slurm that has just ended on this machine, as of a job without id."""
    attempt = _read_or_none(status.read, folder)
    state = JobState.FAILED if code else JobState.COMPLETED
    return RunOverview(
        selected=SelectedRun(folder),
        job="",
        records=(JobRecord("", state, started=started, ended=ended, exit_code=code),),
        attempt=attempt if attempt and attempt.written >= started.timestamp() else None,
        checkpoint=newest_checkpoint(folder),
        cancelled=os.path.exists(folder.cancelled),
        attempts=_read_or_none(lambda found: tuple(attempts.read(found)), folder),
        bad_nodes=_read_or_none(bad_nodes.of_run, folder),
    )


def _with_answers(points: list[RunOverview]) -> list[RunOverview]:
    """Return `points` with what Slurm says of jobs that ran out of memory, and of those that are pending."""
    jobs = [point.job for point in points if point.state is JobState.OUT_OF_MEMORY]
    used: Mapping[str, int] = {}
    blocking: Mapping[str, Reservation] = {}
    with contextlib.suppress(SlurmError):  # the state is known without it
        used = sacct.most_memory(jobs) if jobs else {}
    with contextlib.suppress(SlurmError):
        now = datetime.now().astimezone()
        # the components of a heterogeneous job start together: one alone says nothing
        blocking = reservations.in_the_way([point.records[0] for point in points if len(point.records) == 1], now)
    return [replace(each, memory_used=used.get(each.job), reservation=blocking.get(each.job)) for each in points]


def _may_have_ended_since(point: RunOverview, at: float) -> bool:
    """Return whether a run is over, and may not have been at a time, in seconds since the epoch."""
    return point.is_over and (point.ended is None or point.ended.timestamp() > at - _CLOCKS_DIFFER_SECONDS)


def _read_or_none(reader: Callable[[RunFolder], _Value], folder: RunFolder) -> _Value | None:
    try:
        return reader(folder)
    except (RunError, OSError):
        return None


def newest_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """Return the checkpoint that a restore would use: the newest whole one of slurm_tf.train; None if there is none."""
    try:
        found = next(checkpoint_folder.complete(folder.checkpoints), None)
    except OSError:
        return None
    return Checkpoint(found.step, found.manifest["written"]) if found else None


def wait_until_over(
    slurm: Client, selected: SelectedRun, max_pause: float = 30.0, timeout: float = math.inf
) -> list[RunOverview]:
    """Wait until all sweep points of `selected` are over, or for `timeout` seconds; return what is known about them.

    `max_pause`: the longest time between two reads, in seconds.

    Raises SlurmError if Slurm has forgotten a job whose end the run did not write: how it ended is then unknown.
    """
    pause, until = 0.5, time.monotonic() + timeout
    while True:
        points = read_overviews(slurm, [selected])
        if all(point.is_over for point in points) or time.monotonic() >= until:
            return points
        lost = [point for point in points if not (point.is_over or point.records or point.silent)]
        if lost:
            known = f"job {lost[0].job}" if lost[0].job else f"run {lost[0].selected.name}, which was not submitted"
            raise SlurmError(
                f"Slurm knows nothing of {known}", "a job that Slurm still has a record of, or whose run wrote its end"
            )
        time.sleep(max(0.0, min(pause, until - time.monotonic())))
        pause = min(pause * 1.5, max_pause)


def _jobs(selected_runs: Sequence[SelectedRun]) -> list[tuple[SelectedRun, str]]:
    """Return each selected run or sweep point with the id of its newest job, "" if it has none."""
    return [
        (selected if point is None else SelectedRun(selected.run, point), job)
        for selected in selected_runs
        for point, job in (selected.job_ids or {None: ""}).items()
    ]


def _exit_code(record: JobRecord, written: int | None) -> int:
    """Return the exit code of one component; `written`: the one that the run wrote of the job's end."""
    if record.exit_code is None or record.signalled:
        return 1
    return record.exit_code or (0 if record.state.succeeded else written or 1)
