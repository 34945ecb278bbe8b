"""Resolves [serve]: what a job with strategy serve answers for, and which of the service's jobs it is."""

import os

from slurm_tf import files, units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import layers, params, user_settings
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.serve_table import MODEL_NAME, Serve
from slurm_tf.jobspec.sweep import Array
from slurm_tf.run import job_chain, placeholders
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.run.settings import SERVE

# How long a replica has to answer what it is asked before it is told to end, and what it was asked.
DRAIN_SECONDS = 20.0


def is_service(job: Job) -> bool:
    """Whether the job serves models."""
    return job.spec.strategy == SERVE


def array(job: Job, run: RunFolder) -> Array | None:
    """Return the one point that the next job of the service is: its number. None for another job, or without Slurm.

    Each job of a service is a point of its run, as one starts before the other ends. Raises RunError or OSError.
    """
    if not is_service(job) or job.site.scheduler == "local":
        return None
    numbers = [point for each in job_chain.read(run) for point in each.points]
    return Array({max(numbers, default=0) + 1: {}}, None)


def check(job: Job) -> None:
    """Raise ConfigError for all that is wrong with [serve], as far as no file has to be looked at."""
    errors, serve = ErrorList(), job.spec.serve
    if not is_service(job):
        if serve != Serve():
            found = f"found [serve] under strategy {job.spec.strategy}"
            raise ConfigError(found, f"strategy {SERVE}", where=job.where("serve"))
        return
    for key in ("array", "sweep"):
        if getattr(job.spec, key):
            errors.add(ConfigError("found it in a service", "none: its jobs follow each other", where=job.where(key)))
    if not serve.models:
        needed = "models = {NAME = FOLDER}: what to serve"
        errors.add(ConfigError("there is no model", needed, where=job.where("serve.models")))
    for name in serve.models:
        if not placeholders.names(name):
            with errors.collecting():
                _check_name(job, name)
    if bool(serve.certificate) != bool(serve.key):
        needed = "both or none: the certificate and its private key"
        errors.add(ConfigError("found one of certificate and key", needed, where=job.where("serve.certificate")))
    errors.raise_all()


def check_overlap(job: Job) -> None:
    """Raise ConfigError for an overlap that is no time, or has no end."""
    value, at = job.spec.serve.overlap, job.where("serve.overlap")
    layers.check_unit(value, units.parse_time, at)
    if units.parse_time(str(value)) is None:
        raise ConfigError("found UNLIMITED", "a time that ends", where=at)


def check_models(job: Job) -> None:
    """Raise ConfigError for a model or a certificate that is not there. A folder that is made up is not looked for."""
    errors = ErrorList()
    made_up = {base for base in job.spec.serve.models.values() if job.examples.intersection(placeholders.names(base))}
    for name, (typed, base) in _models(job).items():
        if typed not in made_up and not os.path.isdir(base):
            needed = "the folder of a model, with its versions"
            errors.add(ConfigError(f"there is no folder {base}", needed, where=job.where(f"serve.models.{name}")))
    for key in ("certificate", "key"):
        path = _file(job, key)
        if path and not os.access(path, os.R_OK):
            error = ConfigError(f"{path} cannot be read", "a file in PEM", where=job.where(f"serve.{key}"))
            errors.add(error)
    errors.raise_all()


def resolve(job: Job, run: RunFolder) -> ServeSettings | None:
    """Return how the replicas serve, None for a job that serves nothing. Raises ConfigError."""
    if not is_service(job):
        return None
    serve = job.spec.serve
    overlap = units.parse_time(str(serve.overlap))
    return ServeSettings(
        models={name: base for name, (_, base) in _models(job).items()},
        folder=run.path,
        processes=serve.processes,
        overlap=overlap.total_seconds() if overlap else 0.0,
        is_open=serve.open,
        certificate=_file(job, "certificate"),
        key=_file(job, "key"),
        max_batch_size=serve.max_batch_size,
        batch_timeout_micros=serve.batch_timeout_micros,
        ports=units.parse_ports(job.site.ports) if job.site.ports else None,
    )


def _models(job: Job) -> dict[str, tuple[str, str]]:
    """Return each model's folder by its name, as it is typed and with the values of params, absolute."""
    values = {name: placeholders.value_text(value) for name, value in params.resolve(job).fixed.items()}
    found: dict[str, tuple[str, str]] = {}
    for name, base in job.spec.serve.models.items():
        filled = placeholders.fill(name, values)
        _check_name(job, filled)
        if filled in found:
            raise ConfigError(f"found two models named {filled}", "different names", where=job.where("serve.models"))
        found[filled] = base, _path(job, placeholders.fill(base, values), f"serve.models.{name}")
    return found


def _check_name(job: Job, name: str) -> None:
    if not MODEL_NAME.fullmatch(name):
        needed = "a name of letters, digits and . _ -, as it is a part of URLs"
        raise ConfigError(f"found the model {name!r}", needed, where=job.where("serve.models"))


def _file(job: Job, key: str) -> str:
    path: str = getattr(job.spec.serve, key)
    if placeholders.names(path):
        raise ConfigError(f"found {path!r}", "a path without params", where=job.where(f"serve.{key}"))
    return _path(job, path, f"serve.{key}") if path else ""


def _path(job: Job, path: str, key: str) -> str:
    """Return a path of the job file as an absolute one. Raises ConfigError."""
    return files.absolute(str(job.folder / user_settings.expand(path, job.where(key))))
