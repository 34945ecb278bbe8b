"""The run that a job is for, as its batch script's environment says."""

import os
from dataclasses import dataclass
from typing import List, Mapping, Optional

from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import in_job


@dataclass(frozen=True)
class JobContext:
    """A run in a job: `group` holds its script, `folder` is its own; `point` of an array, None without one."""

    folder: RunFolder
    group: RunFolder
    point: Optional[int]
    environ: Mapping[str, str]

    @property
    def job(self) -> str:
        """The job's id as Slurm's commands take it, "" outside of a job."""
        return in_job.own_id(self.environ)

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
        return job_chain.up_to(self.folder, self.job)


def attempt_id(environ: Mapping[str, str]) -> str:
    """Return the name of the attempt whose coordinator this process is."""
    job = in_job.own_id(environ) or f"local-{os.uname().nodename}-{process_identity(os.getpid())}"
    return f"{job}.{int(environ.get('SLURM_RESTART_COUNT') or 0)}"


def process_identity(number: int) -> str:
    """Return a process's id and start, which together are never another's; no start for a zombie or without /proc."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        fields = []
    return f"{number}-{fields[19] if fields and fields[0] not in 'ZX' else ''}"
