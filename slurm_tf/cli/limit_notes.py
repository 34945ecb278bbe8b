"""Which limit of Slurm a run waits for, as status, quota and submit say it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import watch_commands
from slurm_tf.org import user_quota
from slurm_tf.slurm import pending_reasons
from slurm_tf.slurm.records import whole_job
from slurm_tf.watch import find_run, waiting

if TYPE_CHECKING:
    from slurm_tf.jobspec.plan import Plan
    from slurm_tf.watch.run_overview import RunOverview


def waits(points: "Iterable[RunOverview]") -> dict[str, str]:
    """Return which limit each point waits for that is pending for one, by its job; Slurm is asked only where one is."""
    pending = [each for each in points if waiting.is_pending(each)]
    jobs = [each.job for each in pending if pending_reasons.is_limit(each.records[0].reason)]
    return words(jobs) if jobs else {}


def words(jobs: Iterable[str]) -> dict[str, str]:
    """Ask Slurm which limit each of these pending jobs waits for; none of a job that waits for no limit."""
    quota, runs = user_quota.of_user(), run_names()
    demands = {job: user_quota.demand_of(quota, whole_job(job)) for job in jobs}
    found = {job: user_quota.why_waiting(quota, each, runs) for job, each in demands.items() if each}
    return {job: text for job, text in found.items() if text}


def print_limit(plan: "Plan") -> None:
    """Print which limit a job would wait for. Raises LimitError for one that it could never meet."""
    from slurm_tf.org import job_check

    quota = job_check.check(plan)
    if waits := user_quota.why_waiting(quota, job_check.demand(plan), run_names()):
        click.echo(f"slurm-tf: it would wait: {waits}", err=True)


def run_names() -> dict[str, str]:
    """Return the names of the user's runs by job id."""
    return find_run.names_by_job(watch_commands.runs_folder())
