"""Has one agent put the job back into the queue when their coordinator is gone.

| what became of the coordinator       | the job                            | it is put back                       |
|--------------------------------------|------------------------------------|--------------------------------------|
| killed                               | Slurm ends it, KillWait after that | though it is over                    |
| stopped, or on a node that is gone   | runs on                            | unless it is cancelled at that moment|
| lives, and only this task is cut off | is the coordinator's affair        | no                                   |
"""

import contextlib
import os
import time
from typing import Callable, Optional

from slurm_tf.errors import RunError
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.requeue import continuation
from slurm_tf.run import lease, status
from slurm_tf.run.status import RunStatus, TaskState
from slurm_tf.slurm import in_job

# The task that writes checkpoints claims this first, by a file. The others wait for its claim so long, and a second
# more for each rank below them.
_FIRST_SECONDS = 5.0
_MOST_SECONDS = 20.0
# A connection that was cut is found by both its ends, but not at the same time (connections._tune): so much later a
# coordinator that lives has written that this task is lost.
_CUT_SECONDS = 60.0
_POLL_SECONDS = 0.2


class OrphanRecovery:
    """The part of one agent in it, from the moment at which it lost its coordinator."""

    def __init__(
        self, context: JobContext, attempt: str, name: str, rank: int, writes: bool, may_live: bool, goes_on: bool
    ) -> None:
        """`name`: the task's, as in the run's status; `rank`: the lowest one that lives acts, if no writer does.

        `writes`: its program commits checkpoints. `may_live`: the coordinator may live, and not
        have found out yet. `goes_on`: whether the run is to go on.
        """
        self._context, self._name, self._rank, self._may_live = context, name, rank, may_live
        self._attempt, self._claim = attempt, context.folder.claim(attempt)
        self._writes, self._goes_on, self._saved = writes, goes_on, f"{self._claim}.saved"
        self._last_status, self._since = self._status(), time.monotonic()
        self._has_claim = False
        if writes:
            with contextlib.suppress(OSError):  # another one will
                self._try_claim()

    @property
    def is_saved(self) -> bool:
        """Whether the program that commits checkpoints has ended, so that the others are not needed any more."""
        return os.path.exists(self._saved)

    def see_to_the_run(self, say: Callable[[str], None]) -> None:
        """Put the job back into the queue, or submit one that follows it, unless another agent does.

        To be called once the program has ended.
        """
        try:
            if self._writes:
                _touch(self._saved)
            if self._goes_on and self._is_to_act():
                self._act(say)
        except (RunError, OSError) as error:
            say(f"the run does not go on: {error}")

    def _is_to_act(self) -> bool:
        first = self._since + min(_FIRST_SECONDS + self._rank, _MOST_SECONDS)
        known = self._since + (_CUT_SECONDS if self._may_live else 0.0)
        while time.monotonic() < max(known, 0.0 if self._has_claim else first):
            if self._coordinator_lives() or (not self._has_claim and os.path.exists(self._claim)):
                break
            time.sleep(_POLL_SECONDS)
        if self._coordinator_lives():
            if self._has_claim:
                os.unlink(self._claim)
            return False
        if not self._has_claim:
            self._try_claim()
        return self._has_claim

    def _try_claim(self) -> None:
        with contextlib.suppress(FileExistsError):
            _touch(self._claim)
            self._has_claim = True

    def _act(self, say: Callable[[str], None]) -> None:
        lease.check(self._context.folder, self._attempt)
        job_status = self._ask_job_status()
        after = self._arrange(job_status) if job_status.is_known else None
        if after and not after.is_arranged and not job_status.killed:
            # a requeue does nothing if slurmctld hears of the batch script's end between the two questions
            job_status = self._ask_job_status()
            after = self._arrange(job_status) if job_status.killed else after
        if after:
            say(f"the coordinator is gone; {after.words}")
        else:
            say(f"the run does not go on: squeue does not say what became of the job: {job_status.problem}")

    def _ask_job_status(self) -> in_job.JobStatus:
        return in_job.job_status(in_job.ask(in_job.job_status_command(self._context.job), self._context.environ))

    def _arrange(self, job_status: in_job.JobStatus) -> continuation.Continuation:
        # that a signal has ended the batch script tells it from a job that is being cancelled
        over = time.monotonic() if job_status.killed else None
        # Slurm may kill this process any moment: no question twice
        return continuation.arrange(self._context, over, 0.0, lambda: False, asked=True)

    def _coordinator_lives(self) -> bool:
        """Whether the coordinator has written since, or knew before us that this task is lost."""
        now, was = self._status(), self._last_status
        if now is None:
            return was is not None
        mine = now.tasks.get(self._name)
        is_known = mine is not None and mine.state in (TaskState.LOST, TaskState.ENDED, TaskState.MISSING)
        return was is None or now.written != was.written or is_known

    def _status(self) -> Optional[RunStatus]:
        try:
            return status.read(self._context.folder)
        except (RunError, OSError):
            return None


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
