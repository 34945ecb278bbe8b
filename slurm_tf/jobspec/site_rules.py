"""What a site says of its jobs as a whole: accounts, QOS, required options, room on the nodes' own disks."""

from collections.abc import Sequence

from slurm_tf import units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList

_TMP = "sbatch.tmp"


def check(job: Job) -> None:
    """Raise ConfigError for all for which the site refuses a job, as far as the profile says."""
    errors = ErrorList()
    with errors.collecting():
        _check_one_of(job, "account", job.spec.account, job.site.accounts)
    with errors.collecting():
        _check_one_of(job, "qos", job.spec.qos, job.site.qos)
    for key in job.site.required:
        if not _is_given(job, key):
            known = {"account": job.site.accounts, "qos": job.site.qos, "partition": tuple(job.site.partitions)}
            one_of = f", one of {', '.join(known[key])}" if known.get(key) else ""
            needed = f"one{one_of}: site {job.site_name} takes no job without it"
            errors.add(ConfigError("there is none", needed, where=job.where(key)))
    with errors.collecting():
        _check_disk(job)
    errors.raise_all()


def _check_one_of(job: Job, key: str, value: str | None, allowed: Sequence[str]) -> None:
    if value and allowed and value.lower() not in map(str.lower, allowed):
        hint = layers.nearest(value, allowed)
        needed = f"one of those of site {job.site_name}: {', '.join(allowed)}"
        raise ConfigError(f"found {value!r}", needed, hint, job.where(key))


def _is_given(job: Job, key: str) -> bool:
    """Whether the job has a value for `key`; one that roles may have: whether all of them have."""
    if key in ("partition", "constraint"):
        roles = job.spec.roles.with_tasks.values()
        return bool(getattr(job.spec, key, None)) or all(getattr(role, key) for role in roles)
    return getattr(job.spec, key) is not None


def _check_disk(job: Job) -> None:
    """Check --tmp, the local disk that each node is to have: a number alone is MiB, as for sbatch."""
    asked, size = job.spec.sbatch.get("tmp"), job.site.scratch_size
    if asked is None or size is None:
        return
    layers.check_unit(str(asked), units.parse_memory, job.where(_TMP))
    if units.parse_memory(str(asked)) > units.parse_memory(str(size)):
        needed = f"at most {size}, what {job.site.scratch} holds on nodes of site {job.site_name}"
        raise ConfigError(f"found {str(asked)!r}", needed, where=job.where(_TMP))
