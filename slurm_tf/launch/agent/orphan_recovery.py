"""Requeues a job whose coordinator is gone: one of the job's agents does.

| the coordinator                       | the job                       | it is requeued                            |
|---------------------------------------|-------------------------------|-------------------------------------------|
| was killed                            | is ended by Slurm, KillWait   | yes, also once its batch script has ended |
|                                       | later                         |                                           |
| is stopped, or its node is gone       | runs on                       | yes, unless it is being cancelled         |
| runs, and this agent alone lost it    | is the coordinator's to end   | no                                        |
| recorded a cancel or the run's end    | is ended by Slurm             | no                                        |
| (run/attempts.py), and was killed     |                               |                                           |
"""

import contextlib
import os
import time
from typing import Callable, Optional

from slurm_tf.errors import RunError
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.requeue import continuation
from slurm_tf.run import attempts, lease, status
from slurm_tf.run.status import RunStatus, TaskState
from slurm_tf.slurm import in_job

# One agent claims the recovery by creating a file. The agent of the task that writes checkpoints does so at once, each
# other one after this time, plus a second for each rank below its own, up to the longest wait.
_CLAIM_SECONDS = 5.0
_LONGEST_CLAIM_SECONDS = 20.0
# Both ends of a connection that was cut find that out, but not at the same time (connections._tune). A coordinator that
# runs has written by then that this task is lost.
_LOSS_KNOWN_SECONDS = 60.0
_POLL_SECONDS = 0.2


class OrphanRecovery:
    """Recovery of the job by one agent, from the moment at which it lost its coordinator."""

    def __init__(
        self, context: JobContext, attempt: str, name: str, rank: int, writes: bool, may_live: bool, goes_on: bool
    ) -> None:
        """`name`: the task's, as in the run's status; `rank`: if no writer acts, the lowest rank that is left does.

        `writes`: its program commits checkpoints. `may_live`: the coordinator may run, and not know yet that it lost
        this agent. `goes_on`: whether the run is to go on.
        """
        self._context, self._name, self._rank, self._may_live = context, name, rank, may_live
        self._attempt, self._claim = attempt, context.folder.claim(attempt)
        self._writes, self._goes_on, self._saved = writes, goes_on, f"{self._claim}.saved"
        self._last_status, self._since = self._status(), time.monotonic()
        self._has_claim = False
        if writes:
            with contextlib.suppress(OSError):  # another agent will claim it
                self._try_claim()

    def begin(self, say: Callable[[str], None]) -> None:
        """Say at once what cannot be done later, in a container without Slurm's commands: Slurm may end this process.

        One agent says it, unless the coordinator may live: then it has the run go on.
        """
        if not self._goes_on or in_job.has_commands(self._context.environ):
            return
        self._goes_on = False
        if not self._may_live and (self._writes or self._rank == 0):
            why = "this task's container has no scontrol, which would requeue the job"
            say(f"the run does not go on by itself: {why}; to go on: slurm-tf resubmit {self._context.run.name}")

    @property
    def is_saved(self) -> bool:
        """Whether the program that commits checkpoints has ended, so that the others are not needed any more."""
        return os.path.exists(self._saved)

    def continue_run(self, say: Callable[[str], None]) -> None:
        """Requeue the job, or submit one that follows it, unless another agent does. Called after the program's end."""
        try:
            if self._writes:
                _touch(self._saved)
            if self._goes_on and self._is_to_act():
                self._act(say)
        except (RunError, OSError) as error:
            say(f"the run does not go on: {error}")

    def _is_to_act(self) -> bool:
        claim_at = self._since + min(_CLAIM_SECONDS + self._rank, _LONGEST_CLAIM_SECONDS)
        loss_known_at = self._since + (_LOSS_KNOWN_SECONDS if self._may_live else 0.0)
        while time.monotonic() < max(loss_known_at, 0.0 if self._has_claim else claim_at):
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
        if recorded := self._recorded_end():
            say(f"the run does not go on: {recorded}")
            return
        job_status = self._ask_job_status()
        arranged = self._arrange(job_status) if job_status.is_known else None
        if arranged and not arranged.is_arranged and not job_status.killed:
            # a requeue does nothing if slurmctld hears of the batch script's end after it answered squeue
            job_status = self._ask_job_status()
            arranged = self._arrange(job_status) if job_status.killed else arranged
        if arranged:
            say(f"the coordinator is gone; {arranged.description}")
        else:
            say(f"the run does not go on: squeue does not say what became of the job: {job_status.problem}")

    def _recorded_end(self) -> str:
        """Return why the run is over, as the coordinator recorded it; "" if it did not, or the record is unreadable."""
        try:
            recorded = {each.id: each for each in attempts.read(self._context.folder)}
        except (RunError, OSError):
            return ""
        attempt = recorded.get(self._attempt)
        return "" if attempt is None or attempt.may_go_on else attempt.reason or "its coordinator recorded its end"

    def _ask_job_status(self) -> in_job.JobStatus:
        return in_job.job_status(in_job.ask(in_job.job_status_command(self._context.job), self._context.environ))

    def _arrange(self, job_status: in_job.JobStatus) -> continuation.Continuation:
        # COMPLETING alone would be a cancel; a batch script that a signal ended was killed, and its job may be requeued
        over = time.monotonic() if job_status.killed else None
        # Slurm may kill this process at any moment, so squeue is not asked a second time
        return continuation.arrange(self._context, over, 0.0, lambda: False, has_just_asked=True)

    def _coordinator_lives(self) -> bool:
        """Whether the coordinator has written its status since this agent lost it, or that this task is lost."""
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
