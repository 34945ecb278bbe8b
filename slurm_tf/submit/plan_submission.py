"""Submits the plan of a new run: what sbatch refuses leaves no folder."""

from dataclasses import replace

from slurm_tf.errors import LimitError, SlurmError, UnreachableError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.org import job_check
from slurm_tf.submit import new_run, sbatch
from slurm_tf.submit.sbatch import SubmittedJobs


def submit_plan(plan: Plan, verbose: int = 0) -> SubmittedJobs:
    """Submit a plan that new_run.prepare has made; `verbose`: how many times --verbose.

    The folder of a refused job is removed; where Slurm did not answer it stays, as the job may have been accepted.
    Raises SlurmError, and LimitError for a job that no limit of Slurm's would ever let start.
    """
    try:
        job_check.check(plan)
        return sbatch.submit(replace(sbatch.SubmitRequest.of(plan), verbose=verbose))
    except UnreachableError:
        raise
    except LimitError:
        new_run.remove_unused(plan.submission)
        raise
    except SlurmError as error:
        new_run.remove_unused(plan.submission)
        if advice := sbatch.advice_after_refusal(plan, error):
            raise type(error)(error.found, error.needed, advice) from error
        raise
