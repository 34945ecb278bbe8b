"""Makes the index of the user's runs again where it is missing, from what Slurm knows of the user's jobs."""

import contextlib
import os
import re
from collections.abc import Iterator

from slurm_tf.errors import RunError, UnreachableError
from slurm_tf.run import job_comment
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import work_folders
from slurm_tf.submit import run_index

# The working directory of a job that runs a copy of its code: see RunFolder.submission and SubmissionFolder.code.
_COPY = re.compile(r"(?P<run>/.*?)/submission-\d+/code(/.*)?", re.DOTALL)


def make_index(root: str) -> None:
    """Make the index from Slurm's record of the user's jobs, unless there is one, or Slurm does not answer.

    `root`: a folder of runs in which those may be whose code was not copied.
    """
    if run_index.read() is not None:
        return
    with contextlib.suppress(UnreachableError, RunError, OSError):  # then it is tried again next time
        jobs = sorted(work_folders.of_own_jobs())
        run_index.add([folder for job in jobs for folder in _runs_of(*job, root)])


def _runs_of(work_folder: str, comment: str, root: str) -> Iterator[str]:
    """Yield the folders that the run of a job may have, as far as they are runs."""
    run = job_comment.read_comment(comment)[0]
    copy = _COPY.fullmatch(work_folder)
    names = [os.path.join(parent, run) for parent in (os.path.join(work_folder, "runs"), root)] if run else []
    for folder in [copy["run"]] if copy else names:
        if os.path.isfile(RunFolder(folder).manifest):
            yield folder
