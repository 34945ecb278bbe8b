"""The views of quotas: what the user may still use, and the organizations that the user may see."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf import units
from slurm_tf.errors import SlurmError
from slurm_tf.org import limit_words, organizations, user_quota
from slurm_tf.org.organizations import GPU, Organization, Quota
from slurm_tf.org.user_quota import UserQuota
from slurm_tf.page import quota_cache
from slurm_tf.page.context import PageContext
from slurm_tf.slurm import associations
from slurm_tf.slurm.associations import AdminLevel
from slurm_tf.slurm.usage_limits import Limit

_UNKNOWN, _NONE = "unknown", "-"


@dataclass(frozen=True, slots=True)
class OrganizationRow:
    """A line of the table: an organization, or a user in it. Amounts are in words."""

    name: str
    user: str
    gpus: str
    gpu_hours: str
    cpus: str
    memory: str
    waiting: str
    max_time: str


class QuotaViews:
    """The views of quotas and organizations."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [Route("/quota", self.quota), Route("/organizations", self.list_organizations)]

    def quota(self, request: Request) -> Response:
        """Show the user's own limits on every level: what is left, who uses it, and until when."""
        mine = self._context.quota.look()
        runs = quota_cache.run_names(self._context.runs.look(wait=False))
        limits = mine.limits
        values = {
            "title": "Quota",
            "user": limits.user,
            "problems": list(filter(None, dict.fromkeys([limits.unknown, mine.unknown]))),
            "is_known": not limits.unknown,
            "rows": [_limit_row(mine, each) for each in limits.limits],
            "in_use": [_sentence(each) for each in user_quota.in_use_lines(mine, runs)],
        }
        return self._context.answer(request, "quota", values)

    def _is_admin(self) -> bool:
        """Return whether the forms are offered: --admin was typed, or slurmdbd says that the user is an operator."""
        if self._context.is_admin:
            return True
        try:
            return any(each.level is not AdminLevel.NONE for each in associations.users(associations.me()))
        except SlurmError:
            return False

    def list_organizations(self, request: Request) -> Response:
        """Show organizations with their users, limits, and what is in use, used and waiting."""
        found = organizations.read()
        shown = found.organizations
        values = {
            "title": "Organizations",
            "cluster": found.cluster,
            "problems": [f"what is in use and waiting is unknown: {found.unknown}"] if found.unknown else [],
            "rows": [row for each in shown for row in _organization_rows(each)],
            "is_admin": self._is_admin(),
            "forgetting": user_quota.forgetting_lines(found.forgetting.half_life, found.forgetting.reset),
            "kept": [each.name for each in shown if each.never_forgotten and each.quota.gpu_minutes is not None],
        }
        return self._context.answer(request, "organizations", values)


def _limit_row(mine: UserQuota, limit: Limit) -> list[str]:
    """Return the cells of a limit: whose, what, left, of how much, until when it is in use, its name in Slurm."""
    return [
        limit.owner,
        limit_words.what(limit),
        limit_words.amount(limit, limit.left),
        limit_words.amount(limit, limit.most),
        _until(mine, limit),
        limit_words.in_slurm(limit),
    ]


def _until(mine: UserQuota, limit: Limit) -> str:
    """Return until about when all of a limit is in use."""
    if limit.left:
        return _NONE
    until = mine.until(limit)
    return user_quota.clock(until) if until else _UNKNOWN


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _organization_rows(each: Organization) -> list[OrganizationRow]:
    """Return the line of an organization, then those of its users."""
    path = each.name if each.parent in ("", "root") else f"{each.name}, in {each.parent}"
    users = [
        _organization_row("", f"{user.name} on {user.partition}" if user.partition else user.name, user.quota)
        for user in each.users
    ]
    return [_organization_row(path, "", each.quota), *users]


def _organization_row(name: str, user: str, quota: Quota) -> OrganizationRow:
    return OrganizationRow(
        name=name,
        user=user,
        gpus=_of(quota, GPU),
        gpu_hours=_hours(quota),
        cpus=_of(quota, "cpu"),
        memory=_of(quota, "mem"),
        waiting=_waiting(quota),
        max_time=units.format_time(quota.limits.max_wall) if quota.limits.max_wall else _NONE,
    )


def _of(quota: Quota, tres: str) -> str:
    """Return what is in use, and the limit, as "3 of 4"."""
    held, most = quota.allocated, quota.limits.grp_tres.get(tres)
    used = _UNKNOWN if held is None else _amount(tres, held.get(tres, 0))
    return used if most is None else f"{used} of {_amount(tres, most)}"


def _amount(tres: str, number: int) -> str:
    return units.format_memory(number) if tres == "mem" else str(number)


def _hours(quota: Quota) -> str:
    used = _UNKNOWN if quota.used_gpu_minutes is None else f"{quota.used_gpu_minutes / 60:.1f}"
    return used if quota.gpu_minutes is None else f"{used} of {quota.gpu_minutes / 60:g}"


def _waiting(quota: Quota) -> str:
    if quota.waiting is None:
        return _UNKNOWN
    return f"{quota.waiting_jobs} jobs, {quota.waiting.get(GPU, 0)} GPUs" if quota.waiting_jobs else _NONE
