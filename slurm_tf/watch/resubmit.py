"""Chooses the sweep points of a run that are submitted again, with the same script, launcher and code."""

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from slurm_tf.errors import UsageError
from slurm_tf.run import job_chain, manifest
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.slurm import hostlist
from slurm_tf.slurm.client import Client
from slurm_tf.submit import sbatch
from slurm_tf.submit.sbatch import SubmitRequest, SubmittedJobs
from slurm_tf.watch import run_overview
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview


def points_over(slurm: Client, selected: SelectedRun, failed: bool) -> list[RunOverview]:
    """Return all points of `selected` that are over, or with `failed` those that failed.

    A point that is not over, or of which Slurm does not say how it ended, is left out. Raises UsageError if no point is
    left.
    """
    states = run_overview.read_overviews(slurm, [selected])
    over = [each for each in states if each.is_over and not (failed and each.exit_code == 0)]
    if not over:
        what = "has failed" if failed else "is over"
        raise UsageError(
            f"no job of run {selected.name} {what}", "one to submit again", f"slurm-tf status {selected.name}"
        )
    return over


def submit_requests(over: Sequence[RunOverview]) -> list[SubmitRequest]:
    """Return what to submit for points of a run: a request for each submission to which their newest jobs belong."""
    submissions = job_chain.submissions(over[0].selected.run)
    points: dict[SubmissionFolder, list[int]] = {}
    for each in over:
        point = each.selected.point
        points.setdefault(submissions[point], []).extend([] if point is None else [point])
    return [_request(submission, points[submission]) for submission in sorted(points, key=lambda each: each.number)]


def submit(requests: Sequence[SubmitRequest], bad: Iterable[str]) -> Iterator[SubmittedJobs]:
    """Submit what `submit_requests` returned, on nodes that are not `bad`; yield what sbatch accepted.

    Raises SlurmError.
    """
    for request in requests:
        own = manifest.read(request.submission.manifest).job["sbatch"].get("exclude", "")
        yield sbatch.submit(replace(request, exclude=hostlist.extend(str(own), bad)))


def from_where(folders: Sequence[RunFolder]) -> str:
    """Return from which step runs or sweep points go on, in words."""
    found = [run_overview.newest_checkpoint(folder) for folder in folders]
    steps = sorted(each.step for each in found if each)
    if not steps:
        return "starts at its first step, or where its own code goes on: there is no checkpoint of slurm_tf.train"
    if len(folders) == 1:
        return f"goes on from step {steps[0]}, its last checkpoint"
    without = ", and starts at the first step in the others" if None in found else ""
    between = f"step {steps[0]}" if steps[0] == steps[-1] else f"steps {steps[0]} to {steps[-1]}"
    return f"goes on from {between} in {len(steps)} of {len(folders)} points{without}"


def _request(submission: SubmissionFolder, points: Sequence[int]) -> SubmitRequest:
    origin = manifest.read(submission.manifest)
    if origin.code is not None and not os.path.isdir(submission.code):
        do = f"slurm-tf submit {shlex.quote(origin.job_file)} --name {shlex.quote(origin.run)} makes another copy"
        raise UsageError(f"the copy of the code was removed: {submission.code}", "the code that is submitted again", do)
    array = origin.array
    if array is None:
        return SubmitRequest(submission)
    return SubmitRequest(submission, tuple(sorted(points)), array.limit, array.one_job)
