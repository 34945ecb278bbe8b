"""Organizations and their users as a text table and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from slurm_tf.cli import text_table
from slurm_tf.org import limit_words, quota_words
from slurm_tf.org.organizations import GPU, Forgetting, Organization, Organizations, Quota

_HEADS = ("ORGANIZATION", "USER", "GPUS", "GPU-HOURS", "CPUS", "MEM", "WAITING", "MAX-TIME")
_LEAVE_OUT = ("MAX-TIME", "MEM", "CPUS")


def text(found: Organizations, shown: Sequence[Organization]) -> str:
    """Return the table: of each amount what is in use or was used, and the limit, "-" for none."""
    if not shown:
        return f"Cluster {found.cluster} has no organizations that you may see.\n"
    rows = []
    for each in shown:
        rows.append([quota_words.organization(each), "", *_cells(each.quota)])
        rows += [["", quota_words.user(user), *_cells(user.quota)] for user in each.users]
    table = text_table.table(_HEADS, rows, _LEAVE_OUT, "--json has all", names=("ORGANIZATION", "USER"))
    said = ["GPUs, CPUs and memory: in use of the limit; GPU-hours: used of the limit; waiting: jobs and their GPUs."]
    return table + text_table.sentences([*said, *_hours_lines(found.forgetting, shown)])


def _cells(quota: Quota) -> list[str]:
    return [
        quota_words.in_use(quota, GPU),
        quota_words.gpu_hours(quota),
        quota_words.in_use(quota, "cpu"),
        quota_words.in_use(quota, "mem"),
        quota_words.waiting(quota),
        quota_words.longest_job(quota),
    ]


def _hours_lines(forgetting: Forgetting, shown: Sequence[Organization]) -> list[str]:
    limited = [each for each in shown if each.quota.gpu_minutes is not None]
    kept = [each.name for each in limited if each.never_forgotten]
    forgotten = any(user.quota.gpu_minutes is not None for each in shown for user in each.users)
    return hours_lines(forgetting, forgotten or len(kept) < len(limited), kept)


def hours_lines(forgetting: Forgetting, forgotten: bool, kept: Sequence[str]) -> list[str]:
    """Return how Slurm forgets GPU-hours that count for a limit, where some are `forgotten`, and whose are `kept`."""
    lines = limit_words.forgetting_lines(forgetting.half_life, forgetting.reset) if forgotten else []
    return [*lines, *([f"GPU-hours of {', '.join(kept)} are a total: the QOS has NoDecay."] if kept else [])]


def as_dict(found: Organizations, shown: Sequence[Organization]) -> dict[str, Any]:
    """Return all for JSON: null is unknown, or no limit; memory in MiB, hours instead of minutes."""
    half_life = found.forgetting.half_life
    return {
        "cluster": found.cluster,
        "unknown": found.unknown or None,
        "half_life_hours": half_life.total_seconds() / 3600 if half_life else None,
        "reset": found.forgetting.reset or None,
        "organizations": [
            {
                "name": each.name,
                "parent": each.parent,
                "qos": each.qos.name if each.qos else None,
                "flags": list(each.qos.flags) if each.qos else [],
                "gpus_per_user": each.qos.max_tres_per_user.get(GPU) if each.qos else None,
                **quota_as_dict(each.quota),
                "users": [
                    {"name": user.name, "partition": user.partition or None, **quota_as_dict(user.quota)}
                    for user in each.users
                ],
            }
            for each in shown
        ],
    }


def quota_as_dict(quota: Quota) -> dict[str, Any]:
    """Return one quota for JSON, with amounts by Slurm's names of TRES."""
    max_wall = quota.limits.max_wall
    return {
        "limits": dict(quota.limits.grp_tres),
        "allocated": _known(quota.allocated),
        "left": _known(quota.left),
        "waiting": _known(quota.waiting),
        "waiting_jobs": quota.waiting_jobs,
        "limits_per_job": dict(quota.limits.max_tres),
        "max_time_hours": max_wall.total_seconds() / 3600 if max_wall else None,
        "gpu_hours_limit": _in_hours(quota.gpu_minutes),
        "gpu_hours_used": _in_hours(quota.used_gpu_minutes),
        "gpu_hours_left": _in_hours(quota.left_gpu_minutes),
    }


def _known(amounts: Mapping[str, int] | None) -> dict[str, int] | None:
    return None if amounts is None else {name: number for name, number in amounts.items() if number or name == GPU}


def _in_hours(minutes: int | None) -> float | None:
    return None if minutes is None else minutes / 60
