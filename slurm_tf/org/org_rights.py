"""Refuses a change of organizations before it begins: by who asks, by how the cluster is configured, by its names."""

import pwd
import re
from collections.abc import Iterable, Mapping

from slurm_tf.errors import OrganizationError, UsageError
from slurm_tf.org.tree_changes import Change
from slurm_tf.slurm import associations
from slurm_tf.slurm.associations import AdminLevel, DbdUser

# sacctmgr turns capitals of names into small letters, and reads a list at a comma.
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}", re.ASCII)
_LEVELS = {AdminLevel.OPERATOR: "an operator", AdminLevel.ADMINISTRATOR: "an administrator"}


def check_name(name: str, what: str) -> None:
    """Raise UsageError for a name that Slurm would change or misread; `what`: "organization" or "user"."""
    if not _NAME.fullmatch(name):
        needed = "small letters, digits, _, . and -, at most 64, the first no - or ."
        raise UsageError(f"found the name {name!r} of {'an' if what[0] in 'aeiou' else 'a'} {what}", needed)
    if what == "organization" and name == associations.ROOT:
        raise UsageError("found the organization root", "another name: root is the account above all others")


def check_user(name: str) -> None:
    """Raise UsageError for the name of a user whom this machine does not know: sacctmgr would take it."""
    check_name(name, "user")
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"found no user {name!r} on this machine", "one that `getent passwd` knows") from None


def check_cluster(settings: Mapping[str, str], tres: Iterable[str], with_qos: bool) -> None:
    """Raise OrganizationError where the cluster would not hold jobs to limits on these TRES of GPUs."""
    if not settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        found = f"AccountingStorageType is {settings.get('AccountingStorageType') or 'unknown'}"
        raise OrganizationError(found, "accounting_storage/slurmdbd: slurmdbd has the organizations")
    enforced = _listed(settings.get("AccountingStorageEnforce", ""))
    needed = ["limits", "safe", *(["qos"] if with_qos else [])]
    if not set(needed) <= set(enforced):
        raise OrganizationError(
            f"AccountingStorageEnforce is {','.join(enforced) or 'none'}: no job would be held to the limits",
            " and ".join(needed), "set it in slurm.conf and restart slurmctld; without safe, jobs pass their GPU-hours",
        )  # fmt: skip
    counted = _listed(settings.get("AccountingStorageTRES", ""))
    lacking = sorted(name for name in tres if name not in counted)
    if lacking:
        raise OrganizationError(
            f"AccountingStorageTRES is {','.join(counted)}, without {' and '.join(lacking)}",
            "every TRES that is limited", f"AccountingStorageTRES={','.join([*counted, *lacking])} in slurm.conf",
        )  # fmt: skip


def check_rights(settings: Mapping[str, str], changes: Iterable[Change], users: Mapping[str, DbdUser]) -> None:
    """Raise OrganizationError for changes that who asks may not do; slurmdbd itself would refuse the first of them."""
    me = associations.me()
    own = users.get(me)
    if me in ("root", settings.get("SlurmUser", "").partition("(")[0]):
        return
    for each in changes:
        level = own.level if own else AdminLevel.NONE
        if level.value >= each.level.value or (own and each.account and each.account in own.coordinates):
            continue
        may = f" or coordinator of {each.account}" if each.account else ""
        raise OrganizationError(
            f"{me} may not do it: {each.words}", f"{_LEVELS[each.level]} of Slurm{may}",
            f"an administrator can: sacctmgr modify user {me} set AdminLevel={each.level.name.capitalize()}",
        )  # fmt: skip


def _listed(text: str) -> list[str]:
    return [word for word in text.replace(" ", "").split(",") if word and word != "(null)"]
