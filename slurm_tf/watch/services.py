"""What is known of services: which run serves which models, its jobs and replicas, and whether somebody will answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slurm_tf.errors import ModelError, RunError, UsageError
from slurm_tf.run import job_chain, replica_ends
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.replica_ends import ReplicaEnd
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.run.settings import read_settings
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.slurm.client import Client
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import find_run, reasons
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview


@dataclass(frozen=True, slots=True)
class Service:
    """A run that serves models. `settings`: of its newest submission."""

    selected: SelectedRun
    settings: ServeSettings

    @property
    def run(self) -> RunFolder:
        """The folder that all jobs of the service have in common."""
        return self.selected.run

    def base(self, model: str) -> str:
        """Return the folder of a model, of the only one for "". Raises UsageError."""
        models = self.settings.models
        if model in models:
            return models[model]
        if not model and len(models) == 1:
            return next(iter(models.values()))
        found = f"service {self.run.name} has no model {model!r}" if model else f"service {self.run.name} has several"
        raise UsageError(found, f"one of {', '.join(models)}", "--model NAME")


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which nobody will answer, as far as Slurm says. `until`: None where that is not known."""

    begin: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class ServiceOverview:
    """What is known of a service: the jobs that are not over, oldest first, the replicas that live.

    `last_job`: the last one that has begun, where no job is left. `replica_ends`: of the replicas of these jobs that
    have died; None where that cannot be read. `replicas` is None where the folder of endpoints cannot be read. `gap`:
    None where none is to be expected, or where Slurm does not answer: see `notes`.
    """

    service: Service
    jobs: tuple[RunOverview, ...]
    last_job: RunOverview | None
    replica_ends: tuple[ReplicaEnd, ...] | None
    replicas: tuple[Endpoint, ...] | None
    gap: Gap | None
    notes: tuple[str, ...]


def of_run(selected: SelectedRun) -> Service | None:
    """Return the service that a run is, None for a run of another kind, or one that cannot be read."""
    try:
        jobs = job_chain.read(selected.run)
        number = jobs[-1].submission if jobs else len(selected.run.submissions)
        settings = read_settings(selected.run.submission(number)).serve
    except (RunError, OSError):
        return None
    return Service(SelectedRun(selected.run), settings) if settings else None


def find(text: str, root: str, slurm: Client) -> Service:
    """Return the service that `text` names: a run by its name, path or job id, else by a model that it serves.

    Of several with one model the one whose replicas live. Raises UsageError.
    """
    serving = [each for each in map(of_run, find_run.all_runs(root)) if each and text in each.settings.models]
    living = [each for each in serving if replicas(each.run)]
    if len(living) > 1:
        names = ", ".join(each.run.name for each in living)
        raise UsageError(f"{len(living)} services answer for the model {text}: {names}", "the name of one of them")
    named = _by_run(text, root, slurm, is_needed=not serving)
    return named or (living or serving)[-1]


def replicas(run: RunFolder) -> tuple[Endpoint, ...]:
    """Return the replicas of a service that live, none if its endpoints cannot be read."""
    try:
        return endpoint.living(run.endpoints)
    except (ModelError, OSError):
        return ()


def overview(service: Service, points: Sequence[RunOverview]) -> ServiceOverview:
    """Return what is known of a service, of whose run these are all points."""
    jobs = tuple(each for each in points if each.job and not each.is_over)
    try:
        found: tuple[Endpoint, ...] | None = endpoint.living(service.run.endpoints)
    except (ModelError, OSError):
        found = None
    notes = jobs[0].notes if jobs else ()
    last = None if jobs else _last(points)
    ends = _replica_ends(jobs or tuple(filter(None, [last])))
    return ServiceOverview(service, jobs, last, ends, found, _gap(jobs, bool(found)), notes)


def _last(points: Sequence[RunOverview]) -> RunOverview | None:
    """Return the last job that has begun an attempt, else the last one: one that was to follow may be cancelled."""
    submitted = [each for each in points if each.job]
    begun = [each for each in submitted if each.attempt]
    return next(reversed(begun or submitted), None)


def _replica_ends(jobs: Sequence[RunOverview]) -> tuple[ReplicaEnd, ...] | None:
    try:
        return tuple(end for each in jobs for end in replica_ends.read(each.selected.folder))
    except (RunError, OSError):
        return None


def _by_run(text: str, root: str, slurm: Client, is_needed: bool) -> Service | None:
    """Return the service that a run is which `text` names; None for none, unless it `is_needed`."""
    try:
        selected = find_run.find(text, root, slurm)
    except UsageError as error:
        if is_needed:
            needed = "a service: its run's name, path or job id, or the name of a model that one serves"
            raise UsageError(error.found, needed, error.do) from error
        return None
    service = of_run(selected)
    if service is None and is_needed:
        raise UsageError(f"run {selected.name} serves no model", "a run with strategy serve", "slurm-tf serve MODEL")
    return service


def _gap(jobs: Sequence[RunOverview], is_answering: bool) -> Gap | None:
    """Return the time between the end of the last job that runs and the start of the next one, as Slurm expects it.

    A job whose dependency holds it starts in time, as far as Slurm does not say more. Before a replica answers, its
    job may not have submitted the next one.
    """
    ends = [each.records[0].ended for each in jobs if each.records and each.state is JobState.RUNNING]
    end = max((each for each in ends if each is not None), default=None)
    waiting = [each.records[0] for each in jobs if each.records and each.state is JobState.PENDING]
    if end is None or any(ended is None for ended in ends):
        return None
    if not waiting:
        return Gap(end, None) if is_answering else None
    first = waiting[0]
    if first.reason == "Dependency":
        return None
    if first.expected_start is None or first.expected_start > end:
        return Gap(end, first.expected_start)
    return None


def as_dict(found: ServiceOverview) -> dict[str, object]:
    """Return what is known of a service for JSON; None is unknown."""
    gap = found.gap
    return {
        "service": found.service.run.name,
        "folder": found.service.run.path,
        "models": dict(found.service.settings.models),
        "jobs": [_job(each) for each in found.jobs],
        "last_job": found.last_job
        and {**_job(found.last_job), "reason_words": reasons.reason_words(found.last_job) or None},
        "replica_ends": None if found.replica_ends is None else [vars(each) for each in found.replica_ends],
        "replicas": None if found.replicas is None else [_replica(each) for each in found.replicas],
        "gap": None if gap is None else {"begin": gap.begin.timestamp(), "until": _seconds(gap.until)},
        "notes": list(found.notes),
    }


def _job(each: RunOverview) -> dict[str, object]:
    record = each.records[0] if each.records else None
    return {
        "number": each.selected.point,
        "job": each.job,
        "state": each.state.name,
        "reason": record.reason if record else None,
        "nodes": record.nodes if record else None,
        "ends": _seconds(record.ended) if record else None,
        "expected_start": _seconds(record.expected_start) if record else None,
    }


def _replica(each: Endpoint) -> dict[str, object]:
    models = {
        model.name: {
            "default": model.default,
            "versions": {str(version.version): version.state.value for version in model.versions},
            "reason": model.reason,
        }
        for model in each.models
    }
    return {
        "replica": each.replica,
        "job": each.job,
        "host": each.host,
        "grpc_port": each.grpc_port,
        "rest_port": each.rest_port,
        "models": models,
    }


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()
