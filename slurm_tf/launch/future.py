"""How a run goes on after this job's end: the job is put back into the queue, or another one is submitted.

Never after a cancel: slurmctld (22.05.8) takes a requeue of a job that was cancelled, and would start it again.
"""

import os
import time
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Sequence

from slurm_tf import contract
from slurm_tf.launch import dependants, slurm, succession
from slurm_tf.launch.interruption import AT_THE_LIMIT

# slurmctld may be away for so long (a restart).
_TRIES = 4
_PAUSE_SECONDS = 5.0
# Slurm (22.05) starts a job that was put back no sooner, by itself.
_REQUEUE_SECONDS = 121.0
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
    def restarts(self) -> int:
        """How often the job was put back into the queue before it was started now."""
        return int(self.environ.get("SLURM_RESTART_COUNT") or 0)

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
    """`is_arranged`: whether the run goes on. `words`: how, or why not. `waits`: by this very job."""

    is_arranged: bool
    words: str
    waits: bool = False


_CANCELLED = Future(False, "cancelled")


def arrange(
    place: Place,
    ends_at: Optional[float],
    wait: float,
    is_stopped: Callable[[], bool],
    exclude: Callable[[], Sequence[str]] = tuple,
    asked: bool = False,
) -> Future:
    """Let the run go on after this job, in `wait` seconds at the soonest.

    `ends_at`: when Slurm ends the job by itself (time.monotonic). `is_stopped`: whether a signal came that says cancel.
    `exclude`: the nodes that a job which follows is not to start on. `asked`: slurmctld has just answered. Raises
    RunError or OSError.
    """
    problems: List[str] = []
    for left in reversed(range(_TRIES)):
        # slurmctld may take long to answer: who cancels meanwhile is heard; later, its own signals look like a cancel
        if not asked:
            _standing(place)
        asked = False
        if place.is_cancelled or is_stopped():
            return _CANCELLED
        over = ends_at is not None and time.monotonic() >= ends_at - AT_THE_LIMIT
        answer = _ask(place, slurm.requeue_command(place.job, over))
        standing = _standing(place)
        # also where the answer was lost, or Slurm did it by itself, after a preemption without grace time
        if standing.restarts > place.restarts or (answer.code == 0 and not standing.is_known):
            return Future(True, f"job {place.job} waits to be started again{_delay(place, wait)}", waits=True)
        if answer.code == 0:
            return _CANCELLED
        problems = [f"scontrol requeue: {answer.words}"]
        # without an answer it may have been heard all the same, which the next try will show
        if (answer.code and standing.is_known) or not left:
            after = _follow(place, over, is_stopped, exclude())
            if after.is_arranged or after is _CANCELLED:
                return after
            problems.append(after.words)
        if left:
            time.sleep(_PAUSE_SECONDS)
    return Future(False, "; ".join(problems))


def wait_for_the_end(seconds: float, is_stopped: Callable[[], bool]) -> None:
    """Wait until Slurm ends the job, as long as this takes at most: a script that ends by itself is not put back."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_stopped():
        time.sleep(_POLL_SECONDS)


def _standing(place: Place) -> slurm.Standing:
    return slurm.standing(_ask(place, slurm.standing_command(place.job)))


def _delay(place: Place, wait: float) -> str:
    if wait <= _REQUEUE_SECONDS:
        return ""
    answer = _ask(place, slurm.delay_command(place.job, wait))
    return f", in {wait:.0f} s" if answer.code == 0 else f" (not later, as it should: {answer.words})"


def _follow(place: Place, over: bool, is_stopped: Callable[[], bool], exclude: Sequence[str]) -> Future:
    """Submit another job, unless somebody has cancelled this one."""
    line = place.line
    output = os.path.join(place.group.logs, f"slurm-{line[0]}.out")
    script = place.group.script
    answer = _ask(place, slurm.successor_command(script, output, place.environ, place.point, exclude, after=place.job))
    job, _, cluster = answer.output.strip().partition(";") if answer.code == 0 else ("", "", "")
    if not job:
        return Future(False, f"sbatch: {answer.words}")
    # asked after it was submitted: before, the cancel might still come in between
    if place.is_cancelled or is_stopped() or (not over and _standing(place).state == "COMPLETING"):
        _ask(place, slurm.cancel_command(job))
        return _CANCELLED
    array = "SLURM_ARRAY_TASK_ID" in place.environ
    succession.add(place.folder, job, cluster, place.point, array, line[-1])
    job = f"{job}_{place.point}" if array else job
    words = [f"job {job} follows job {place.job}", *dependants.follow(place.job, job, place.environ)]
    return Future(True, "; ".join(words))


def _ask(place: Place, command: List[str]) -> slurm.Answer:
    return slurm.ask(command, place.environ)
