"""Reads a file of organizations: the whole tree, with users and limits, in TOML."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from slurm_tf.errors import ConfigError, UnitError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.layers import Layer
from slurm_tf.org import quota_options
from slurm_tf.org.organizations import Organizations
from slurm_tf.org.quota_options import Wish, wish_of
from slurm_tf.org.tree_changes import Removal, WantedOrganization
from slurm_tf.slurm.associations import ROOT, AssociationLimits


class UserTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """[organizations.NAME.users.USER]: the limits of one user in the organization."""

    gpus: int | str = quota_options.UNLIMITED
    cpus: int | str = quota_options.UNLIMITED
    mem: str = quota_options.UNLIMITED
    gpu_hours: int | float | str = quota_options.UNLIMITED
    max_time: int | str = quota_options.UNLIMITED
    gpus_per_job: int | str = quota_options.UNLIMITED


class OrganizationTable(UserTable, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """[organizations.NAME]: the limits of one organization, the one above it, and its users."""

    gpus_per_user: int | str = quota_options.UNLIMITED
    no_decay: bool = False
    deny_on_limit: bool = False
    parent: str = ROOT
    users: dict[str, UserTable] = {}


class TreeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of organizations."""

    organizations: dict[str, OrganizationTable] = {}


def read(path: Path, found: Organizations) -> tuple[WantedOrganization, ...]:
    """Return the organizations of a file. What it does not say is no limit; limits on other TRES stay as they are.

    Raises ConfigError, also for a file without an organization: it would be the end of all.
    """
    keys = layers.resolve([Layer(str(path), layers.read_toml(path))], TreeFile).spec
    layers.check_strings(keys, str(path), ())
    if not keys.organizations:
        raise ConfigError("found no organization", "[organizations.NAME]", where=str(path))
    known = {each.name: each for each in found.organizations}
    wanted = []
    for name, table in keys.organizations.items():
        where = f"{path}: organizations.{name}"
        old = known.get(name)
        base = wish_of(old.quota.limits, old.qos) if old else Wish()
        users = {user.name: user.quota.limits for user in old.users if not user.partition} if old else {}
        wanted.append(
            WantedOrganization(
                name, table.parent, _with(base, _options(table, OrganizationTable), where),
                {
                    user: _with(Wish(users.get(user, AssociationLimits())), _options(each, UserTable),
                                f"{where}.users.{user}").limits
                    for user, each in table.users.items()
                },
            )
        )  # fmt: skip
    return tuple(wanted)


def not_in_file(found: Organizations, wanted: tuple[WantedOrganization, ...]) -> Removal:
    """Return the organizations that a file does not have, and the users that its organizations do not have."""
    named = {each.name: each for each in wanted}
    gone = tuple(each.name for each in found.organizations if each.name not in named)
    users = [
        (each.name, user.name)
        for each in found.organizations if each.name in named
        for user in each.users if user.name not in named[each.name].users
    ]  # fmt: skip
    return Removal(gone, tuple(users))


def _options(table: UserTable, kind: type[UserTable]) -> dict[str, str | bool]:
    values = msgspec.to_builtins(table)
    names = quota_options.OF_BOTH if kind is UserTable else (*quota_options.OF_BOTH, *quota_options.OF_ORGANIZATION)
    return {name: values[name] if isinstance(values[name], bool) else str(values[name]) for name in names}


def _with(base: Wish, options: Mapping[str, str | bool], where: str) -> Wish:
    try:
        return quota_options.with_options(base, options)
    except UnitError as error:
        raise ConfigError(error.found, error.needed, where=where) from error
