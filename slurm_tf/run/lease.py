"""The lease of a run says which attempt may write to it: lease.json in its folder. Standard library, Python 3.9."""

from dataclasses import dataclass, replace
from typing import Optional

from slurm_tf.errors import RunError
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder


@dataclass(frozen=True)
class Lease:
    """The attempt that may write to a run: one incarnation of one job.

    `attempt`: the job's id, a dot, how often Slurm restarted it. `job`: its id as Slurm's commands take it, "" without
    Slurm. `process`: of the coordinator on `host`, its id, a dash, its start (field 22 of /proc/PID/stat). `at`: when
    the lease was taken, seconds since the epoch. `step`: how many steps the attempt has started after its first one;
    what is left of an earlier step may not write.
    """

    attempt: str
    job: str
    host: str
    process: str
    at: float
    step: int = 0


def read(folder: RunFolder) -> Optional[Lease]:
    """Return the lease of a run, None if no attempt has taken it yet. Raises RunError or OSError."""
    try:
        return json_file.read(folder.lease, Lease, "remove it if no attempt lives")
    except FileNotFoundError:
        return None


def write(folder: RunFolder, lease: Lease) -> None:
    """Replace the lease of a run. Raises OSError."""
    json_file.write(folder.lease, lease)


def check(folder: RunFolder, attempt: str) -> Lease:
    """Return the lease of a run, which `attempt` must hold. Raises RunError."""
    held = read(folder)
    if held is None:
        raise RunError(f"{folder.lease} was removed", f"the lease of attempt {attempt}", "submit the run again")
    if held.attempt != attempt:
        raise in_use(folder, f"attempt {held.attempt} on {held.host}")
    return held


def next_step(folder: RunFolder, attempt: str) -> None:
    """Record that `attempt` starts another step: programs of the step before may write no more. Raises RunError."""
    held = check(folder, attempt)
    write(folder, replace(held, step=held.step + 1))


def is_taken_over(folder: RunFolder, attempt: str) -> bool:
    """Whether an attempt other than `attempt` holds the lease. False where the lease cannot be read."""
    try:
        held = read(folder)
    except (RunError, OSError):
        return False
    return held is not None and held.attempt != attempt


def in_use(folder: RunFolder, holder: str, do: str = "wait, or use another --name") -> RunError:
    """Return the error for a run that `holder` (a job, attempt or process, in words) is running."""
    return RunError(f"run {folder.name} is being run by {holder}", "a run of which no other attempt lives", do)
