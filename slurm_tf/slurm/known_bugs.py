"""Bugs of Slurm's releases that harm jobs of slurm-tf, as Slurm's own change log describes them.

Only bugs of which the log says in which release they were mended. Of most it does not say which release was the first
to have them: then the first of the same series counts.
"""

import re
from dataclasses import dataclass

Release = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class KnownBug:
    """A bug of the releases from `first` on, mended in `mended`: what it does to a job, and where Slurm says so."""

    first: Release
    mended: Release
    effect: str
    avoid: str
    source: str


BUGS = (
    KnownBug(
        (20, 11, 0), (20, 11, 3),
        "a step gets no more than it asks for: mpirun inside a job starts all processes on one CPU",
        "start Horovod over Gloo, or over MPI with srun, as slurm-tf does", "NEWS, 20.11.3",
    ),
    KnownBug(
        (22, 5, 0), (22, 5, 2),
        "slurmctld crashes when a job array asks for a gres, as a sweep with GPUs may",
        "submit the points of a sweep with GPUs one by one", "NEWS, 22.05.2",
    ),
    KnownBug(
        (22, 5, 0), (22, 5, 4),
        "with cgroup v1, tasks may be reported as out of memory although another step was",
        "do not believe OUT_OF_MEMORY of a step whose MaxRSS is far from its limit", "NEWS, 22.05.4",
    ),
    KnownBug(
        (22, 5, 0), (22, 5, 4),
        "a step on several nodes fails to start where node names have numbers of unlike length",
        "name nodes of one length with --nodelist", "NEWS, 22.05.4",
    ),
    KnownBug(
        (22, 5, 0), (22, 5, 5),
        "a job that is requeued while it ends may not be queued again: a preempted run stops",
        "submit the run again with slurm-tf resubmit RUN", "NEWS, 22.05.5",
    ),
    KnownBug(
        (23, 2, 0), (23, 2, 2),
        "a requeued job keeps GPUs allocated after its end, and later jobs do not get them",
        "tell your administrators of GPUs that nobody uses", "CHANGELOG, 23.02.2",
    ),
    KnownBug(
        (23, 11, 0), (23, 11, 4),
        "with --gpus-per-task and MIG, all tasks of a node are told the same part of a GPU",
        "say gpus-per-node instead of gpus-per-task", "CHANGELOG, 23.11.4",
    ),
    KnownBug(
        (24, 5, 0), (24, 5, 4),
        "srun of a heterogeneous job may hang with MPI (pmix)",
        "give all roles of a Horovod job over MPI the same resources, or use Gloo", "CHANGELOG, 24.05.4",
    ),
    KnownBug(
        (24, 11, 0), (24, 11, 4),
        "slurmctld may crash when a heterogeneous job is submitted",
        "give roles resources with which they can share nodes", "CHANGELOG, 24.11.4",
    ),
    KnownBug(
        (25, 11, 0), (25, 11, 2),
        "steps with --cpus-per-task and --mem-per-cpu are refused in a job of several partitions",
        "name one partition", "CHANGELOG, 25.11.2",
    ),
)  # fmt: skip


def of_release(version: str) -> tuple[KnownBug, ...] | None:
    """Return the bugs of a release such as "22.05.8", None for a version that is none."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        return None
    release = (int(match[1]), int(match[2]), int(match[3]))
    return tuple(bug for bug in BUGS if bug.first <= release < bug.mended)
