"""Submitting points of a run once more: the same script, launcher and code."""

from collections.abc import Sequence

from slurm_tf.errors import UsageError
from slurm_tf.run import job_chain, manifest
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.slurm.client import Client
from slurm_tf.submit.sbatch import SubmitRequest
from slurm_tf.watch import run_state
from slurm_tf.watch.find_run import Target


def orders(slurm: Client, target: Target, failed: bool) -> list[SubmitRequest]:
    """Return orders for all points of `target` that are over, or for those that `failed`; raises UsageError.

    One for each submission that the newest jobs of those points are of. A point that lives, or of which Slurm does not
    say how it ended, is in none.
    """
    states = run_state.look(slurm, [target])
    over = [each for each in states if each.is_over and not (failed and each.exit_code == 0)]
    if not over:
        what = "failed" if failed else "is over"
        raise UsageError(
            f"no point of run {target.name} {what}", "one to submit again", f"slurm-tf status {target.name}"
        )
    submissions = job_chain.submissions(target.run)
    points: dict[SubmissionFolder, list[int]] = {}
    for each in over:
        point = each.target.point
        points.setdefault(submissions[point], []).extend([] if point is None else [point])
    return [_order(submission, points[submission]) for submission in sorted(points, key=lambda each: each.number)]


def _order(submission: SubmissionFolder, points: Sequence[int]) -> SubmitRequest:
    array = manifest.read(submission.manifest).array
    if array is None:
        return SubmitRequest(submission)
    return SubmitRequest(submission, tuple(sorted(points)), array.limit, array.one_job)
