"""Chooses the sweep points of a run that are submitted again, with the same script, launcher and code."""

import os
import shlex
from collections.abc import Sequence

from slurm_tf.errors import UsageError
from slurm_tf.run import job_chain, manifest
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.slurm.client import Client
from slurm_tf.submit.sbatch import SubmitRequest
from slurm_tf.watch import run_overview
from slurm_tf.watch.find_run import SelectedRun


def submit_requests(slurm: Client, selected: SelectedRun, failed: bool) -> list[SubmitRequest]:
    """Return what to submit: all points of `selected` that are over, or with `failed` those that failed.

    There is one request for each submission to which the newest jobs of these points belong. A point that is not over,
    or of which Slurm does not say how it ended, is left out. Raises UsageError if no point is left.
    """
    states = run_overview.read_overviews(slurm, [selected])
    over = [each for each in states if each.is_over and not (failed and each.exit_code == 0)]
    if not over:
        what = "has failed" if failed else "is over"
        raise UsageError(
            f"no job of run {selected.name} {what}", "one to submit again", f"slurm-tf status {selected.name}"
        )
    submissions = job_chain.submissions(selected.run)
    points: dict[SubmissionFolder, list[int]] = {}
    for each in over:
        point = each.selected.point
        points.setdefault(submissions[point], []).extend([] if point is None else [point])
    return [_request(submission, points[submission]) for submission in sorted(points, key=lambda each: each.number)]


def _request(submission: SubmissionFolder, points: Sequence[int]) -> SubmitRequest:
    origin = manifest.read(submission.manifest)
    if origin.code is not None and not os.path.isdir(submission.code):
        do = f"slurm-tf submit {shlex.quote(origin.job_file)} --name {shlex.quote(origin.run)} makes another copy"
        raise UsageError(f"the copy of the code was removed: {submission.code}", "the code that is submitted again", do)
    array = origin.array
    if array is None:
        return SubmitRequest(submission)
    return SubmitRequest(submission, tuple(sorted(points)), array.limit, array.one_job)
