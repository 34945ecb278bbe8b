"""How runs are doing: what Slurm says of their jobs, what their coordinators wrote. What nobody says is unknown."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from slurm_tf.errors import RunError, SlurmError, UnreachableError
from slurm_tf.run import attempts, bad_nodes, checkpoint_folder, status
from slurm_tf.run.attempts import Attempt
from slurm_tf.run.bad_nodes import BadNode
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.status import RunStatus
from slurm_tf.slurm.client import Client
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.watch.find_run import Target

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Answers:
    """What Slurm said of some jobs, by the id that was asked for; `notes`: what it could not say, in words."""

    records: Mapping[str, tuple[JobRecord, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint; `written`: seconds since the epoch."""

    step: int
    written: float


@dataclass(frozen=True, slots=True)
class PointState:
    """One run, or one point of one. `job` is "" if it was never submitted.

    `records`: one a component; none where Slurm does not know the job. `attempt`: what the coordinator wrote.
    `attempts`, oldest first, and `bad_nodes` (run/bad_nodes.py): None where they cannot be read.
    """

    target: Target
    job: str
    records: tuple[JobRecord, ...]
    attempt: RunStatus | None
    checkpoint: Checkpoint | None
    cancelled: bool
    notes: tuple[str, ...] = field(default=())
    attempts: tuple[Attempt, ...] | None = ()
    bad_nodes: Mapping[str, BadNode] | None = field(default_factory=dict)

    @property
    def state(self) -> JobState:
        """The job's state: of a heterogeneous job, that of the component that says most."""
        if not self.records:
            return JobState.UNKNOWN
        failed = [record.state for record in self.records if record.state.ended and not record.state.succeeded]
        return (failed or [record.state for record in self.records])[0]

    @property
    def is_over(self) -> bool:
        """Whether every component has ended; never so where Slurm does not say.

        Slurm (22.05.8) keeps no record of an array task that was cancelled before it started.
        """
        if not self.records:
            return self.cancelled and bool(self.job) and not self.notes
        return all(record.state.ended for record in self.records)

    @property
    def exit_code(self) -> int | None:
        """sbatch --wait's: the highest of all components, 1 for a signal or an end that is no exit; None before."""
        if not self.is_over:
            return None
        return max((_exit_code(record) for record in self.records), default=1)


def ask(slurm: Client, ids: Sequence[str]) -> Answers:
    """Ask Slurm for all of `ids` at once: slurmctld first, and slurmdbd for those that it does not know any more."""
    notes: list[str] = []
    found: dict[str, list[JobRecord]] = {}
    for source, call in (("slurmctld", slurm.jobs), ("accounting", slurm.history)):
        missing = [each for each in dict.fromkeys(ids) if each not in found]
        if not missing:
            break
        try:
            answered = call(missing)
        except UnreachableError as error:
            notes.append(f"{source} does not answer: {error.found}")
            continue
        except SlurmError as error:
            notes.append(f"{source}: {error.found}")
            continue
        for record in answered:
            for key in {record.id, record.job} & set(missing):
                found.setdefault(key, []).append(record)
    return Answers({key: tuple(records) for key, records in found.items()}, tuple(notes))


def look(slurm: Client, targets: Sequence[Target]) -> list[PointState]:
    """Return the state of every target, points apart; one question to Slurm for all of them."""
    single = _jobs(targets)
    answers = ask(slurm, [job for _, job in single if job])
    bad = {run: _read(bad_nodes.of_run, run) for run in {target.run for target in targets}}
    points = [
        PointState(
            target=target,
            job=job,
            records=answers.records.get(job, ()),
            attempt=_read(status.read, target.folder),
            checkpoint=newest_checkpoint(target.folder),
            cancelled=os.path.exists(target.folder.cancelled) or os.path.exists(target.run.cancelled),
            notes=answers.notes,
            attempts=_read(lambda folder: tuple(attempts.read(folder)), target.folder),
            bad_nodes=bad[target.run],
        )
        for target, job in single
    ]
    # a job that has ended in the meantime may have submitted the one that follows it
    over = any(point.is_over for point in points)
    return look(slurm, targets) if over and _jobs(targets) != single else points


def _read(reader: Callable[[RunFolder], _Read], folder: RunFolder) -> _Read | None:
    try:
        return reader(folder)
    except (RunError, OSError):
        return None


def newest_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """Return the checkpoint that a restore would take, the newest whole one of slurm_tf.train; None without one."""
    try:
        found = next(checkpoint_folder.complete(folder.checkpoints), None)
    except OSError:
        return None
    return Checkpoint(found.step, found.manifest["written"]) if found else None


def wait(slurm: Client, target: Target, patience: float = 30.0) -> list[PointState]:
    """Wait until all points of `target` are over; return them. Asks Slurm less and less often, up to `patience` s.

    Raises SlurmError if Slurm has forgotten a job: how it ended is then unknown.
    """
    pause = 0.5
    while True:
        points = look(slurm, [target])
        if all(point.is_over for point in points):
            return points
        if not any(point.notes for point in points):
            lost = [point for point in points if not point.records]
            if lost:
                known = f"job {lost[0].job}" if lost[0].job else f"run {lost[0].target.name}, which was not submitted"
                raise SlurmError(f"Slurm knows nothing of {known}", "a job that Slurm still has a record of")
        time.sleep(pause)
        pause = min(pause * 1.5, patience)


def _jobs(targets: Sequence[Target]) -> list[tuple[Target, str]]:
    """Return every point with its job, "" if it has none."""
    return [
        (Target(target.run, point) if target.ids else target, job)
        for target in targets
        for point, job in (target.ids or {None: ""}).items()
    ]


def _exit_code(record: JobRecord) -> int:
    if record.exit_code is None or record.signalled:
        return 1
    return record.exit_code or (0 if record.state.succeeded else 1)
