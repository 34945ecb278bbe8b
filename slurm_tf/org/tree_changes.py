"""Compares organizations that are wanted with those that are, and returns what sacctmgr has to do: nothing is done.

Changes come in an order in which sacctmgr takes them: QOS before the accounts that name them, accounts before their
users and before those below them; and when something goes, the other way round.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from slurm_tf import units
from slurm_tf.org import quota_options
from slurm_tf.org.organizations import DENY_ON_LIMIT, NO_DECAY, Organization, Organizations
from slurm_tf.org.quota_options import Wish
from slurm_tf.slurm.associations import AdminLevel, AssociationLimits, DbdUser, QosRecord

ROOT = "root"


@dataclass(frozen=True, slots=True)
class WantedOrganization:
    """An organization as it is to be; `users`: those that it is to have, each with its limits."""

    name: str
    parent: str
    wish: Wish
    users: Mapping[str, AssociationLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One command of sacctmgr, without its options, and what it does in words.

    `level`: the AdminLevel that may do it; of users in `account` its coordinator may as well, where `account` is set.
    """

    words: str
    argv: tuple[str, ...]
    level: AdminLevel
    account: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to go: whole organizations, and users of organizations that stay, as (organization, user)."""

    organizations: tuple[str, ...] = ()
    users: tuple[tuple[str, str], ...] = ()


def changes(
    found: Organizations, wanted: Iterable[WantedOrganization], removal: Removal, users: Mapping[str, DbdUser]
) -> tuple[Change, ...]:
    """Return what is to be done; organizations and users that neither `wanted` nor `removal` names stay as they are."""
    known = {each.name: each for each in found.organizations}
    done: list[Change] = []
    for each in _parents_first(wanted):
        done += _organization(found.cluster, known.get(each.name), each)
    done += _removals(found, known, removal, users)
    return tuple(done)


def _parents_first(wanted: Iterable[WantedOrganization]) -> Iterator[WantedOrganization]:
    left = {each.name: each for each in wanted}
    while left:
        ready = [each for each in left.values() if each.parent not in left] or list(left.values())
        for each in ready:
            yield left.pop(each.name)


def _organization(cluster: str, known: Organization | None, wanted: WantedOrganization) -> Iterator[Change]:
    """Yield what makes one organization, with its own QOS and its users, what it is to be."""
    name, qos = wanted.name, wanted.wish.qos(wanted.name)
    old_qos = known.qos if known else None
    where = ("where", f"name={name}", f"cluster={cluster}")
    if qos is not None:
        yield from _qos(old_qos, qos)
    if known is None:
        settings = _settings(AssociationLimits(), wanted.wish.of_association)
        own = (f"QOS={name}", f"DefaultQOS={name}") if qos is not None else ()
        described = (f"Description={name}", f"Organization={name}")
        yield Change(
            f"add organization {name}{_below(wanted.parent)}: {quota_options.words(wanted.wish.of_association)}",
            (
                "add",
                "account",
                f"name={name}",
                f"cluster={cluster}",
                f"parent={wanted.parent}",
                *described,
                *settings,
                *own,
            ),
            AdminLevel.OPERATOR,
        )
    else:
        if known.parent != wanted.parent:
            yield _modify(f"move organization {name} below {wanted.parent}", where, f"parent={wanted.parent}")
        settings = _settings(known.quota.limits, wanted.wish.of_association)
        if settings:
            yield _modify(f"change organization {name}: {', '.join(settings)}", where, *settings)
        yield from _use_of_qos(cluster, known, qos)
    for user, limits in wanted.users.items():
        yield from _user(cluster, known, name, user, limits)
    if old_qos is not None and qos is None:
        yield _delete_qos(name)


def _below(parent: str) -> str:
    return "" if parent == ROOT else f" below {parent}"


def _modify(words: str, where: tuple[str, ...], *settings: str) -> Change:
    return Change(words, ("modify", "account", *where, "set", *settings), AdminLevel.OPERATOR)


def _qos(old: QosRecord | None, new: QosRecord) -> Iterator[Change]:
    if old is None:
        settings = _qos_settings(QosRecord(new.name), new)
        words = f"add QOS {new.name}: {', '.join(settings)}"
        yield Change(words, ("add", "qos", f"name={new.name}", *settings), AdminLevel.ADMINISTRATOR)
        return
    settings = _qos_settings(old, new)
    if settings:
        words = f"change QOS {new.name}: {', '.join(settings)}"
        argv = ("modify", "qos", "where", f"name={new.name}", "set", *settings)
        yield Change(words, argv, AdminLevel.ADMINISTRATOR)


def _qos_settings(old: QosRecord, new: QosRecord) -> tuple[str, ...]:
    """Return what sacctmgr is to set; flags of a QOS other than those of slurm-tf stay."""
    ours = (DENY_ON_LIMIT, NO_DECAY)
    added = [flag for flag in ours if flag in new.flags and flag not in old.flags]
    taken = [flag for flag in ours if flag in old.flags and flag not in new.flags]
    parts = [f"Flags+={','.join(added)}"] if added and old.flags else []
    parts += [f"Flags={','.join(added)}"] if added and not old.flags else []
    parts += [f"Flags-={','.join(taken)}"] if taken else []
    parts += _tres("GrpTRESMins", old.grp_tres_mins, new.grp_tres_mins)
    parts += _tres("MaxTRESPerUser", old.max_tres_per_user, new.max_tres_per_user)
    return tuple(parts)


def _use_of_qos(cluster: str, known: Organization, qos: QosRecord | None) -> Iterator[Change]:
    """Yield what gives an organization that is there its own QOS as the only one, or takes it away."""
    where = ("where", f"name={known.name}", f"cluster={cluster}")
    if qos is not None and known.qos is None:
        # sacctmgr ends with 0 and changes nothing where a user has another default
        for user in (each.name for each in known.users if each.has_own_qos):
            words, named = (
                f"have {user} use the QOS of {known.name}",
                ("where", f"name={user}", f"account={known.name}"),
            )
            for setting in ("DefaultQOS=-1", "QOS="):
                argv = ("modify", "user", *named, f"cluster={cluster}", "set", setting)
                yield Change(words, argv, AdminLevel.OPERATOR)
        yield _modify(
            f"have jobs of {known.name} use QOS {qos.name} alone", where, f"QOS={qos.name}", f"DefaultQOS={qos.name}"
        )
    if qos is None and known.qos is not None:
        # in this order: sacctmgr takes no QOS from who has it as the default
        yield _modify(f"take the default QOS from {known.name}", where, "DefaultQOS=-1")
        yield _modify(f"have jobs of {known.name} use the QOS of the account above", where, "QOS=")


def _delete_qos(name: str) -> Change:
    return Change(f"remove QOS {name}", ("delete", "qos", "where", f"name={name}"), AdminLevel.ADMINISTRATOR)


def _user(
    cluster: str, known: Organization | None, account: str, user: str, limits: AssociationLimits
) -> Iterator[Change]:
    old = next((each for each in known.users if each.name == user and not each.partition), None) if known else None
    if old is None:
        settings = _settings(AssociationLimits(), limits)
        yield Change(
            f"add user {user} to {account}: {quota_options.words(limits)}",
            ("add", "user", f"name={user}", f"account={account}", f"cluster={cluster}", *settings),
            AdminLevel.OPERATOR, account,
        )  # fmt: skip
        return
    settings = _settings(old.quota.limits, limits)
    if settings:
        where = ("where", f"name={user}", f"account={account}", f"cluster={cluster}", "partition=")
        yield Change(
            f"change user {user} of {account}: {', '.join(settings)}",
            ("modify", "user", *where[:-1], "set", *settings),
            AdminLevel.OPERATOR, account,
        )  # fmt: skip


def _settings(old: AssociationLimits, new: AssociationLimits) -> tuple[str, ...]:
    """Return what sacctmgr is to set of an association; -1 takes a limit away."""
    parts = _tres("GrpTRES", old.grp_tres, new.grp_tres)
    parts += _tres("GrpTRESMins", old.grp_tres_mins, new.grp_tres_mins)
    parts += _tres("MaxTRES", old.max_tres, new.max_tres)
    if old.max_wall != new.max_wall:
        parts.append(f"MaxWall={-1 if new.max_wall is None else units.format_time(new.max_wall)}")
    return tuple(parts)


def _tres(name: str, old: Mapping[str, int], new: Mapping[str, int]) -> list[str]:
    differs = {each: new.get(each, -1) for each in {*old, *new} if old.get(each) != new.get(each)}
    return [f"{name}={quota_options.tres_words(differs)}"] if differs else []


def _removals(
    found: Organizations, known: Mapping[str, Organization], removal: Removal, users: Mapping[str, DbdUser]
) -> Iterator[Change]:
    """Yield what removes users, then organizations, those below others first."""
    gone = [known[name] for name in removal.organizations if name in known]
    pairs = [*removal.users, *((each.name, user.name) for each in gone for user in each.users)]
    present = {(each.name, user.name) for each in found.organizations for user in each.users}
    pairs = [pair for pair in dict.fromkeys(pairs) if pair in present]
    yield from _other_defaults(found, pairs, users)
    for account, user in pairs:
        yield Change(
            f"remove user {user} from {account}",
            ("delete", "user", "where", f"name={user}", f"account={account}", f"cluster={found.cluster}"),
            AdminLevel.OPERATOR, account,
        )  # fmt: skip
    for each in reversed([each for each in found.organizations if each in gone]):
        yield Change(
            f"remove organization {each.name}",
            ("delete", "account", "where", f"name={each.name}", f"cluster={found.cluster}"),
            AdminLevel.OPERATOR,
        )
        if each.qos is not None:
            yield _delete_qos(each.name)


def _other_defaults(
    found: Organizations, pairs: list[tuple[str, str]], users: Mapping[str, DbdUser]
) -> Iterator[Change]:
    """Yield another default account for each user who loses it: jobs that name none would be refused without one."""
    lost: dict[str, set[str]] = {}
    for account, user in pairs:
        lost.setdefault(user, set()).add(account)
    for user, accounts in lost.items():
        others = [
            each.name for each in found.organizations
            if each.name not in accounts and any(member.name == user for member in each.users)
        ]  # fmt: skip
        if user in users and users[user].default_account in accounts and others:
            yield Change(
                f"make {others[0]} the default account of {user}",
                ("modify", "user", "where", f"name={user}", f"cluster={found.cluster}", "set",
                 f"DefaultAccount={others[0]}"),
                AdminLevel.OPERATOR,
            )  # fmt: skip
