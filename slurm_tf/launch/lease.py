"""Whose a run is: an attempt takes it before anything starts. A lease is broken by what Slurm says, not by a file lock.

The writer of checkpoints reads it again before all that it cannot take back: train/commit.py.
"""

import errno
import os
import time
from dataclasses import replace
from typing import Callable, Mapping, Optional

from slurm_tf import contract, files
from slurm_tf.errors import LeaseError, RunError
from slurm_tf.launch import slurm

# How long slurmctld may be away (a restart), and how long a job that has ended may take to leave its nodes: KillWait
# and UnkillableStepTimeout of slurm.conf are 30 s and 60 s.
_ANSWER_SECONDS = 60.0
_LEAVING_SECONDS = 120.0
_PAUSE_SECONDS = 2.0


def attempt(environ: Mapping[str, str]) -> str:
    """Return the name of the attempt whose coordinator this process is."""
    job = slurm.own_id(environ) or f"local-{os.uname().nodename}-{_process(os.getpid())}"
    return f"{job}.{int(environ.get('SLURM_RESTART_COUNT') or 0)}"


def take(folder: contract.RunFolder, environ: Mapping[str, str], say: Callable[[str], None]) -> contract.Lease:
    """Make the run this attempt's; return the lease.

    Raises RunError if another attempt lives, LeaseError if Slurm does not say.
    """
    own = contract.Lease(
        attempt=attempt(environ), job=slurm.own_id(environ), host=os.uname().nodename, process=_process(os.getpid()),
        at=time.time(),
    )  # fmt: skip
    held = contract.read_lease(folder)
    if held is not None:
        _break(folder, held, own, environ, say)
    files.write_whole(folder.lease, own.to_json().encode())
    check(folder, own.attempt)
    return own


def over(
    folder: contract.RunFolder, environ: Mapping[str, str], say: Callable[[str], None]
) -> Optional[contract.Lease]:
    """Return the lease of the run's last attempt, which is over; None if there was none.

    Raises RunError if it lives, LeaseError if Slurm does not say.
    """
    held = contract.read_lease(folder)
    if held is not None and held.job:
        _check_job(folder, held, environ, say)
    elif held is not None:
        _check_process(folder, held)
    return held


def check(folder: contract.RunFolder, mine: str) -> contract.Lease:
    """Return the lease of the run, which is still that of the attempt `mine`. Raises RunError."""
    held = contract.read_lease(folder)
    if held is None or held.attempt != mine:
        raise _refusal(folder, f"attempt {held.attempt} on {held.host}" if held else "nobody")
    return held


def next_step(folder: contract.RunFolder, mine: str) -> None:
    """Take in that the attempt `mine` has a new step: programs of the former one may write no more. Raises RunError."""
    held = check(folder, mine)
    files.write_whole(folder.lease, replace(held, step=held.step + 1).to_json().encode())


def is_ours(folder: contract.RunFolder, mine: str) -> bool:
    """Whether no other attempt than `mine` has taken the run, as far as can be read."""
    try:
        held = contract.read_lease(folder)
    except (RunError, OSError):
        return True
    return held is None or held.attempt == mine


def _break(
    folder: contract.RunFolder,
    held: contract.Lease,
    own: contract.Lease,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Return if the attempt that holds the run is over, or an earlier incarnation of this job. Raises RunError."""
    if not held.job or held.attempt == own.attempt:
        _check_process(folder, held)
    elif held.job == own.job:
        # its node may be cut off, and its processes alive: it finds our lease before it writes
        if _restarts(held) > _restarts(own):
            later = f"attempt {held.attempt} on {held.host}, a later one of this job"
            raise _refusal(folder, later, f"if there is none, remove {folder.lease}")
    else:
        _check_job(folder, held, environ, say)


def _check_process(folder: contract.RunFolder, held: contract.Lease) -> None:
    who = f"process {held.process.partition('-')[0]} on {held.host}"
    if held.host != os.uname().nodename:
        do = f"if {held.host} runs no such process, remove {folder.lease}"
        raise RunError(f"run {folder.name} is, or was, being run by {who}", "to be started there", do)
    if _lives(held.process):
        raise _refusal(folder, who)


def _check_job(
    folder: contract.RunFolder, held: contract.Lease, environ: Mapping[str, str], say: Callable[[str], None]
) -> None:
    who = f"job {held.job} on {held.host}"
    started, said = time.monotonic(), False
    while True:
        found = slurm.standing(slurm.ask(slurm.standing_command(held.job), environ))
        if found.is_known and not found.lives:
            return
        waited = time.monotonic() - started
        if not found.is_known and waited > _ANSWER_SECONDS:
            raise LeaseError(
                f"run {folder.name} was last run by {who}, and Slurm does not say whether that lives: {found.problem}",
                "an answer of squeue",
                f"try again; if job {held.job} is over, remove {folder.lease}",
            )
        if found.is_known and (found.state != "COMPLETING" or waited > _LEAVING_SECONDS):
            raise _refusal(folder, f"{who} ({found.state})")
        if not said:
            why = "leaves its nodes" if found.is_known else f"is known of again ({found.problem})"
            say(f"waiting until {who}, the run's last attempt, {why}")
            said = True
        time.sleep(_PAUSE_SECONDS)


def _refusal(folder: contract.RunFolder, who: str, do: str = "wait, or use another --name") -> RunError:
    return RunError(f"run {folder.name} is being run by {who}", "a run of which no other attempt lives", do)


def _restarts(held: contract.Lease) -> int:
    return int(held.attempt.rpartition(".")[2])


def _process(number: int) -> str:
    """Return a process's id and start, which together are never another's; no start for a zombie or without /proc."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        fields = []
    return f"{number}-{fields[19] if fields and fields[0] not in 'ZX' else ''}"


def _lives(process: str) -> bool:
    number, _, start = process.partition("-")
    if start:
        return _process(int(number)) == process
    try:
        os.kill(int(number), 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True
