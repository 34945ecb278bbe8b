"""Words for what an organization, or a user in it, may use and uses: "3 of 4, a100 1 of 2", "2: 3 GPUs"."""

from slurm_tf import units
from slurm_tf.org import quota_options
from slurm_tf.org.organizations import GPU, Organization, OrganizationUser, Quota
from slurm_tf.slurm import associations

_UNKNOWN, _NONE = "unknown", "-"


def in_use(quota: Quota, tres: str) -> str:
    """Return what is in use of a TRES, and the limit: "3 of 4", with those of each type of GPU."""
    held, most = quota.allocated, quota.limits.grp_tres.get(tres)
    used = _UNKNOWN if held is None else _amount(tres, held.get(tres, 0), most)
    types = [name for name in quota.limits.grp_tres if name.startswith(f"{tres}:")]
    typed = [f"{name.partition(':')[2]} {in_use(quota, name)}" for name in types]
    return ", ".join([f"{used} of {_amount(tres, most, most)}" if most is not None else used, *typed])


def gpu_hours(quota: Quota) -> str:
    """Return the GPU-hours that were used, and the limit: "2.5 of 100"."""
    used = _UNKNOWN if quota.used_gpu_minutes is None else f"{quota.used_gpu_minutes / 60:.1f}"
    return used if quota.gpu_minutes is None else f"{used} of {quota.gpu_minutes / 60:g}"


def waiting(quota: Quota) -> str:
    """Return how many jobs wait, and the GPUs that they ask for: "2: 3 GPUs"; "-" for none."""
    if quota.waiting is None or quota.waiting_jobs is None:
        return _UNKNOWN
    if not quota.waiting_jobs:
        return _NONE
    gpus = quota.waiting.get(GPU, 0)
    return f"{quota.waiting_jobs}: {gpus} GPU{'s' * (gpus != 1)}"


def longest_job(quota: Quota) -> str:
    """Return the longest time limit that a job may have; "-" for none."""
    return units.format_time(quota.limits.max_wall) if quota.limits.max_wall else _NONE


def limits_in_slurm(each: Organization, name: str) -> str:
    """Return the limits of an organization, or of the user `name` in it, as Slurm has them.

    "" where that user is not in it.
    """
    if not name:
        return quota_options.words(quota_options.wish_of(each.quota.limits, each.qos).limits)
    found = [one.quota.limits for one in each.users if (one.name, one.partition) == (name, "")]
    return quota_options.words(found[0]) if found else ""


def organization(each: Organization) -> str:
    """Return the name of an organization, and what it is in: "lasers, in physics"."""
    return each.name if each.parent in ("", associations.ROOT) else f"{each.name}, in {each.parent}"


def user(each: OrganizationUser) -> str:
    """Return the name of a user, and the partition that alone the association is for."""
    return f"{each.name} on {each.partition}" if each.partition else each.name


def _amount(tres: str, number: int, most: int | None) -> str:
    """Return an amount of a TRES; of memory in the unit of the limit, where there is one."""
    return units.format_memory_beside(number, most or number) if tres == "mem" else str(number)
