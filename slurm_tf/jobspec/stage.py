"""Resolves [stage]: what each node copies to its scratch before training."""

from slurm_tf import files, units
from slurm_tf.errors import ConfigError, StageError
from slurm_tf.jobspec import containers, layers, user_settings
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.run import placeholders
from slurm_tf.run.stage_settings import StageSettings


def check(job: Job) -> None:
    """Raise ConfigError for all that is wrong with the paths of [stage], as far as no file has to be looked at."""
    errors = ErrorList()
    with errors.collecting():
        _check_scratch(job)
    with errors.collecting():
        _check_names(job)
    errors.raise_all()


def resolve(job: Job) -> StageSettings | None:
    """Return what the nodes copy, None for nothing; params are not filled in yet. Raises ConfigError."""
    stage = job.spec.stage
    if not stage.paths:
        return None
    at = job.where("stage.paths")
    size = job.site.scratch_size if stage.size is None else stage.size
    return StageSettings(
        paths=tuple(user_settings.expand(path, at) for path in stage.paths),
        folder=files.absolute(str(job.folder)),
        optional=stage.optional,
        size=None if size is None else units.parse_memory(str(size)),
    )


def check_size(job: Job) -> None:
    """Raise ConfigError for a size that is none, or larger than scratch."""
    stage, site_size = job.spec.stage, job.site.scratch_size
    layers.check_unit(stage.size, units.parse_memory, job.where("stage.size"))
    if stage.size is None or site_size is None:
        return
    if units.parse_memory(str(stage.size)) > units.parse_memory(str(site_size)):
        needed = f"at most {site_size}, what {job.site.scratch} holds on nodes of site {job.site_name}"
        raise ConfigError(f"found {str(stage.size)!r}", needed, where=job.where("stage.size"))


def _check_scratch(job: Job) -> None:
    """Raise ConfigError where no agent can reach its node's scratch."""
    if not job.spec.stage.paths or job.site.scheduler == "local":
        return
    scratch, at = job.site.scratch, job.where("stage.paths")
    if not scratch:
        raise ConfigError(f"site {job.site_name} names no scratch", "`scratch` in its profile", where=at)
    for name, role in job.spec.roles.with_tasks.items():
        container = containers.resolve(job, name, role)
        if container is None or container.runtime.wraps:
            continue
        if not any(f"{scratch}/".startswith(f"{mount.target}/") for mount in container.mounts):
            found = f"srun starts the tasks of {name} in a container, which has not the node's {scratch}"
            raise ConfigError(found, f"mounts = [{scratch!r}] below [container]", where=at)


def _check_names(job: Job) -> None:
    """Raise ConfigError for two paths of one name, unless params are to be filled in first."""
    settings = resolve(job)
    if settings is None or any(map(placeholders.names, settings.paths)):
        return
    try:
        settings.sources()
    except StageError as error:
        raise ConfigError(error.found, error.needed, where=job.where("stage.paths")) from error
