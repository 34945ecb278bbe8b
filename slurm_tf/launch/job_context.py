"""Describes the run that a job is for, from the environment of its batch script."""

import os
from dataclasses import dataclass
from typing import List, Mapping, Optional

from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.slurm import in_job


@dataclass(frozen=True)
class JobContext:
    """The run that a job is for: the `submission` whose files it uses, and its sweep `point`, None without one.

    `environ`: the batch script's.
    """

    submission: SubmissionFolder
    point: Optional[int]
    environ: Mapping[str, str]

    @property
    def run(self) -> RunFolder:
        """The folder of the whole run."""
        return self.submission.run

    @property
    def folder(self) -> RunFolder:
        """The folder that this job writes to: that of its sweep point, if it has one."""
        return self.run if self.point is None else self.run.point(self.point)

    @property
    def job(self) -> str:
        """The job's id as Slurm's commands take it, "" outside of a job."""
        return in_job.own_id(self.environ)

    @property
    def restarts(self) -> int:
        """How often the job was requeued before this start."""
        return int(self.environ.get("SLURM_RESTART_COUNT") or 0)

    @property
    def is_cancelled(self) -> bool:
        """Whether `slurm-tf cancel` has marked the run."""
        return any(os.path.exists(each.cancelled) for each in (self.run, self.folder))

    @property
    def line(self) -> List[str]:
        """The job, after all those that it follows. Raises RunError or OSError."""
        return job_chain.up_to(self.folder, self.job)


def attempt_id(environ: Mapping[str, str]) -> str:
    """Return the name of the attempt whose coordinator this process is."""
    job = in_job.own_id(environ) or f"local-{os.uname().nodename}-{process_identity(os.getpid())}"
    return f"{job}.{int(environ.get('SLURM_RESTART_COUNT') or 0)}"


def process_identity(number: int) -> str:
    """Return a process's id and start time, unique together; without the time for a zombie, or without /proc."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        fields = []
    return f"{number}-{fields[19] if fields and fields[0] not in 'ZX' else ''}"
