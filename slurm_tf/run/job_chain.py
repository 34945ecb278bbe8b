"""The jobs that were submitted for a run: jobs.json in its folder, a list that only grows.

A job that cannot be requeued submits another one, which goes on with its run: such jobs form a chain. The job that is
followed writes this down: for the whole run, or for one sweep point into the point's folder, as other points of an
array write at the same time. Standard library, Python 3.9.
"""

import datetime
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder, SubmissionFolder


@dataclass(frozen=True)
class SubmittedJob:
    """One call of sbatch. `points`: indexes of the sweep points that it was for; `array`: as tasks of one job array.

    `submission`: the number of the folder of files that the job uses (run/folder.py).

    `after`: the id of the job that submitted this one to go on with its run, "" for one that the user submitted.
    """

    job: str
    cluster: str
    at: str
    submission: int
    points: Tuple[int, ...] = ()
    array: bool = False
    after: str = ""

    @property
    def ids(self) -> Dict[Optional[int], str]:
        """The job id of each point, as Slurm's commands take it; of None where the run has no points."""
        if not self.points:
            return {None: self.job}
        return {point: f"{self.job}_{point}" if self.array else self.job for point in self.points}


@dataclass(frozen=True)
class _Jobs:
    """jobs.json."""

    jobs: Tuple[SubmittedJob, ...] = ()


def add(
    folder: RunFolder, job: str, cluster: str, points: Sequence[int], array: bool, after: str = "", *, submission: int
) -> None:
    """Record that sbatch has accepted `job`; the arguments are the fields of SubmittedJob.

    Raises RunError or OSError.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    submitted = SubmittedJob(job, cluster, now, submission, tuple(points), array, after)
    json_file.write(folder.jobs, _Jobs((*read(folder), submitted)))


def read(folder: RunFolder) -> Tuple[SubmittedJob, ...]:
    """Return all jobs that were submitted for a run or point, oldest first. Raises RunError or OSError."""
    try:
        return json_file.read(folder.jobs, _Jobs).jobs
    except FileNotFoundError:
        return ()


def chains(run: RunFolder) -> Dict[Optional[int], Tuple[str, ...]]:
    """Return the chain of each point: the id of the job that was submitted last, and of those that follow it.

    Raises RunError or OSError.
    """
    found: Dict[Optional[int], Tuple[str, ...]] = {}
    for each in read(run):
        for point, job in each.ids.items():
            found[point] = (*found[point], job) if each.after else (job,)
    return {
        point: chain if point is None else _extended(chain, run.point(point), point) for point, chain in found.items()
    }


def newest(run: RunFolder) -> Dict[Optional[int], str]:
    """Return the id of the last job in the chain of each point. Raises RunError or OSError."""
    return {point: chain[-1] for point, chain in chains(run).items()}


def submissions(run: RunFolder) -> Dict[Optional[int], SubmissionFolder]:
    """Return for each point the files that its newest job uses; of None for a run without points.

    Raises RunError or OSError.
    """
    return {point: run.submission(each.submission) for each in read(run) for point in each.ids}


def up_to(folder: RunFolder, job: str) -> List[str]:
    """Return the chain that ends with `job`, oldest job first. Raises RunError or OSError."""
    after = {number: each.after for each in read(folder) for number in each.ids.values()}
    found: List[str] = []
    while job and job not in found:
        found.insert(0, job)
        job = after.get(job, "")
    return found


def _extended(chain: Tuple[str, ...], folder: RunFolder, point: int) -> Tuple[str, ...]:
    """Return a point's chain with the jobs that are written down in the point's own folder."""
    after = {each.after: each.ids[point] for each in read(folder)}
    while chain[-1] in after:
        chain = (*chain, after.pop(chain[-1]))
    return chain
