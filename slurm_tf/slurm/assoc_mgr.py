"""Reads what slurmctld knows of associations and QOS: their limits, and what is used of them.

Source: `scontrol --oneliner show assoc_mgr` of Slurm 22.05.8: "gres/gpu=4(2)" is a limit and what is used of it, "N" no
limit; memory is in MiB, and what was used over time in minutes, times the UsageFactor of the QOS.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from slurm_tf.slurm import client

ARGV = ("scontrol", "--oneliner", "show", "assoc_mgr")
_SECONDS = 10.0
_AMOUNT = re.compile(r"(?:(?P<tres>[^,=()]+)=)?(?P<most>N|\d+)(?:\((?P<used>\d+)(?:\.\d+)?\))?")
_WORD = re.compile(r"([\w/]+)=(\S*)")
_NO_LIMIT = "N"


@dataclass(frozen=True, slots=True)
class Amount:
    """One amount: of what ("" for jobs and times), the limit (None: none), and what is used (None: not said)."""

    tres: str
    most: int | None
    used: int | None


@dataclass(frozen=True, slots=True)
class AssociationUse:
    """What the jobs of an association and of those below it use: numbers and MiB at this time, and minutes over time.

    `promised`: minutes that jobs which run may still use until their time limits. Keys are names of TRES.
    """

    allocated: Mapping[str, int]
    minutes: Mapping[str, int]
    promised: Mapping[str, int]


def ask(*words: str) -> str:
    """Ask slurmctld, as `words` of scontrol say. Raises SlurmError."""
    return client.run([*ARGV, *words], seconds=_SECONDS).stdout


def association_use() -> tuple[Mapping[tuple[str, str], AssociationUse], Mapping[str, AssociationUse]]:
    """Ask what is used of each association, by (account, user), with "" for the account itself, and of each QOS.

    Of a user with an association for each of several partitions it is the sum. Raises SlurmError.
    """
    return parse_use(ask("flags=assoc,qos"))


def parse_use(text: str) -> tuple[Mapping[tuple[str, str], AssociationUse], Mapping[str, AssociationUse]]:
    """Return what is used, in what scontrol printed."""
    associations: dict[tuple[str, str], AssociationUse] = {}
    qos = {}
    for line in text.splitlines():
        if line.startswith("ClusterName="):
            row = record(line)
            key = (row["Account"], plain_name(row.get("UserName", "")))
            found = _use(row)
            associations[key] = _sum(associations[key], found) if key in associations else found
        elif line.startswith("QOS="):
            name = plain_name(line.removeprefix("QOS=").partition(" ")[0])
            qos[name] = _use(record(line.partition(" Account Limits=")[0]))
    return associations, qos


def record(text: str) -> dict[str, str]:
    """Return the fields of one record."""
    return dict(_WORD.findall(text))


def plain_name(name: str) -> str:
    """Return a name without the id that scontrol prints behind it: "alice(20001)"."""
    return re.sub(r"\(\d+\)$", "", name)


def amounts(text: str) -> Iterator[Amount]:
    """Yield the amounts of one field."""
    for part in text.split(","):
        if match := _AMOUNT.fullmatch(part):
            most = None if match["most"] == _NO_LIMIT else int(match["most"])
            yield Amount(match["tres"] or "", most, None if match["used"] is None else int(match["used"]))


def _use(row: Mapping[str, str]) -> AssociationUse:
    names = ("GrpTRES", "GrpTRESMins", "GrpTRESRunMins")
    return AssociationUse(*({each.tres: each.used or 0 for each in amounts(row.get(name, ""))} for name in names))


def _sum(one: AssociationUse, other: AssociationUse) -> AssociationUse:
    return AssociationUse(
        add(one.allocated, other.allocated), add(one.minutes, other.minutes), add(one.promised, other.promised)
    )


def add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the sum of two amounts for each TRES."""
    return {
        name: one.get(name, 0) + other.get(name, 0) for name in (*one, *(each for each in other if each not in one))
    }
