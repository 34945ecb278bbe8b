"""Submits the job that takes over from a job of a service, while that one runs.

It may start some time before the time limit of this job, or once this job has ended: after a preemption, the loss of
its node, or a failure. Where the service is to end, it is cancelled.
"""

import math
import os
import time
from typing import Callable, List, Optional

from slurm_tf.launch.job_context import JobContext
from slurm_tf.run import job_chain
from slurm_tf.slurm import in_job
from slurm_tf.slurm.in_job import Answer, Question

# How long until Slurm is asked again, where it does not answer or takes no job now.
_AGAIN_SECONDS = 30.0
_POLL_SECONDS = 0.2


class Successor:
    """The job that follows a job of a service: its number is the next one. `job`: its id, "" until it is submitted."""

    def __init__(self, context: JobContext, overlap: float, say: Callable[[str], None]) -> None:
        """`overlap`: seconds before the time limit of this job from which on the other may start."""
        self.job = ""
        self._context, self._overlap, self._say = context, overlap, say
        self._began = time.monotonic()
        self._asks: Optional[Question] = None
        self._submits: Optional[Question] = None
        self._due: Optional[float] = None
        self._problem = ""

    def begin(self) -> None:
        """Submit the job soon: this one runs."""
        if self._context.point is not None and self._context.job:
            self._due = time.monotonic()

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        return time.monotonic() + _POLL_SECONDS if self._asks or self._submits else self._due

    def tick(self, now: float) -> None:
        """Ask Slurm when this job ends, then submit the other one; again later where it does not answer."""
        if self._due is not None and now >= self._due:
            self._due = None
            self._asks = Question(in_job.job_status_command(self._context.job), self._context.environ)
        answer = self._asks.answer() if self._asks else None
        if answer is not None:
            self._asks = None
            status = in_job.job_status(answer)
            if status.is_known:
                self._submits = Question(self._command(_minutes(status.ends, now - self._began, self._overlap)),
                                         self._context.environ)  # fmt: skip
            else:
                self._fail(f"squeue: {status.problem}", now)
        answer = self._submits.answer() if self._submits else None
        if answer is not None:
            self._submits = None
            self._submitted(answer, now)

    def cancel(self) -> None:
        """Cancel the job, as the service is to end; also one that is just being submitted."""
        if self._submits:
            self._submitted(self._submits.wait(), time.monotonic())
        self._due = self._asks = self._submits = None
        if self.job:
            answer = in_job.ask(in_job.cancel_command(self.job), self._context.environ)
            how = "is cancelled" if answer.code == 0 else f"cannot be cancelled: {answer.failure}"
            self._say(f"job {self.job}, which was to follow, {how}")

    @property
    def _number(self) -> int:
        return (self._context.point or 0) + 1

    def _command(self, minutes: Optional[int]) -> List[str]:
        script = self._context.submission.script
        output = os.path.join(self._context.run.logs.replace("%", "%%"), "slurm-%j.out")
        return in_job.takeover_command(script, output, self._context.job, minutes, self._number)

    def _submitted(self, answer: Answer, now: float) -> None:
        """Record the job that sbatch accepted; cancel it if the service was stopped meanwhile."""
        job, _, cluster = answer.output.strip().partition(";") if answer.code == 0 else ("", "", "")
        if not job:
            self._fail(f"sbatch: {answer.failure}", now)
            return
        self.job = job
        # before its marker is looked at: who stops the service marks it, then cancels the jobs that are recorded
        number = self._context.submission.number
        job_chain.add(self._context.run, job, cluster, (self._number,), False, submission=number)
        if self._context.is_cancelled:
            self.cancel()
        else:
            self._say(f"job {job} follows as number {self._number} of the service")

    def _fail(self, problem: str, now: float) -> None:
        if problem != self._problem:
            self._say(f"the job that is to follow cannot be submitted yet: {problem}")
        self._problem, self._due = problem, now + _AGAIN_SECONDS


def _minutes(ends: Optional[float], elapsed: float, overlap: float) -> Optional[int]:
    """Return after how many minutes from this job's start the other may start; None where it has no time limit.

    `ends`: seconds since the epoch; `elapsed`: seconds since this job's start, or a little less. At least one minute,
    and half of the time that the job has, at least.
    """
    if ends is None:
        return None
    length = ends - time.time() + elapsed
    return max(1, math.floor((length - min(overlap, length / 2)) / 60))
