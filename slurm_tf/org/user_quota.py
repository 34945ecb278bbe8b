"""A user's quota, and why a job waits or can never start: which limit it meets, who uses it, and until about when.

The limits are those of the user's associations, of the accounts above them and of QOS, as slurmctld holds jobs to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import Enum

from slurm_tf.errors import SlurmError
from slurm_tf.org import limit_words
from slurm_tf.slurm import associations, live_cluster, queued_jobs, usage_limits
from slurm_tf.slurm.associations import Association
from slurm_tf.slurm.queued_jobs import QueuedJob
from slurm_tf.slurm.usage_limits import Limit, Limits

# What a limit of these names counts is not held by jobs that run.
_NOT_HELD = (*usage_limits.IN_ALL, *usage_limits.OF_A_JOB)
_HOLDERS = 3


class Obstacle(Enum):
    """Why a limit keeps a job from starting: the job alone exceeds it, others hold it, or it was used up over time."""

    NEVER = 0
    USED_UP = 1
    IN_USE = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """What one job asks for, of an account and with a QOS ("": the user's default).

    `components`: the TRES of each component of a heterogeneous job, of another job one alone; memory in MiB. What is
    not there is unknown. `minutes`: its time limit, None for unknown or none. `id`: of a job that was submitted.
    """

    components: tuple[Mapping[str, int], ...]
    minutes: int | None
    account: str = ""
    qos: str = ""
    id: str = ""

    def of(self, limit: Limit) -> int | None:
        """Return what the job asks for of what is limited, in the limit's unit; None where that is unknown."""
        if "Jobs" in limit.name:
            return 1
        if not limit.tres:
            return self.minutes
        numbers = [each[limit.tres] for each in self.components if limit.tres in each]
        if not numbers:
            return None
        # components start together, and each is a job of its own to a limit of one job
        number = max(numbers) if limit.name in usage_limits.OF_A_JOB else sum(numbers)
        if not limit.is_time:
            return number
        return None if self.minutes is None else number * self.minutes


@dataclass(frozen=True, slots=True)
class Hit:
    """A limit that keeps a job from starting now, and what the job asks for of it."""

    obstacle: Obstacle
    limit: Limit
    asked: int


@dataclass(frozen=True, slots=True)
class UserQuota:
    """What a user may still use. `queue`: the jobs in the queue of the user's accounts, as far as the user sees them.

    `tree`: the associations that the user sees. `default_account`: of jobs that name none. `unknown`: why who holds
    what is limited is not known, "" where it is.
    """

    limits: Limits
    queue: tuple[QueuedJob, ...] = ()
    tree: tuple[Association, ...] = ()
    default_account: str = ""
    unknown: str = ""

    @property
    def user(self) -> str:
        """Whose quota it is."""
        return self.limits.user

    def holders(self, limit: Limit) -> tuple[QueuedJob, ...]:
        """Return the jobs that hold something of what is limited, the first to end first; none that is hidden."""
        if limit.name in _NOT_HELD:
            return ()
        found = [each for each in self.queue if not each.is_pending and self._counts(limit, each)]
        return tuple(sorted(found, key=lambda each: (each.end is None, each.end.timestamp() if each.end else 0.0)))

    def until(self, limit: Limit, asked: int = 1) -> datetime | None:
        """Return when so much will be free at the latest, as the time limits of jobs say; None where that is unknown.

        Of what was used over time it is when Slurm begins to count from 0 again.
        """
        if limit.name in usage_limits.IN_ALL:
            return None if limit.qos in self.limits.kept else next_reset(self.limits.reset, datetime.now().astimezone())
        free = limit.left
        for each in self.holders(limit):
            free += each.tasks if "Jobs" in limit.name else each.total.get(limit.tres, 0)
            if free >= asked:
                return each.end
        return None

    def hits(self, demand: Demand) -> tuple[Hit, ...]:
        """Return the limits that keep a job from starting now, those that it can never meet first."""
        account = demand.account or self.default_account
        qos = demand.qos or self._default_qos(account)
        mine = [each for each in self.limits.limits if self._applies(each, account, qos)]
        # what a QOS limits, the limits of the same name of associations do not: slurmctld looks at the QOS first
        of_qos = {(each.name, each.tres) for each in mine if each.qos}
        found = [_hit(each, demand) for each in mine if each.qos or (each.name, each.tres) not in of_qos]
        return tuple(sorted((each for each in found if each), key=lambda each: each.obstacle.value))

    def _applies(self, limit: Limit, account: str, qos: str) -> bool:
        if "Submit" in limit.name:  # sbatch itself refuses then
            return False
        if limit.qos:
            return limit.qos == qos and limit.account in ("", account)
        return limit.account == account or (not limit.of_user and limit.account in self.above(account))

    def _counts(self, limit: Limit, job: QueuedJob) -> bool:
        """Whether a job that runs counts for a limit."""
        if "Jobs" not in limit.name and not job.tres.get(limit.tres):
            return False
        if limit.of_user and job.user != self.user:
            return False
        if limit.qos:
            return job.qos == limit.qos and limit.account in ("", job.account)
        return job.account == limit.account or (not limit.of_user and limit.account in self.above(job.account))

    def above(self, account: str) -> list[str]:
        """Return the accounts above one, the nearest first."""
        parents = {row.account: row.parent for row in self.tree if not row.user}
        above: list[str] = []
        while (account := parents.get(account, "")) and account not in above:
            above.append(account)
        return above

    def _default_qos(self, account: str) -> str:
        """Return the QOS of a job that names none: the user's default, else that of the nearest account above."""
        rows = [(account, self.user), *((each, "") for each in (account, *self.above(account)))]
        known = {(row.account, row.user): row.default_qos for row in self.tree}
        return next((known[each] for each in rows if known.get(each)), "normal")


def of_user(user: str = "") -> UserQuota:
    """Ask Slurm for the quota of a user, by default of who asks. What does not answer is unknown, and no error."""
    limits = usage_limits.ask(user or associations.me())
    if limits.unknown:
        return UserQuota(limits, unknown=limits.unknown)
    try:
        settings = live_cluster.ask_settings()
        tree = associations.associations(settings.get("ClusterName", ""))
        defaults = [each.default_account for each in associations.users(limits.user)]
        queue, is_hidden = queued_jobs.ask(), associations.hides(settings, "usage")
    except SlurmError as error:
        return UserQuota(limits, unknown=error.found)
    found = UserQuota(limits, queue, tree, next(iter(defaults), ""))
    return replace(found, limits=_with_hidden(found)) if is_hidden else found


def _with_hidden(quota: UserQuota) -> Limits:
    """Return the limits with those of organizations, whose use PrivateData hides: slurmctld says nothing of them then.

    What is used of them is unknown.
    """
    mine = {row.account for row in quota.tree if row.user == quota.user}
    every = {name for account in mine for name in (account, *quota.above(account))}
    known = {(each.account, each.name, each.tres) for each in quota.limits.limits if not each.of_user}
    hidden = [
        Limit(f"account {row.account}", name, tres, most, account=row.account)
        for row in quota.tree if not row.user and row.account in every
        for name, limits in (("GrpTRES", row.limits.grp_tres), ("GrpTRESMins", row.limits.grp_tres_mins))
        for tres, most in limits.items() if (row.account, name, tres) not in known
    ]  # fmt: skip
    return replace(quota.limits, limits=(*quota.limits.limits, *hidden))


def demand_of(quota: UserQuota, job: str) -> Demand | None:
    """Return what a pending job of the queue asks for, None where it is not pending, or not seen."""
    found = [each for each in quota.queue if each.id == job and each.is_pending]
    if not found:
        return None
    first = found[0]
    components = found[:1] if first.is_array else found
    return Demand(tuple(each.tres for each in components), first.minutes, first.account, first.qos, job)


def why_waiting(quota: UserQuota, demand: Demand, runs: Mapping[str, str] | None = None) -> str:
    """Return which limit a job waits for, who uses it and until about when; "" where none is in its way.

    `runs`: the names of runs by job id, for the user's own jobs.
    """
    hits = quota.hits(demand)
    return hit_words(quota, hits[0], runs or {}) if hits else ""


def hit_words(quota: UserQuota, hit: Hit, runs: Mapping[str, str]) -> str:
    """Return a limit that keeps a job from starting, in words."""
    limit, asked = hit.limit, limit_words.counted(hit.limit, hit.asked)
    who, where = _owner(quota, limit)
    if hit.obstacle is Obstacle.NEVER:
        most = limit_words.counted(limit, limit.most)
        return (
            f"it asks for {asked}, and {who} {most}{where}{_scope(limit)} ({limit_words.in_slurm(limit)}): "
            "it can never start"
        )
    if hit.obstacle is Obstacle.USED_UP:
        left = f"{limit_words.amount(limit, limit.left)} of {limit_words.counted(limit, limit.most)}"
        return f"{who} {left} left{where}, and it may take {asked}: {_back(quota, limit)}"
    used, verb = limit_words.amount(limit, limit.used or 0), "is" if limit.used == 1 else "are"
    in_use = f"{used} {verb} in use{_by(quota, limit, runs)}{_about(quota.until(limit, hit.asked))}"
    return f"{who} {limit_words.counted(limit, limit.most)}{where}, {in_use}"


def next_reset(period: str, now: datetime) -> datetime | None:
    """Return when what was used counts from 0 again after `now`; None for no PriorityUsageResetPeriod.

    Source: slurm.conf(5): weeks begin on Sunday, all periods at 0:00.
    """
    months = {"MONTHLY": 1, "QUARTERLY": 3, "YEARLY": 12}
    start = now.date() + timedelta(days=1)
    if period == "WEEKLY":
        start = now.date() + timedelta(days=7 - now.isoweekday() % 7)
    elif period in months:
        ended = (now.month - 1) // months[period] + 1  # of this year, with the one that is now
        years, month = divmod(ended * months[period], 12)
        start = date(now.year + years, month + 1, 1)
    elif period != "DAILY":
        return None
    return datetime(start.year, start.month, start.day).astimezone()


def clock(when: datetime) -> str:
    """Return a time to the minute, with its day where that is not today."""
    return f"{when:%H:%M}" if when.date() == datetime.now().astimezone().date() else f"{when:%Y-%m-%d %H:%M}"


def _hit(limit: Limit, demand: Demand) -> Hit | None:
    asked = demand.of(limit)
    if asked is None:
        return None
    if asked > limit.most:
        return Hit(Obstacle.NEVER, limit, asked)
    if limit.used is None or asked <= limit.left:
        return None
    return Hit(Obstacle.USED_UP if limit.name in usage_limits.IN_ALL else Obstacle.IN_USE, limit, asked)


def _owner(quota: UserQuota, limit: Limit) -> tuple[str, str]:
    """Return whose limit it is, with the verb, and where: "you have", " in vision"."""
    is_own = quota.user == associations.me()
    if not limit.of_user:
        whose = f"{'your ' if is_own else ''}organization {limit.account}"
        if not limit.account:
            return f"QOS {limit.qos} has", ""
        return f"{whose} has", f" in QOS {limit.qos}" if limit.qos else ""
    where = f" in QOS {limit.qos}" if limit.qos else f" in {limit.account}"
    return "you have" if is_own else f"{quota.user} has", where


def _scope(limit: Limit) -> str:
    if limit.name in usage_limits.OF_A_JOB:
        return " for one job"
    return "" if limit.is_time else " at a time"


def _back(quota: UserQuota, limit: Limit) -> str:
    """Return when hours come back that were used up."""
    when = quota.until(limit)
    if when:
        return f"Slurm counts from 0 again at {clock(when)} (PriorityUsageResetPeriod)"
    if limit.qos in quota.limits.kept or quota.limits.half_life is None:
        return "Slurm does not forget what was used, so it waits until an admin allows more"
    length = limit_words.days_or_hours(quota.limits.half_life)
    return f"Slurm forgets half of what was used in {length} (PriorityDecayHalfLife)"


def in_use_lines(quota: UserQuota, runs: Mapping[str, str]) -> list[str]:
    """Return of each limit that is all in use who uses it and until about when, and when hours that are gone return."""
    limits = [each for each in quota.limits.limits if each.used and not each.left and "Submit" not in each.name]
    return [
        hit_words(quota, Hit(Obstacle.USED_UP if each.name in usage_limits.IN_ALL else Obstacle.IN_USE, each, 1), runs)
        for each in limits
    ]


def _by(quota: UserQuota, limit: Limit, runs: Mapping[str, str]) -> str:
    """Return who holds what is limited, as far as the user may see that."""
    jobs = list({each.id: each for each in quota.holders(limit)}.values())
    names = [_job_words(each, quota.user, runs) for each in jobs]
    more = [f"{len(names) - _HOLDERS} more jobs"] if len(names) > _HOLDERS else []
    seen = sum(each.tasks if "Jobs" in limit.name else each.total.get(limit.tres, 0) for each in quota.holders(limit))
    more += ["others"] if names and seen < (limit.used or 0) else []
    said = [*names[:_HOLDERS], *more]
    return f" by {_listed(said)}" if said else ""


def _job_words(job: QueuedJob, user: str, runs: Mapping[str, str]) -> str:
    if job.id in runs:
        return f"run {runs[job.id]}"
    return f"job {job.id}" if job.user == user else f"job {job.id} of {job.user}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _about(when: datetime | None) -> str:
    return f" until about {clock(when)}" if when else ""
