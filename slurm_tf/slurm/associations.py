"""Accounts, associations and QOS, as slurmdbd has them: who may use how much, and who may change it.

Source: sacctmgr(1); seen on Slurm 22.05.8.
"""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from slurm_tf import units
from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, sacct_amounts

# The columns that are asked for.
ASSOCIATIONS = (
    "Account", "User", "ParentName", "Partition", "GrpTRES", "GrpTRESMins", "MaxTRES", "MaxWall", "QOS", "DefaultQOS",
)  # fmt: skip
QOS = ("Name", "Flags", "GrpTRESMins", "MaxTRESPU")
USERS = ("User", "DefaultAccount", "AdminLevel", "Coordinators")
_SECONDS = 30.0
ROOT = "root"


class AdminLevel(Enum):
    """The AdminLevel of a user: what of slurmdbd it may change."""

    NONE = 0
    OPERATOR = 1
    ADMINISTRATOR = 2


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """The limits of one association, its own alone; a TRES that is not there has none. Memory is in MiB.

    `grp_tres`: of all jobs that run at a time; `grp_tres_mins`: minutes of all jobs together; `max_tres` and
    `max_wall`: of one job.
    """

    grp_tres: Mapping[str, int] = field(default_factory=dict)
    grp_tres_mins: Mapping[str, int] = field(default_factory=dict)
    max_tres: Mapping[str, int] = field(default_factory=dict)
    max_wall: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Association:
    """One association: of an account (`user` is ""), or of a user in it, perhaps for one partition alone."""

    account: str
    user: str
    parent: str
    partition: str
    limits: AssociationLimits
    qos: tuple[str, ...]
    default_qos: str


@dataclass(frozen=True, slots=True)
class QosRecord:
    """One QOS: its flags, and the limits on what all use over time (minutes) and each user at a time."""

    name: str
    flags: tuple[str, ...] = ()
    grp_tres_mins: Mapping[str, int] = field(default_factory=dict)
    max_tres_per_user: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DbdUser:
    """A user, as slurmdbd has it. `coordinates`: the accounts whose users it may change."""

    name: str
    default_account: str
    level: AdminLevel
    coordinates: tuple[str, ...]


def associations(cluster: str) -> tuple[Association, ...]:
    """Ask slurmdbd for the associations of a cluster that the user may see, accounts above those below them.

    Raises SlurmError.
    """
    words = ("assoc", "tree", "where", f"cluster={cluster}", "WOPLimits")
    return parse_associations(_show(*words, f"format={','.join(ASSOCIATIONS)}"))


def hides(settings: Mapping[str, str], what: str) -> bool:
    """Whether PrivateData hides `what` of others ("jobs", "usage") from who asks: from all but operators.

    Coordinators see more of their own accounts; that is not counted on here. Raises SlurmError.
    """
    if what not in settings.get("PrivateData", "").replace(" ", "").split(","):
        return False
    name = me()
    if name in ("root", settings.get("SlurmUser", "").partition("(")[0]):
        return False
    return all(each.level is AdminLevel.NONE for each in users(name))


def qos() -> tuple[QosRecord, ...]:
    """Ask slurmdbd for all QOS. Raises SlurmError."""
    return parse_qos(_show("qos", f"format={','.join(QOS)}"))


def users(name: str = "") -> tuple[DbdUser, ...]:
    """Ask slurmdbd for the users that the user may see, or for one of them. Raises SlurmError."""
    where = ["where", f"name={name}"] if name else []
    return parse_users(_show("user", *where, "WithCoord", f"format={','.join(USERS)}"))


def me() -> str:
    """Return the name of who asks."""
    return pwd.getpwuid(os.getuid()).pw_name


def change(*words: str) -> None:
    """Have sacctmgr change slurmdbd, without a question. Raises SlurmError.

    It may end with 0 though it changed nothing (22.05.8: a QOS that is a default): read back what was changed.
    """
    client.run(["sacctmgr", "--immediate", *words], seconds=_SECONDS)


def parse_associations(text: str) -> tuple[Association, ...]:
    """Return the associations in the output of sacctmgr with the columns of ASSOCIATIONS."""
    found = []
    for row in _rows(text, ASSOCIATIONS):
        limits = AssociationLimits(
            tres(row["GrpTRES"]), tres(row["GrpTRESMins"]), tres(row["MaxTRES"]),
            units.parse_time(row["MaxWall"]) if row["MaxWall"] else None,
        )  # fmt: skip
        # tree indents accounts
        found.append(
            Association(
                row["Account"].strip(), row["User"], row["ParentName"], row["Partition"], limits,
                _names(row["QOS"]), row["DefaultQOS"],
            )
        )  # fmt: skip
    return tuple(found)


def parse_qos(text: str) -> tuple[QosRecord, ...]:
    """Return the QOS in the output of sacctmgr with the columns of QOS."""
    return tuple(
        QosRecord(row["Name"], _names(row["Flags"]), tres(row["GrpTRESMins"]), tres(row["MaxTRESPU"]))
        for row in _rows(text, QOS)
    )


def parse_users(text: str) -> tuple[DbdUser, ...]:
    """Return the users in the output of sacctmgr with the columns of USERS."""
    levels = {"Operator": AdminLevel.OPERATOR, "Administrator": AdminLevel.ADMINISTRATOR}
    return tuple(
        DbdUser(
            row["User"], row["DefaultAccount"], levels.get(row["AdminLevel"], AdminLevel.NONE),
            _names(row["Coordinators"]),
        )
        for row in _rows(text, USERS)
    )  # fmt: skip


def tres(text: str) -> dict[str, int]:
    """Return the amounts in "cpu=8,gres/gpu=4,mem=8G", memory in MiB. Raises UnitError."""
    pairs = (part.partition("=")[::2] for part in text.split(",") if part)
    return {name: _amount(name, number) for name, number in pairs}


def _amount(name: str, text: str) -> int:
    return sacct_amounts.size(text, "M") // 1024**2 if name == "mem" else sacct_amounts.count(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _show(*words: str) -> str:
    argv = ["sacctmgr", "--parsable2", "--noheader", "--readonly", "show", *words]
    return client.run(argv, seconds=_SECONDS).stdout


def _rows(text: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of sacctmgr by column. Raises SlurmError where one has others."""
    rows = [line.split("|") for line in text.splitlines() if line]
    for row in rows:
        if len(row) != len(columns):
            raise SlurmError(f"sacctmgr printed {'|'.join(row)!r}", f"{len(columns)} columns: {', '.join(columns)}")
    return [dict(zip(columns, row, strict=True)) for row in rows]
