"""Has a run go on after this job's end: requeues the job, or submits another one.

Never after a cancel: slurmctld (22.05.8) takes a requeue of a job that was cancelled, and would start it again.
"""

import os
import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence

from slurm_tf.launch.decide.termination import AT_THE_LIMIT
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.requeue import dependents
from slurm_tf.run import job_chain
from slurm_tf.slurm import in_job

# How often slurmctld is asked, with a pause between: it may be away for a while (a restart).
_TRIES = 4
_PAUSE_SECONDS = 5.0
# Slurm (22.05) by itself starts a requeued job no sooner than this.
_REQUEUE_SECONDS = 121.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Continuation:
    """Whether and how a run goes on. `words`: how, or why not; `waits`: this job itself waits to be started again."""

    is_arranged: bool
    words: str
    waits: bool = False


_CANCELLED = Continuation(False, "cancelled")


def arrange(
    place: JobContext,
    ends_at: Optional[float],
    wait: float,
    is_stopped: Callable[[], bool],
    exclude: Callable[[], Sequence[str]] = tuple,
    asked: bool = False,
) -> Continuation:
    """Let the run go on after this job, in `wait` seconds at the soonest.

    `ends_at`: when Slurm ends the job by itself (time.monotonic). `is_stopped`: whether a signal came that says cancel.
    `exclude`: the nodes that a job which follows is not to start on. `asked`: slurmctld has just answered. Raises
    RunError or OSError.
    """
    problems: List[str] = []
    for left in reversed(range(_TRIES)):
        # slurmctld may take long to answer: who cancels meanwhile is heard; later, its own signals look like a cancel
        if not asked:
            _job_status(place)
        asked = False
        if place.is_cancelled or is_stopped():
            return _CANCELLED
        over = ends_at is not None and time.monotonic() >= ends_at - AT_THE_LIMIT
        answer = _ask(place, in_job.requeue_command(place.job, over))
        status = _job_status(place)
        # also where the answer was lost, or Slurm did it by itself, after a preemption without grace time
        if status.restarts > place.restarts or (answer.code == 0 and not status.is_known):
            return Continuation(True, f"job {place.job} waits to be started again{_delay(place, wait)}", waits=True)
        if answer.code == 0:
            return _CANCELLED
        problems = [f"scontrol requeue: {answer.words}"]
        # without an answer it may have been heard all the same, which the next try will show
        if (answer.code and status.is_known) or not left:
            after = _follow(place, over, is_stopped, exclude())
            if after.is_arranged or after is _CANCELLED:
                return after
            problems.append(after.words)
        if left:
            time.sleep(_PAUSE_SECONDS)
    return Continuation(False, "; ".join(problems))


def wait_for_the_end(seconds: float, is_stopped: Callable[[], bool]) -> None:
    """Wait until Slurm ends the job, for at most `seconds`: a job whose script ends by itself is not requeued."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_stopped():
        time.sleep(_POLL_SECONDS)


def _job_status(place: JobContext) -> in_job.JobStatus:
    return in_job.job_status(_ask(place, in_job.job_status_command(place.job)))


def _delay(place: JobContext, wait: float) -> str:
    if wait <= _REQUEUE_SECONDS:
        return ""
    answer = _ask(place, in_job.delay_command(place.job, wait))
    return f", in {wait:.0f} s" if answer.code == 0 else f" (not later, as it should: {answer.words})"


def _follow(place: JobContext, over: bool, is_stopped: Callable[[], bool], exclude: Sequence[str]) -> Continuation:
    """Submit another job, unless somebody has cancelled this one."""
    line = place.line
    output = os.path.join(place.run.logs, f"slurm-{line[0]}.out")
    script = place.submission.script
    answer = _ask(place, in_job.successor_command(script, output, place.environ, place.point, exclude, after=place.job))
    job, _, cluster = answer.output.strip().partition(";") if answer.code == 0 else ("", "", "")
    if not job:
        return Continuation(False, f"sbatch: {answer.words}")
    # asked after it was submitted: before, the cancel might still come in between
    if place.is_cancelled or is_stopped() or (not over and _job_status(place).state == "COMPLETING"):
        _ask(place, in_job.cancel_command(job))
        return _CANCELLED
    array, number = "SLURM_ARRAY_TASK_ID" in place.environ, place.submission.number
    points = () if place.point is None else (place.point,)
    job_chain.add(place.folder, job, cluster, points, array, line[-1], submission=number)
    job = f"{job}_{place.point}" if array else job
    words = [f"job {job} follows job {place.job}", *dependents.follow(place.job, job, place.environ)]
    return Continuation(True, "; ".join(words))


def _ask(place: JobContext, command: List[str]) -> in_job.Answer:
    return in_job.ask(command, place.environ)
