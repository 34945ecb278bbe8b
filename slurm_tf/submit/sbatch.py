"""Submits a prepared run with sbatch, and looks for a reason why its job may never start."""

import contextlib
import os
import time
from dataclasses import dataclass

from slurm_tf.errors import SlurmError
from slurm_tf.jobspec import directives
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import job_chain
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.settings import DATA_SERVICE
from slurm_tf.slurm import array_indexes, client, in_job, pending_reasons, sbatch_choices
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord

# How long to wait for Slurm's reason why a job does not start.
_REASON_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class SubmittedJobs:
    """Jobs that sbatch has accepted, "id" or "id;cluster" each, and what Slurm printed for the user."""

    jobs: tuple[str, ...]
    messages: str


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A call of sbatch: for the script of a submission, or sweep `points` of it, of which `limit` run at once.

    `one_job`: the points are the tasks of one job array; else each is a job, as Slurm has no arrays of heterogeneous
    jobs, and waits for its own `dependency` and for the end of the job that is `limit` jobs before it. `script`: in the
    place of the submission's own; `exclude`: nodes to leave out, where the script does not say so; `verbose`: how many
    times --verbose, which sbatch does not read in a script.
    """

    submission: SubmissionFolder
    points: tuple[int, ...] = ()
    limit: int | None = None
    one_job: bool = True
    script: str = ""
    exclude: str = ""
    dependency: str = ""
    verbose: int = 0

    @classmethod
    def of(cls, fitted: Plan) -> "SubmitRequest":
        """Return the request for a whole plan."""
        if fitted.array is None:
            return cls(fitted.submission)
        dependency = str(fitted.job.spec.sbatch.get("dependency", ""))
        points = tuple(fitted.array.points)
        return cls(fitted.submission, points, fitted.array.limit, fitted.one_job, dependency=dependency)


def submit(request: SubmitRequest) -> SubmittedJobs:
    """Submit a run whose folder is prepared. Raises SlurmError.

    Each job is recorded as soon as sbatch has accepted it, so that a later error loses none. A cancelled run may start
    again.
    """
    run, environ = request.submission.run, in_job.environ_for_sbatch(os.environ)
    for folder in (run, *map(run.point, request.points)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.cancelled)
    jobs: list[str] = []
    messages: list[str] = []
    for points in (request.points,) if request.one_job else tuple((point,) for point in request.points):
        options = _options(request, points, jobs)
        arguments = [] if request.one_job else [str(point) for point in points]
        try:
            answer = client.submit(request.script or request.submission.script, options, arguments, environ)
        except SlurmError as error:
            before = f"; {', '.join(jobs)} submitted before it" if jobs else ""
            explained = sbatch_choices.explained(error)
            raise type(error)(f"{error.found}{before}", explained.needed, error.do) from error
        array, number = request.one_job and bool(points), request.submission.number
        job_chain.add(run, answer.job, answer.cluster, points, array, submission=number)
        jobs.append(f"{answer.job};{answer.cluster}" if answer.cluster else answer.job)
        messages.append(answer.messages)
    return SubmittedJobs(tuple(jobs), "".join(dict.fromkeys(messages)))


def _options(request: SubmitRequest, points: tuple[int, ...], jobs: list[str]) -> list[str]:
    """Return sbatch's options for `points`, after `jobs` were submitted for others."""
    options = [f"--array={array_indexes.render(points, request.limit)}"] if points and request.one_job else []
    options += [f"--exclude={request.exclude}"] if request.exclude else []
    if request.limit and not request.one_job and len(jobs) >= request.limit:
        earlier = f"afterany:{jobs[-request.limit].partition(';')[0]}"
        options.append(f"--dependency={','.join(filter(None, (request.dependency, earlier)))}")
    return options + ["--verbose"] * request.verbose


def pending_reason(slurm: client.Client, job: str) -> JobRecord | None:
    """Return the job's record if Slurm reports soon after submission that it cannot start, or may never start."""
    until = time.monotonic() + _REASON_SECONDS
    while True:
        pending = [record for record in slurm.jobs([job]) if record.state is JobState.PENDING]
        if all(pending_reasons.is_settled(record.reason) for record in pending) or time.monotonic() > until:
            return next((record for record in pending if pending_reasons.may_be_permanent(record.reason)), None)
        time.sleep(0.2)


def shares_nodes(fitted: Plan) -> bool:
    """Whether other users' jobs may run on the nodes of tasks that listen: TensorFlow has no authentication.

    Replicas have.
    """
    return len(fitted.settings.tasks) > 1 and not fitted.settings.serve and not directives.exclusive(fitted.job)


def has_open_data_service(fitted: Plan) -> bool:
    """Whether other users' jobs may run on the nodes of a tf.data service, which authenticates nobody."""
    return any(role.name in DATA_SERVICE for role in fitted.settings.roles) and not directives.exclusive(fitted.job)


def advice_after_refusal(fitted: Plan, error: SlurmError) -> str:
    """Return what may be wrong with a job that no node can have, as sbatch says; "" if nothing is known.

    A job has all CPUs of its nodes with --exclusive, and is to have the memory of each (22.05).
    """
    is_per_cpu = any(name == "mem-per-cpu" for each in fitted.components for name, *_ in each.options)
    is_of_nodes = sbatch_choices.topic(error.found) is sbatch_choices.Topic.NODES
    if not is_of_nodes or directives.exclusive(fitted.job) is not True or not is_per_cpu:
        return ""
    return (
        "with --exclusive, --mem-per-cpu counts for every CPU of a node: use --exclusive=user, which also keeps other "
        "users off the nodes, or --mem"
    )
