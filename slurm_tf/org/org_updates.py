"""Plans and makes changes of organizations: refusals first, then sacctmgr, then what slurmdbd has is read back."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from slurm_tf.errors import OrganizationError, SlurmError, UsageError
from slurm_tf.org import org_rights, organizations, quota_options, tree_changes
from slurm_tf.org.organizations import Organization, Organizations
from slurm_tf.org.quota_options import Wish
from slurm_tf.org.tree_changes import Change, Removal, WantedOrganization
from slurm_tf.slurm import associations, live_cluster, queued_jobs
from slurm_tf.slurm.associations import AssociationLimits, DbdUser
from slurm_tf.slurm.client import CommandLineClient
from slurm_tf.slurm.queued_jobs import QueuedJob

# How long jobs may take to end that are cancelled before their organization or user goes.
_END_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Update:
    """What is to be changed, and the jobs of organizations and users that go, which have to end first.

    `wanted`, `removal`: what slurmdbd is to have at the end.
    """

    changes: tuple[Change, ...]
    jobs: tuple[str, ...]
    wanted: tuple[WantedOrganization, ...]
    removal: Removal


@dataclass(frozen=True, slots=True)
class Site:
    """What slurmdbd has now, its users, and the settings of slurm.conf."""

    settings: Mapping[str, str]
    found: Organizations
    users: Mapping[str, DbdUser]

    def wanted(self, name: str) -> WantedOrganization:
        """Return an organization as it is, to be changed. Raises UsageError where there is none."""
        each = self.found.named(name)
        return WantedOrganization(name, each.parent, quota_options.wish_of(each.quota.limits, each.qos))

    def find(self, name: str) -> Organization | None:
        """Return the organization of this name, None for none."""
        return next((each for each in self.found.organizations if each.name == name), None)


def ask() -> Site:
    """Ask Slurm for what there is. Raises SlurmError."""
    users = {each.name: each for each in associations.users()}
    return Site(live_cluster.ask_settings(), organizations.read(), users)


def create(site: Site, name: str, parent: str, options: Mapping[str, str | bool]) -> Update:
    """Return what adds an organization. Raises UsageError, UnitError or OrganizationError."""
    if site.find(name):
        raise UsageError(f"there is an organization {name}", "another name", f"slurm-tf org set {name} changes it")
    wish = quota_options.with_options(Wish(), options)
    return plan(site, [WantedOrganization(name, parent, wish)])


def add_user(site: Site, user: str, name: str, options: Mapping[str, str | bool]) -> Update:
    """Return what adds a user to an organization. Raises UsageError, UnitError or OrganizationError."""
    if any(each.name == user for each in site.found.named(name).users):
        do = f"slurm-tf org set {name} --user {user} changes the limits"
        raise UsageError(f"user {user} is in organization {name}", "another user", do)
    limits = quota_options.with_options(Wish(), options).limits
    return plan(site, [replace(site.wanted(name), users={user: limits})])


def set_limits(site: Site, name: str, user: str, options: Mapping[str, str | bool]) -> Update:
    """Return what changes limits of an organization, or of a user in it. Raises UsageError and others."""
    wanted = site.wanted(name)
    if not user:
        return plan(site, [replace(wanted, wish=quota_options.with_options(wanted.wish, options))])
    limits = [each.quota.limits for each in site.found.named(name).users if (each.name, each.partition) == (user, "")]
    if not limits:
        raise UsageError(f"user {user} is not in organization {name}", "one of its users", "slurm-tf org add-user")
    wish = quota_options.with_options(Wish(limits[0]), options)
    return plan(site, [replace(wanted, users={user: wish.limits})])


def remove(site: Site, name: str, user: str = "") -> Update:
    """Return what removes an organization, or a user from it. Raises UsageError or OrganizationError."""
    known = site.found.named(name)
    if user:
        if all(each.name != user for each in known.users):
            names = ", ".join(each.name for each in known.users) or "none"
            raise UsageError(f"user {user} is not in organization {name}", f"one of its users: {names}")
        return plan(site, [], Removal(users=((name, user),)))
    below = [each.name for each in site.found.organizations if each.parent == name]
    if below:
        raise UsageError(f"organization {name} has others below it: {', '.join(below)}", "them removed before it")
    return plan(site, [], Removal((name,)))


def plan(site: Site, wanted: Sequence[WantedOrganization], removal: Removal = Removal()) -> Update:  # noqa: B008
    """Return what makes organizations what they are to be. Raises OrganizationError or UsageError."""
    _check_names(site, wanted)
    found = tree_changes.changes(site.found, wanted, removal, site.users)
    tres = {name for each in wanted for name in _limited(each)}
    with_qos = any(each.wish.qos(each.name) is not None for each in wanted)
    has_limits = any(_has_limits(each) for each in wanted)
    if has_limits or with_qos:
        org_rights.check_cluster(site.settings, tres, with_qos)
    org_rights.check_rights(site.settings, found, site.users)
    return Update(found, tuple(sorted({each.id for each in _jobs(site, removal)}, key=int)), tuple(wanted), removal)


def make(update: Update, cancel: bool, say: Callable[[str], None]) -> None:
    """Make the changes; `say` is told of each that is done. Then read back what slurmdbd has.

    Raises OrganizationError where jobs of who goes are in the queue, unless they are to be cancelled, and SlurmError
    where sacctmgr refuses a change: with what was done before it.
    """
    if update.jobs and not cancel:
        raise OrganizationError(
            f"jobs are in the queue of who is to be removed: {', '.join(update.jobs)}", "none",
            "--cancel cancels them first",
        )  # fmt: skip
    if update.jobs:
        _end(update, say)
    for number, each in enumerate(update.changes):
        try:
            associations.change(*each.argv)
        except SlurmError as error:
            raise type(error)(
                f"{error.found}: {each.words}", error.needed, _progress(update.changes, number)
            ) from error
        say(each.words)
    if not update.changes:
        return
    site = ask()
    left = tree_changes.changes(site.found, update.wanted, update.removal, site.users)
    if left:
        raise SlurmError(
            f"sacctmgr reported no error, and yet did not: {'; '.join(each.words for each in left)}",
            "what was asked for", "slurm-tf org show says what there is",
        )  # fmt: skip


def _progress(changes: Sequence[Change], number: int) -> str:
    done, left = changes[:number], changes[number + 1 :]
    said = [f"done before it: {'; '.join(each.words for each in done) or 'nothing'}"]
    said += [f"not tried: {'; '.join(each.words for each in left)}"] if left else []
    return ". ".join([*said, "The same command goes on from there"])


def _check_names(site: Site, wanted: Sequence[WantedOrganization]) -> None:
    names = {associations.ROOT, *(each.name for each in wanted), *(each.name for each in site.found.organizations)}
    own = {each.name for each in site.found.organizations if each.qos is not None}
    taken = {each.name for each in associations.qos()} - own
    for each in wanted:
        org_rights.check_name(each.name, "organization")
        _check_parents(each, wanted)
        if each.parent not in names:
            raise UsageError(f"found no organization {each.parent!r}, the parent of {each.name}", "one that there is")
        if each.wish.qos(each.name) is not None and each.name in taken:
            raise OrganizationError(f"there is a QOS {each.name} that is not the organization's", "another name")
        known = site.find(each.name)
        present = {user.name for user in known.users} if known else set()
        for user in each.users:
            if user not in present:
                org_rights.check_user(user)


def _check_parents(each: WantedOrganization, wanted: Sequence[WantedOrganization]) -> None:
    """Raise UsageError for an organization that would be below itself."""
    parents = {other.name: other.parent for other in wanted}
    above, seen = each.parent, [each.name]
    while above in parents and above not in seen:
        seen.append(above)
        above = parents[above]
    if above == each.name:
        raise UsageError(f"organization {each.name} would be below itself", "a parent that is not below it")


def _limited(wanted: WantedOrganization) -> set[str]:
    wishes = (wanted.wish, *map(Wish, wanted.users.values()))
    return {name for each in wishes for name in quota_options.gpu_types(each)}


def _has_limits(wanted: WantedOrganization) -> bool:
    every: tuple[AssociationLimits, ...] = (wanted.wish.limits, *wanted.users.values())
    return any(quota_options.words(each) != "no limits" for each in every)


def _jobs(site: Site, removal: Removal) -> list[QueuedJob]:
    """Return the jobs in the queue of organizations and users that go."""
    if not removal.organizations and not removal.users:
        return []
    accounts = {*removal.organizations, *(account for account, _ in removal.users)}
    present = sorted(each.name for each in site.found.organizations if each.name in accounts)
    return [
        each for each in (queued_jobs.ask(present) if present else ())
        if each.account in removal.organizations or (each.account, each.user) in removal.users
    ]  # fmt: skip


def _end(update: Update, say: Callable[[str], None]) -> None:
    """Cancel the jobs of who goes, and wait until none is left. Raises OrganizationError."""
    CommandLineClient().cancel(update.jobs)
    say(f"cancel jobs {', '.join(update.jobs)}")
    until = time.monotonic() + _END_SECONDS
    while left := {each.id for each in queued_jobs.ask()} & set(update.jobs):
        if time.monotonic() > until:
            found = f"jobs {', '.join(sorted(left))} have not ended {_END_SECONDS:.0f} s after they were cancelled"
            raise OrganizationError(found, "none", "the same command once they have; nothing was removed")
        time.sleep(1)
