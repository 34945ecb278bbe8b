"""Removes runs that are over, or their checkpoints, or the copies of their code."""

import enum
import os
import shutil
from collections.abc import Sequence

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run import job_chain, status
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.job_chain import SubmittedJob
from slurm_tf.run.status import AttemptState
from slurm_tf.slurm.client import Client
from slurm_tf.watch import disk_usage
from slurm_tf.watch.find_run import SelectedRun


class Part(enum.Enum):
    """What of a run is removed."""

    ALL = "all"
    CHECKPOINTS = "checkpoints"
    CODE = "code"


def paths(selected: SelectedRun, part: Part) -> list[str]:
    """Return the folders that `remove` would remove or empty. Raises RunError where that is not the run's own."""
    if selected.point is not None and part is not Part.CHECKPOINTS:
        found = f"{selected.name} is a sweep point, of a run with one copy of the code"
        raise RunError(found, f"the run {selected.run.name}, or --checkpoints")
    if part is Part.CHECKPOINTS:
        folders = disk_usage.checkpoints(selected)
        for link in filter(os.path.islink, folders):
            raise RunError(f"{link} is a symbolic link to {os.readlink(link)}", "a folder of the run's own")
        return folders
    return [selected.run.path] if part is Part.ALL else disk_usage.copies_of_code(selected.run)


def check_jobs(run: RunFolder, slurm: Client) -> None:
    """Raise RunError or SlurmError unless no job of a run lives.

    A job that slurmctld does not know lives no more, whatever accounting has.
    """
    jobs = [each for folder in (run, *disk_usage.points(run)) for each in job_chain.read(folder)]
    _check_other_clusters(run, [each for each in jobs if each.cluster])
    ids = list(dict.fromkeys(each.job for each in jobs if not each.cluster))
    for record in slurm.jobs(ids) if ids else ():
        if not record.state.ended:
            found = f"job {record.id} of run {run.name} is {record.state.name}"
            raise RunError(found, "a run that is over", f"slurm-tf cancel {run.name}, or wait")


def _check_other_clusters(run: RunFolder, jobs: Sequence[SubmittedJob]) -> None:
    """Raise RunError for jobs of clusters that are not asked here, unless the run has written its end."""
    if not jobs:
        return
    said = [status.read(folder) for folder in ([run.point(n) for n in jobs[-1].points] or [run])]
    if any(each is None or each.state is not AttemptState.ENDED for each in said):
        last = jobs[-1]
        found = f"job {last.job} of run {run.name} is of cluster {last.cluster}, and the run has not written its end"
        raise RunError(found, "a run that is over", f"squeue -M {last.cluster} --jobs={last.job} shows the job")


def remove(selected: SelectedRun, part: Part) -> None:
    """Remove a run that is over, or a part of it. Raises StorageError.

    No symbolic link is followed. The manifest goes last: what an error leaves is still a run, and can be removed again.
    """
    with files.explained(f"remove {selected.name}", do="what is left can be removed once more"):
        for path in paths(selected, part):
            if os.path.islink(path):
                os.unlink(path)
                continue
            last = os.path.basename(selected.run.manifest) if part is Part.ALL else ""
            for name in sorted(os.listdir(path), key=lambda name: name == last):
                _remove(os.path.join(path, name))
            # a group's rights, and what a program may link to it, stay with the folder of checkpoints
            if part is not Part.CHECKPOINTS:
                os.rmdir(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
