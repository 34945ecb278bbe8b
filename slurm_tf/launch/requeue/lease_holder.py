"""Takes the lease of a run for an attempt, before any task starts. Slurm says whether a former attempt runs.

The writer of checkpoints reads the lease again before it commits or removes a checkpoint: run/checkpoint_folder.py.
"""

import errno
import os
import time
from typing import Callable, Mapping, Optional

from slurm_tf.errors import LeaseError, RunError
from slurm_tf.launch.job_context import attempt_id, process_identity
from slurm_tf.run import lease
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.slurm import in_job

# How long slurmctld may not answer (a restart), and how long a job that has ended may take to leave its nodes: KillWait
# and UnkillableStepTimeout of slurm.conf are 30 s and 60 s.
_ANSWER_SECONDS = 60.0
_LEAVING_SECONDS = 120.0
_PAUSE_SECONDS = 2.0


def take(folder: RunFolder, environ: Mapping[str, str], say: Callable[[str], None]) -> Lease:
    """Write the lease of this attempt, and return it.

    Raises RunError if another attempt runs, LeaseError if Slurm does not say.
    """
    new = Lease(
        attempt=attempt_id(environ), job=in_job.own_id(environ), host=os.uname().nodename,
        process=process_identity(os.getpid()),
        at=time.time(),
    )  # fmt: skip
    held = lease.read(folder)
    if held is not None:
        _check_may_take(folder, held, new, environ, say)
    lease.write(folder, new)
    lease.check(folder, new.attempt)
    return new


def over(folder: RunFolder, environ: Mapping[str, str], say: Callable[[str], None]) -> Optional[Lease]:
    """Return the lease of the run's last attempt, which has ended; None if there was none.

    Raises RunError if it runs, LeaseError if Slurm does not say.
    """
    held = lease.read(folder)
    if held is not None and held.job:
        _check_job(folder, held, environ, say)
    elif held is not None:
        _check_process(folder, held)
    return held


def _check_may_take(
    folder: RunFolder,
    held: Lease,
    new: Lease,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Raise RunError unless the attempt that holds the lease has ended, or is an earlier one of this job."""
    if not held.job or held.attempt == new.attempt:
        _check_process(folder, held)
    elif held.job == new.job:
        # its node may be cut off and its processes still run: they find the new lease before they write
        if _restarts(held) > _restarts(new):
            later = f"attempt {held.attempt} on {held.host}, a later one of this job"
            raise lease.in_use(folder, later, f"if there is none, remove {folder.lease}")
    else:
        _check_job(folder, held, environ, say)


def _check_process(folder: RunFolder, held: Lease) -> None:
    holder = f"process {held.process.partition('-')[0]} on {held.host}"
    if held.host != os.uname().nodename:
        do = f"if {held.host} runs no such process, remove {folder.lease}"
        raise RunError(f"run {folder.name} is, or was, being run by {holder}", "to be started there", do)
    if _lives(held.process):
        raise lease.in_use(folder, holder)


def _check_job(folder: RunFolder, held: Lease, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    holder = f"job {held.job} on {held.host}"
    started, said = time.monotonic(), False
    while True:
        found = in_job.job_status(in_job.ask(in_job.job_status_command(held.job), environ))
        if found.is_known and not found.lives:
            return
        waited = time.monotonic() - started
        if not found.is_known and waited > _ANSWER_SECONDS:
            raise LeaseError(
                f"run {folder.name} was last run by {holder}, and Slurm does not say whether that lives: "
                f"{found.problem}",
                "an answer of squeue",
                f"try again; if job {held.job} is over, remove {folder.lease}",
            )
        if found.is_known and (found.state != "COMPLETING" or waited > _LEAVING_SECONDS):
            raise lease.in_use(folder, f"{holder} ({found.state})")
        if not said:
            why = "leaves its nodes" if found.is_known else f"is known of again ({found.problem})"
            say(f"waiting until {holder}, the run's last attempt, {why}")
            said = True
        time.sleep(_PAUSE_SECONDS)


def _restarts(held: Lease) -> int:
    return int(held.attempt.rpartition(".")[2])


def _lives(process: str) -> bool:
    number, _, start = process.partition("-")
    if start:
        return process_identity(int(number)) == process
    try:
        os.kill(int(number), 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True
