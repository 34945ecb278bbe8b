"""Submitting points of a run once more: the same script, launcher and code."""

from slurm_tf.errors import UsageError
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm.client import Client
from slurm_tf.submit.sbatch import Order
from slurm_tf.watch import find_run, run_state
from slurm_tf.watch.find_run import Target


def order(slurm: Client, target: Target, failed: bool) -> Order:
    """Return the order for all points of `target` that are over, or for those that `failed`; raises UsageError.

    A point that lives, or of which Slurm does not say how it ended, is none of them.
    """
    states = run_state.look(slurm, [target])
    over = [each for each in states if each.is_over and not (failed and each.exit_code == 0)]
    if not over:
        what = "failed" if failed else "is over"
        raise UsageError(
            f"no point of run {target.name} {what}", "one to submit again", f"slurm-tf status {target.name}"
        )
    array = find_run.manifest(target.run).get("array")
    if array is None:
        return Order(target.run)
    points = tuple(sorted(each.target.point for each in over if each.target.point is not None))
    return Order(RunFolder(target.run.path), points, array["limit"], array["one_job"])
