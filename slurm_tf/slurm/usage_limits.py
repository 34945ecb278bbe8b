"""What a user may still use: limits of associations, of the accounts above them and of QOS, and what is used of them.

slurmctld holds jobs to the limits and says both in `scontrol show assoc_mgr`; sacctmgr only knows the limits. Seen on
Slurm 22.05.8: hours are minutes there, times the UsageFactor of a job's QOS; "N" is no limit; a QOS without a job of
the user's says nothing of its limits for a user, and likewise for an account.
"""

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from slurm_tf import units
from slurm_tf.errors import SlurmError
from slurm_tf.slurm import assoc_mgr, client, live_cluster

_SECONDS = 10.0
# The columns of sacctmgr that are asked for: what assoc_mgr does not say.
QOS = ("Name", "UsageFactor", "Flags", "MaxTRESPU", "MaxTRESPA", "MaxJobsPU", "MaxSubmitPU")
_PER_USER, _PER_ACCOUNT = ("MaxTRESPU", "MaxJobsPU", "MaxSubmitPU"), ("MaxTRESPA",)
_ENFORCED = {"limits", "safe"}

# Limits on what has been used in all, what is in use at a time, and what one job may have, by Slurm's own names.
IN_ALL = ("GrpTRESMins", "GrpWall")
OF_A_JOB = ("MaxTRESPJ", "MaxTRESMinsPJ", "MaxWallPJ")
_AT_A_TIME = (
    "GrpTRES", "GrpTRESRunMins", "MaxTRESPU", "MaxTRESPA", "GrpJobs", "GrpSubmitJobs", "MaxJobs", "MaxSubmitJobs",
    "MaxJobsPU", "MaxSubmitJobsPU", "MaxJobsPA", "MaxSubmitJobsPA",
)  # fmt: skip
_NAMES = (*IN_ALL, *_AT_A_TIME, *OF_A_JOB)
# How sacctmgr names the limits of QOS that assoc_mgr names otherwise.
_OF_SACCTMGR = {"MaxSubmitPU": "MaxSubmitJobsPU"}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: whose it is, its name in Slurm, and of what (gres/gpu; "" for jobs and times).

    `most`, `used`, `promised`: minutes, or minutes of a TRES, where the name has Mins or Wall; else numbers, and MiB.
    `used` is None for a limit of one job, and where it is unknown. `promised`: what running jobs may still use until
    their time limits.
    `owner` is for people; `account` or `qos` says it for programs, and `of_user` whether it is the user's own there.
    """

    owner: str
    name: str
    tres: str
    most: int
    used: int | None = None
    promised: int = 0
    account: str = field(default="", compare=False)
    qos: str = field(default="", compare=False)
    of_user: bool = field(default=False, compare=False)

    @property
    def left(self) -> int:
        """What a job that starts now may have."""
        return max(0, self.most - (self.used or 0) - self.promised)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody said what is used."""
        return self.used is None and self.name not in OF_A_JOB

    @property
    def is_time(self) -> bool:
        """Whether the amounts are minutes."""
        return "Mins" in self.name or "Wall" in self.name


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a user. `unknown`: why they are not known, "" where they are.

    `half_life`, `reset`: how Slurm forgets what was used (PriorityDecayHalfLife, PriorityUsageResetPeriod); None and ""
    for not at all. `kept`: the QOS whose use it never forgets. `factors`: the UsageFactor of each QOS.
    """

    user: str
    limits: tuple[Limit, ...] = ()
    half_life: timedelta | None = None
    reset: str = ""
    kept: tuple[str, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    unknown: str = ""


def ask(user: str = "") -> Limits:
    """Ask Slurm for the limits of a user, by default of who asks. What does not answer in time is unknown."""
    user = user or pwd.getpwuid(os.getuid()).pw_name
    try:
        settings = client.run(["scontrol", "show", "config"], seconds=_SECONDS).stdout
        manager = assoc_mgr.ask(f"users={user}", "flags=assoc,qos")
        qos = _show("qos", f"format={','.join(QOS)}")
        own = _show("assoc", "where", f"user={user}", "format=Cluster,Account,QOS")
    except SlurmError as error:
        return Limits(user, unknown=error.found)
    return parse(user, settings, manager, qos, own)


def accounts(user: str = "") -> tuple[str, ...]:
    """Ask Slurm for the accounts of a user on this cluster, by default of who asks. Raises SlurmError."""
    user = user or pwd.getpwuid(os.getuid()).pw_name
    conf = live_cluster.ask_settings(_SECONDS)
    rows = _rows(_show("assoc", "where", f"user={user}", "format=Cluster,Account,QOS"))
    return tuple(dict.fromkeys(row[1] for row in rows if row[0] in ("", conf.get("ClusterName"))))


def usage_factors() -> Mapping[str, float]:
    """Ask Slurm for the UsageFactor of each QOS. Raises SlurmError."""
    return parse_factors(_show("qos", f"format={','.join(QOS)}"))


def _show(*words: str) -> str:
    argv = ["sacctmgr", "--parsable2", "--noheader", "--readonly", "show", *words]
    return client.run(argv, seconds=_SECONDS).stdout


def parse(user: str, settings: str, manager: str, qos: str, own: str) -> Limits:
    """Return the limits in what scontrol printed of slurm.conf and assoc_mgr, and sacctmgr of QOS and associations."""
    conf = live_cluster.parse_settings(settings)
    enforced = set(conf.get("AccountingStorageEnforce", "").replace(" ", "").split(","))
    if not enforced & _ENFORCED:
        found = f"AccountingStorageEnforce is {conf.get('AccountingStorageEnforce') or 'unknown'}"
        return Limits(user, factors=parse_factors(qos), unknown=f"this cluster holds jobs to no limits: {found}")
    cluster = conf.get("ClusterName", "")
    rows = [row for row in _rows(own) if row[0] in ("", cluster)]
    lines = manager.splitlines()
    limits = [*_of_associations(user, lines), *_of_qos(user, lines, qos, rows)] if rows else []
    half_life, reset = forgetting(conf)
    kept = tuple(row[0] for row in _rows(qos) if "NoDecay" in row[2].split(","))
    return Limits(user, tuple(limits), half_life, reset, kept, parse_factors(qos))


def forgetting(conf: Mapping[str, str]) -> tuple[timedelta | None, str]:
    """Return how Slurm forgets what was used: PriorityDecayHalfLife, PriorityUsageResetPeriod; None and "" for not."""
    half_life = units.parse_time(conf["PriorityDecayHalfLife"]) if _is_set(conf, "PriorityDecayHalfLife") else None
    return half_life or None, conf["PriorityUsageResetPeriod"] if _is_set(conf, "PriorityUsageResetPeriod") else ""


def parse_factors(qos: str) -> Mapping[str, float]:
    """Return the UsageFactor of each QOS in the output of sacctmgr with the columns of QOS."""
    return {row[0]: float(row[1]) for row in _rows(qos) if re.fullmatch(r"\d+(\.\d+)?", row[1])}


def _rows(text: str) -> list[list[str]]:
    return [line.split("|") for line in text.splitlines() if line]


def _is_set(conf: Mapping[str, str], name: str) -> bool:
    return conf.get(name, "").upper() not in ("", "NONE", "(NULL)", "00:00:00", "0")


def _of_associations(user: str, lines: list[str]) -> Iterator[Limit]:
    """Yield the limits of the user's associations, and of their accounts up to the root."""
    rows = [assoc_mgr.record(line) for line in lines if line.startswith("ClusterName=")]
    accounts = {row["Account"]: row for row in rows if not row.get("UserName")}
    above: dict[str, None] = {}  # a set in its order
    for row in rows:
        if assoc_mgr.plain_name(row.get("UserName", "")) != user:
            continue
        where = f" on {row['Partition']}" if row.get("Partition") else ""
        yield from _limits(f"{user} in {row['Account']}{where}", row, account=row["Account"], of_user=True)
        name = row["Account"]
        while name in accounts and name not in above:
            above[name] = None
            name = assoc_mgr.plain_name(accounts[name].get("ParentAccount", ""))
    for name in above:
        # what a job may have is in the user's association as well, which has it from here
        found = _limits(f"account {name}", accounts[name], account=name)
        yield from (each for each in found if each.name not in OF_A_JOB)


def _of_qos(user: str, lines: list[str], qos: str, own: list[list[str]]) -> Iterator[Limit]:
    """Yield the limits of the QOS that the user may name. `own`: cluster, account and QOS of the user's associations.

    A QOS holds each account by itself to its limits for an account, not with the accounts below it.
    """
    rows = {row[0]: row for row in _rows(qos)}
    found = re.search(rf" UserName={re.escape(user)}\((\d+)\) ", "\n".join(lines))
    key = f"(?:{found[1]}|{re.escape(user)}\\({found[1]}\\))" if found else re.escape(user)
    for line in lines:
        name = assoc_mgr.plain_name(line.removeprefix("QOS=").partition(" ")[0])
        accounts = [row[1] for row in own if name in row[2].split(",")]
        if not line.startswith("QOS=") or not accounts:
            continue
        whole, _, of_parts = line.partition(" Account Limits=")
        of_accounts, _, of_users = of_parts.partition("User Limits=")
        known = rows.get(name, [])
        yield from _limits(f"QOS {name}", assoc_mgr.record(whole), qos=name)
        for account in dict.fromkeys(accounts):
            part = _of_part(of_accounts, re.escape(account)) or _unused(known, _PER_ACCOUNT)
            yield from _limits(f"account {account} in QOS {name}", part, account=account, qos=name)
        part = _of_part(of_users, key) or _unused(known, _PER_USER)
        yield from _limits(f"{user} in QOS {name}", part, qos=name, of_user=True)


def _of_part(text: str, key: str) -> Mapping[str, str]:
    """Return the limits of one account or user in those of a QOS, {} for one that has no job of it."""
    found = re.search(rf"\s{key}=\{{([^}}]*)\}}", text)
    return assoc_mgr.record(found[1]) if found else {}


def _unused(row: list[str], names: Sequence[str]) -> Mapping[str, str]:
    """Return those limits that sacctmgr has of a QOS, of which nothing is used."""
    found = dict(zip(QOS, row, strict=False))
    limits = {_OF_SACCTMGR.get(name, name): found.get(name, "") for name in names}
    return {name: re.sub(r"(\d)(?=,|$)", r"\1(0)", text) for name, text in limits.items()}


def _limits(
    owner: str, row: Mapping[str, str], account: str = "", qos: str = "", of_user: bool = False
) -> Iterator[Limit]:
    """Yield the limits that are set in one record."""
    promised = {each.tres: each.used or 0 for each in assoc_mgr.amounts(row.get("GrpTRESRunMins", ""))}
    for name in _NAMES:
        for each in assoc_mgr.amounts(row.get(name, "")):
            if each.most is None:
                continue
            used = None if name in OF_A_JOB else each.used
            running = promised.get(each.tres, 0) if name == "GrpTRESMins" else 0
            yield Limit(owner, name, each.tres, each.most, used, running, account, qos, of_user)
