"""How a run goes on after this job's end: the job is put back into the queue, or another one is submitted.

Never after a cancel: slurmctld (22.05.8) takes a requeue of a job that was cancelled, and would start it again.
"""

import os
import time
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Tuple

from slurm_tf import contract
from slurm_tf.launch import slurm, succession
from slurm_tf.launch.interruption import AT_THE_LIMIT

# slurmctld may be away for so long (a restart).
_TRIES = 4
_PAUSE_SECONDS = 5.0
# Slurm (22.05) starts a job that was put back no sooner, by itself.
_REQUEUE_SECONDS = 121.0
# ESLURM_JOB_PENDING: Slurm has put it back already, after a preemption without grace time.
_WAITS_ALREADY = "Job is pending execution"
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Place:
    """A run in a job: `group` holds its script, `folder` is its own; `point` of an array, None without one."""

    folder: contract.RunFolder
    group: contract.RunFolder
    point: Optional[int]
    environ: Mapping[str, str]

    @property
    def job(self) -> str:
        """The job's id as Slurm's commands take it, "" outside of a job."""
        return slurm.own_id(self.environ)

    @property
    def is_cancelled(self) -> bool:
        """Whether `slurm-tf cancel` has marked the run."""
        return any(os.path.exists(each.cancelled) for each in (self.group, self.folder))

    @property
    def line(self) -> List[str]:
        """The job, after all those that it follows. Raises RunError or OSError."""
        return succession.line(self.folder, self.job)


@dataclass(frozen=True)
class Future:
    """`is_arranged`: whether the run goes on. `words`: how, or why not."""

    is_arranged: bool
    words: str


def arrange(place: Place, ends_at: Optional[float], wait: float, is_stopped: Callable[[], bool]) -> Future:
    """Let the run go on after this job, in `wait` seconds at the soonest.

    `ends_at`: when Slurm ends the job by itself (time.monotonic). `is_stopped`: whether a signal came that says cancel.
    Raises RunError or OSError.
    """
    problems: List[str] = []
    for left in reversed(range(_TRIES)):
        if place.is_cancelled or is_stopped() or _is_being_ended(place, ends_at):
            return Future(False, "cancelled")
        answer = _ask(place, slurm.requeue_command(place.job))
        if answer.code == 0 or _WAITS_ALREADY in answer.errors:
            return Future(True, f"job {place.job} waits to be started again{_delay(place, wait)}")
        problems = [f"scontrol requeue: {answer.words}"]
        # without an answer it may have been heard all the same, which the next try will show
        if answer.code is not None or not left:
            answer, job = _follow(place)
            if job:
                return Future(True, f"job {job} follows job {place.job}")
            problems.append(f"sbatch: {answer.words}")
        if left:
            time.sleep(_PAUSE_SECONDS)
    return Future(False, "; ".join(problems))


def wait_for_the_end(seconds: float, is_stopped: Callable[[], bool]) -> None:
    """Wait until Slurm ends the job, as long as this takes at most: a script that ends by itself is not put back."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_stopped():
        time.sleep(_POLL_SECONDS)


def _is_being_ended(place: Place, ends_at: Optional[float]) -> bool:
    """Whether Slurm ends the job before its time: somebody has cancelled it, and our signal is on its way."""
    standing = slurm.standing(_ask(place, slurm.standing_command(place.job)))
    early = ends_at is None or time.monotonic() < ends_at - AT_THE_LIMIT
    return standing.state == "COMPLETING" and early


def _delay(place: Place, wait: float) -> str:
    if wait <= _REQUEUE_SECONDS:
        return ""
    answer = _ask(place, slurm.delay_command(place.job, wait))
    return f", in {wait:.0f} s" if answer.code == 0 else f" (not later, as it should: {answer.words})"


def _follow(place: Place) -> Tuple[slurm.Answer, str]:
    """Submit another job; return what sbatch said, and the job's id, "" if there is none."""
    line = place.line
    output = os.path.join(place.group.logs, f"slurm-{line[0]}.out")
    answer = _ask(place, slurm.successor_command(place.group.script, output, place.environ, place.point))
    job, _, cluster = answer.output.strip().partition(";") if answer.code == 0 else ("", "", "")
    if job:
        array = "SLURM_ARRAY_TASK_ID" in place.environ
        succession.add(place.folder, job, cluster, place.point, array, line[-1])
    return answer, job


def _ask(place: Place, command: List[str]) -> slurm.Answer:
    return slurm.Question(command, place.environ).wait()
