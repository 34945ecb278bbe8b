"""The views of quotas: what the user may still use, and the organizations that the user may see."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf.org import limit_words, organizations, quota_words, user_quota
from slurm_tf.org.organizations import GPU, Organization, Quota
from slurm_tf.org.user_quota import UserQuota
from slurm_tf.page import quota_cache
from slurm_tf.page.context import PageContext
from slurm_tf.slurm.usage_limits import Limit

_UNKNOWN, _NONE = "unknown", "-"


@dataclass(frozen=True, slots=True)
class OrganizationRow:
    """A line of the table: an organization (`user`: ""), or a user in it. `words`: which one; amounts are in words."""

    name: str
    user: str
    words: str
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

    def list_organizations(self, request: Request) -> Response:
        """Show organizations with their users, limits, and what is in use, used and waiting: all, or one by its name.

        Raises UsageError where there is none of that name.
        """
        name = request.query_params.get("name", "")
        found = organizations.read()
        shown = (found.named(name),) if name else found.organizations
        values = {
            "title": f"Organization {name}" if name else "Organizations",
            "cluster": found.cluster,
            "name": name,
            "problems": [f"what is in use and waiting is unknown: {found.unknown}"] if found.unknown else [],
            "rows": [row for each in shown for row in _organization_rows(each)],
            "is_admin": self._context.admin.look(),
            "forgetting": limit_words.forgetting_lines(found.forgetting.half_life, found.forgetting.reset),
            "kept": [each.name for each in shown if each.never_forgotten and each.quota.gpu_minutes is not None],
        }
        return self._context.answer(request, "organizations", values)


def _limit_row(mine: UserQuota, limit: Limit) -> list[str]:
    """Return the cells of a limit: whose, what, left, of how much, until when it is in use, its name in Slurm."""
    return [
        limit.owner,
        limit_words.what(limit),
        _UNKNOWN if limit.is_unknown else limit_words.amount(limit, limit.left),
        limit_words.amount(limit, limit.most),
        _until(mine, limit),
        limit_words.in_slurm(limit),
    ]


def _until(mine: UserQuota, limit: Limit) -> str:
    """Return until about when all of a limit is in use."""
    if limit.is_unknown:
        return _UNKNOWN
    if limit.left:
        return _NONE
    until = mine.until(limit)
    return user_quota.clock(until) if until else _UNKNOWN


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _organization_rows(each: Organization) -> list[OrganizationRow]:
    """Return the line of an organization, then those of its users."""
    return [
        _organization_row(each.name, "", quota_words.organization(each), each.quota),
        *(_organization_row(each.name, user.name, quota_words.user(user), user.quota) for user in each.users),
    ]


def _organization_row(name: str, user: str, words: str, quota: Quota) -> OrganizationRow:
    return OrganizationRow(
        name=name,
        user=user,
        words=words,
        gpus=quota_words.in_use(quota, GPU),
        gpu_hours=quota_words.gpu_hours(quota),
        cpus=quota_words.in_use(quota, "cpu"),
        memory=quota_words.in_use(quota, "mem"),
        waiting=quota_words.waiting(quota),
        max_time=quota_words.longest_job(quota),
    )
