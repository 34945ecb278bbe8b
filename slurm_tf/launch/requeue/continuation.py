"""Continues a run after this job's end: requeues the job, or submits one that follows it.

Never after a cancel: slurmctld (22.05.8) accepts a requeue of a cancelled job, and would start it again.
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

# How often slurmctld is asked, with a pause between: it may not answer for a while (a restart).
_TRIES = 4
_PAUSE_SECONDS = 5.0
# Slurm (22.05) starts a requeued job after this time at the soonest.
_REQUEUE_SECONDS = 121.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Continuation:
    """Whether a run goes on: `is_arranged`. `description`: how, or why not; `waits`: this job was itself requeued."""

    is_arranged: bool
    description: str
    waits: bool = False


_CANCELLED = Continuation(False, "cancelled")


def arrange(
    context: JobContext,
    ends_at: Optional[float],
    wait: float,
    is_stopped: Callable[[], bool],
    exclude: Callable[[], Sequence[str]] = tuple,
    has_just_asked: bool = False,
) -> Continuation:
    """Requeue the job, or submit one that follows it, to start in `wait` seconds at the soonest.

    `ends_at`: when the job's time is over (time.monotonic). `is_stopped`: whether a signal came that means cancel.
    `exclude`: the nodes that a job which follows is not to start on. `has_just_asked`: the caller has just had an
    answer of slurmctld. Raises RunError or OSError.
    """
    problems: List[str] = []
    for left in reversed(range(_TRIES)):
        # slurmctld may take long to answer. A cancel in that time is noticed here; after the requeue it could not be
        # told from the signals that slurmctld itself sends to the job.
        if not has_just_asked:
            _job_status(context)
        has_just_asked = False
        if context.is_cancelled or is_stopped():
            return _CANCELLED
        over = ends_at is not None and time.monotonic() >= ends_at - AT_THE_LIMIT
        answer = _ask(context, in_job.requeue_command(context.job, over))
        status = _job_status(context)
        # true also where the answer was lost, or Slurm requeued the job by itself: a preemption without grace time
        if status.restarts > context.restarts or (answer.code == 0 and not status.is_known):
            return Continuation(True, f"job {context.job} waits to be started again{_delay(context, wait)}", waits=True)
        if answer.code == 0:
            return _CANCELLED
        problems = [f"scontrol requeue: {answer.failure}"]
        # without an answer the requeue may have been done all the same: the next try shows that
        if (answer.code and status.is_known) or not left:
            following = _submit_successor(context, over, is_stopped, exclude())
            if following.is_arranged or following is _CANCELLED:
                return following
            problems.append(following.description)
        if left:
            time.sleep(_PAUSE_SECONDS)
    return Continuation(False, "; ".join(problems))


def wait_for_the_end(seconds: float, is_stopped: Callable[[], bool]) -> None:
    """Wait until Slurm ends the job, at most `seconds`: Slurm does not requeue a job whose script ends by itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_stopped():
        time.sleep(_POLL_SECONDS)


def _job_status(context: JobContext) -> in_job.JobStatus:
    return in_job.job_status(_ask(context, in_job.job_status_command(context.job)))


def _delay(context: JobContext, wait: float) -> str:
    if wait <= _REQUEUE_SECONDS:
        return ""
    answer = _ask(context, in_job.delay_command(context.job, wait))
    return f", in {wait:.0f} s" if answer.code == 0 else f" (not later, as it should: {answer.failure})"


def _submit_successor(
    context: JobContext, over: bool, is_stopped: Callable[[], bool], exclude: Sequence[str]
) -> Continuation:
    """Submit a job that follows this one, unless this one was cancelled."""
    line = context.line
    output = os.path.join(context.run.logs, f"slurm-{line[0]}.out")
    script = context.submission.script
    answer = _ask(
        context, in_job.successor_command(script, output, context.environ, context.point, exclude, after=context.job)
    )
    job, _, cluster = answer.output.strip().partition(";") if answer.code == 0 else ("", "", "")
    if not job:
        return Continuation(False, f"sbatch: {answer.failure}")
    # asked after the submission: a cancel between the question and the submission would be missed
    if context.is_cancelled or is_stopped() or (not over and _job_status(context).state == "COMPLETING"):
        _ask(context, in_job.cancel_command(job))
        return _CANCELLED
    array, number = "SLURM_ARRAY_TASK_ID" in context.environ, context.submission.number
    points = () if context.point is None else (context.point,)
    job_chain.add(context.folder, job, cluster, points, array, line[-1], submission=number)
    job = f"{job}_{context.point}" if array else job
    changes = dependents.wait_for_successor(context.job, job, context.environ)
    return Continuation(True, "; ".join([f"job {job} follows job {context.job}", *changes]))


def _ask(context: JobContext, command: List[str]) -> in_job.Answer:
    return in_job.ask(command, context.environ)
