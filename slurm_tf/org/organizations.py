"""Reads all organizations of a cluster: their users, limits, and what is allocated, used, waiting and left.

An organization is an account of Slurm, at any place of the tree below root. Amounts are by Slurm's names of TRES (cpu,
mem in MiB, gres/gpu, gres/gpu:TYPE).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from slurm_tf.errors import SlurmError, UsageError
from slurm_tf.slurm import assoc_mgr, associations, live_cluster, queued_jobs, usage_limits
from slurm_tf.slurm.assoc_mgr import AssociationUse
from slurm_tf.slurm.associations import Association, AssociationLimits, QosRecord
from slurm_tf.slurm.queued_jobs import QueuedJob

GPU = "gres/gpu"
NO_DECAY, DENY_ON_LIMIT = "NoDecay", "DenyOnLimit"


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of an organization or of a user in it, and what is used of them.

    None of `use` and `waiting` is unknown: slurmctld did not say it, or PrivateData hides it. `waiting`: what pending
    jobs ask for. `gpu_minutes`: the limit on what is used over time, None for none.
    """

    limits: AssociationLimits
    gpu_minutes: int | None
    use: AssociationUse | None
    waiting: Mapping[str, int] | None
    waiting_jobs: int | None
    used_gpu_minutes: int | None

    @property
    def allocated(self) -> Mapping[str, int] | None:
        """What running jobs hold; None: unknown."""
        return self.use.allocated if self.use else None

    @property
    def left(self) -> Mapping[str, int] | None:
        """What is left of each limit on what runs at a time; nothing of what has none. None: unknown."""
        if self.use is None:
            return None
        held = self.use.allocated
        return {name: max(0, most - held.get(name, 0)) for name, most in self.limits.grp_tres.items()}

    @property
    def left_gpu_minutes(self) -> int | None:
        """The GPU minutes that are left, None where there is no limit or what was used is unknown."""
        if self.gpu_minutes is None or self.used_gpu_minutes is None:
            return None
        return max(0, self.gpu_minutes - self.used_gpu_minutes)


@dataclass(frozen=True, slots=True)
class OrganizationUser:
    """A user of an organization; `partition`: "", or the only one that the association is for.

    `has_own_qos`: the association names QOS, and does not have those of the organization.
    """

    name: str
    partition: str
    has_own_qos: bool
    quota: Quota


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization; `parent`: the account above it. `qos`: its own QOS, which has its name and
    is the default of its jobs, None for none.
    """

    name: str
    parent: str
    qos: QosRecord | None
    quota: Quota
    users: tuple[OrganizationUser, ...]

    @property
    def never_forgotten(self) -> bool:
        """Whether what was used counts for ever: its own QOS has NoDecay."""
        return self.qos is not None and NO_DECAY in self.qos.flags


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How Slurm forgets what was used: `half_life` (PriorityDecayHalfLife) and `reset` (PriorityUsageResetPeriod)."""

    half_life: timedelta | None
    reset: str


@dataclass(frozen=True, slots=True)
class Organizations:
    """All organizations that the user may see, those above others first.

    `unknown`: why amounts that are None are not known, "" where all are.
    """

    cluster: str
    organizations: tuple[Organization, ...]
    forgetting: Forgetting
    unknown: str = ""

    def named(self, name: str) -> Organization:
        """Return the organization of this name. Raises UsageError."""
        for each in self.organizations:
            if each.name == name:
                return each
        names = ", ".join(each.name for each in self.organizations) or "none that you may see"
        raise UsageError(f"found no organization {name!r} on cluster {self.cluster}", f"one of: {names}")


def read() -> Organizations:
    """Ask slurmdbd for all organizations, and slurmctld for what they use.

    Raises SlurmError where slurmdbd does not answer, or slurmctld, which says which cluster this is.
    """
    settings = live_cluster.ask_settings()
    cluster = settings.get("ClusterName", "")
    rows = associations.associations(cluster)
    qos = {each.name: each for each in associations.qos()}
    now, unknown = None, ""
    try:
        now = _Now(*assoc_mgr.association_use(), queued_jobs.ask(), associations.hides(settings, "jobs"))
        if associations.hides(settings, "usage") or now.hides_jobs:
            unknown = f"PrivateData={settings['PrivateData']} hides some of it"
    except SlurmError as error:
        unknown = error.found
    forgetting = Forgetting(*usage_limits.forgetting(settings))
    return Organizations(cluster, _organizations(rows, qos, now), forgetting, unknown)


@dataclass(frozen=True, slots=True)
class _Now:
    """What slurmctld says: what is used, by association and by QOS, and the queue, perhaps without jobs of others."""

    used: Mapping[tuple[str, str], AssociationUse]
    used_qos: Mapping[str, AssociationUse]
    queue: tuple[QueuedJob, ...]
    hides_jobs: bool

    def waits(self, accounts: set[str], user: str = "") -> list[QueuedJob] | None:
        """Return the jobs that wait in these accounts, of a user or of all; None where some may be hidden."""
        if self.hides_jobs and user != associations.me():
            return None
        return [
            each for each in self.queue
            if each.is_pending and each.account in accounts and (not user or each.user == user)
        ]  # fmt: skip


def _organizations(
    rows: tuple[Association, ...], qos: Mapping[str, QosRecord], now: _Now | None
) -> tuple[Organization, ...]:
    below = _below(rows)
    found = []
    for row in rows:
        if row.user or row.account == associations.ROOT:
            continue
        own = qos.get(row.account) if row.default_qos == row.account else None
        quota = _quota(row, own, now, now.waits(below[row.account]) if now else None)
        users = tuple(
            OrganizationUser(
                user.user, user.partition, bool(user.qos or user.default_qos),
                _quota(user, None, now, now.waits({row.account}, user.user) if now else None),
            )
            for user in rows
            if user.user and user.account == row.account
        )  # fmt: skip
        found.append(Organization(row.account, row.parent, own, quota, users))
    return tuple(found)


def _quota(row: Association, own: QosRecord | None, now: _Now | None, waits: list[QueuedJob] | None) -> Quota:
    """Return the quota of one association; hours that its own QOS limits are those of the QOS."""
    use = now.used.get((row.account, row.user)) if now else None
    minutes, counted = row.limits.grp_tres_mins.get(GPU), use
    if own is not None and GPU in own.grp_tres_mins:
        minutes, counted = own.grp_tres_mins[GPU], now.used_qos.get(own.name) if now else None
    waiting: dict[str, int] | None = None if waits is None else {}
    for each in waits or ():
        waiting = assoc_mgr.add(waiting or {}, each.total)
    return Quota(
        limits=row.limits,
        gpu_minutes=minutes,
        use=use,
        waiting=waiting,
        waiting_jobs=None if waits is None else sum(each.tasks for each in waits),
        used_gpu_minutes=counted.minutes.get(GPU, 0) if counted else None,
    )


def _below(rows: tuple[Association, ...]) -> dict[str, set[str]]:
    """Return each account with itself and all accounts below it."""
    parents = {row.account: row.parent for row in rows if not row.user}
    below: dict[str, set[str]] = {name: {name} for name in parents}
    for name, parent in parents.items():
        above, seen = parent, {name}
        while above in parents and above not in seen:
            below[above].add(name)
            seen.add(above)
            above = parents[above]
    return below
