"""Ending a run for good: marked first, so that no attempt starts again, then cancelled."""

import datetime

from slurm_tf import files
from slurm_tf.slurm.client import Client
from slurm_tf.watch import run_state
from slurm_tf.watch.find_run import Target


def cancel(slurm: Client, target: Target) -> list[str]:
    """Mark `target`, then cancel its jobs that have not ended; return their ids. Raises SlurmError.

    A job of which Slurm has no record any more has ended.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    files.own_folder(target.folder.path)
    files.write_whole(target.folder.cancelled, f"{now}\n".encode())
    points = run_state.look(slurm, [target])
    unknown = any(point.notes for point in points)
    living = [point.job for point in points if point.job and not point.is_over and (point.records or unknown)]
    if target.point is None and len(living) == len(points) > 1:
        # all tasks of an array by its own id
        living = list(dict.fromkeys(job.partition("_")[0] for job in living))
    if living:
        slurm.cancel(living)
    return living
