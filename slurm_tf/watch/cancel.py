"""Cancels a run for good: marks it first, so that no attempt starts again, then cancels its jobs."""

import datetime

from slurm_tf import files
from slurm_tf.slurm.client import Client
from slurm_tf.watch import run_overview
from slurm_tf.watch.find_run import SelectedRun


def cancel(slurm: Client, selected: SelectedRun) -> list[str]:
    """Mark `selected`, then cancel its jobs that have not ended; return their ids. Raises SlurmError.

    A job counts as ended if slurmctld and slurmdbd answer and have no record of it.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    files.own_folder(selected.folder.path)
    files.write_whole(selected.folder.cancelled, f"{now}\n".encode())
    points = run_overview.read_overviews(slurm, [selected])
    unknown = any(point.silent for point in points)
    living = [point.job for point in points if point.job and not point.is_over and (point.records or unknown)]
    if selected.point is None and len(living) == len(points) > 1:
        # one id cancels all tasks of an array
        living = list(dict.fromkeys(job.partition("_")[0] for job in living))
    if living:
        slurm.cancel(living)
    return living
