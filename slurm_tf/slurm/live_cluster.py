"""What a cluster says of itself: its partitions and nodes, preemption, accounting, and how srun starts MPI.

Read from scontrol, sinfo, sacctmgr and srun as Slurm 22.05.8 prints it. Only what each user may ask is asked, and no
job is started.
"""

import os
import pwd
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from slurm_tf import units
from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, command_output
from slurm_tf.units import Gpus

# The columns of sinfo and sacctmgr that are asked for.
NODES = ("%P", "%D", "%c", "%m", "%G", "%f", "%d")
QOS = ("Name", "Preempt", "PreemptMode", "GraceTime")
_SETTING = re.compile(r"^(?P<name>\w+)\s*= ?(?P<value>.*)$", re.MULTILINE)
_GPUS = re.compile(r"(?:^|,)gpu(?::(?P<type>[^:,()]+))?:(?P<number>\d+)")
_UNLIMITED = ("UNLIMITED", "INFINITE", "NONE")


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes of a partition that are alike: how many they are, and what each has; memory and disk in MiB."""

    nodes: int
    cpus: int
    memory: int
    gpus: tuple[Gpus, ...]
    features: tuple[str, ...]
    disk: int


@dataclass(frozen=True, slots=True)
class LivePartition:
    """One partition. None of a limit, or of a list of who may use it, is no limit.

    `tier`: its PriorityTier. `default_memory`: what a job gets that states none, as Slurm says it: DefMemPerCPU=256.
    """

    name: str
    is_default: bool
    state: str
    max_time: timedelta | None
    max_nodes: int | None
    accounts: tuple[str, ...] | None
    qos: tuple[str, ...] | None
    is_exclusive: bool
    preempt_mode: str
    grace_time: timedelta
    tier: int
    default_memory: str
    kinds: tuple[NodeKind, ...]


@dataclass(frozen=True, slots=True)
class LiveQos:
    """One QOS: the names of those that it preempts, and how and how late it is preempted itself."""

    name: str
    preempts: tuple[str, ...]
    preempt_mode: str
    grace_time: timedelta


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """A cluster. `settings`: slurm.conf. What could not be asked is empty, and `unknown` says why, by field.

    `user`: who asked; `accounts` and `qos`: those that this user may name. `all_accounts`: of everybody.
    """

    user: str
    settings: Mapping[str, str]
    partitions: tuple[LivePartition, ...]
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    all_accounts: tuple[str, ...] = ()
    all_qos: tuple[LiveQos, ...] = ()
    mpi: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """ClusterName of slurm.conf."""
        return self.settings.get("ClusterName", "")

    @property
    def version(self) -> str:
        """The release of slurmctld."""
        return self.settings.get("SLURM_VERSION", "")

    @property
    def has_gpus(self) -> bool:
        """Whether Slurm knows of GPUs."""
        return any(kind.gpus for partition in self.partitions for kind in partition.kinds)


def ask() -> LiveCluster:
    """Ask the cluster of this machine. Raises SlurmError; what only accounting or srun knows may be unknown."""
    settings = ask_settings()
    partitions = client.run(["scontrol", "--oneliner", "show", "partition"]).stdout
    columns = f"--format={command_output.SEPARATOR.join(NODES)}"
    kinds = parse_nodes(client.run(["sinfo", "--noheader", "--exact", columns]).stdout)
    user = _user()
    unknown: dict[str, str] = {}
    # one slurmdbd may serve several clusters
    here = (f"user={user}", f"cluster={settings.get('ClusterName', '')}")
    of_user = _sacctmgr(settings, unknown, "accounts", "assoc", "where", *here, "format=Account,QOS")
    all_accounts = _sacctmgr(settings, unknown, "all_accounts", "account", "format=Account")
    all_qos = _sacctmgr(settings, unknown, "all_qos", "qos", f"format={','.join(QOS)}")
    return LiveCluster(
        user=user,
        settings=settings,
        partitions=parse_partitions(partitions, settings, kinds),
        accounts=_distinct(row[0] for row in of_user),
        qos=_distinct(name for row in of_user for name in row[1].split(",")),
        all_accounts=_distinct(row[0] for row in all_accounts),
        all_qos=tuple(_qos(row) for row in all_qos),
        mpi=_mpi(unknown),
        unknown=unknown,
    )


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _sacctmgr(settings: Mapping[str, str], unknown: dict[str, str], what: str, *words: str) -> list[list[str]]:
    """Return the rows of `sacctmgr show`; none where accounting does not answer, which goes to `unknown`."""
    if not settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        unknown[what] = "this cluster keeps no accounts"
        return []
    if unknown:  # it did not answer a moment ago: each question may take a minute
        unknown[what] = next(iter(unknown.values()))
        return []
    try:
        text = client.run(["sacctmgr", "--parsable2", "--noheader", "--readonly", "show", *words]).stdout
    except SlurmError as error:
        unknown[what] = error.found
        return []
    return [line.split("|") for line in text.splitlines()]


def _mpi(unknown: dict[str, str]) -> tuple[str, ...]:
    try:
        done = client.run(["srun", "--mpi=list"])
    except SlurmError as error:
        unknown["mpi"] = error.found
        return ()
    return parse_mpi(done.stdout + done.stderr)


def parse_mpi(text: str) -> tuple[str, ...]:
    """Return the plugins that `srun --mpi=list` prints: one a line, and the versions of pmix in the last one."""
    lines = [line.removeprefix("srun:").strip() for line in text.splitlines()]
    *names, versions = [*lines, ""] if not lines or ":" not in lines[-1] else lines
    more = versions.partition(":")[2].split(",")
    return _distinct(name for name in [*names, *map(str.strip, more)] if re.fullmatch(r"[\w+-]+", name))


def ask_settings(seconds: float = 60.0) -> dict[str, str]:
    """Ask slurmctld for the settings of slurm.conf. Raises SlurmError."""
    try:
        text = client.run(["scontrol", "show", "config"], seconds=seconds).stdout
    except SlurmError as error:
        # slurmctld has answered, and was too busy for the ping that scontrol ends with (22.05.8: exit code 1)
        if not _SETTING.search(error.found):
            raise
        text = error.found
    return parse_settings(text)


def partitions_with_qos() -> set[str]:
    """Ask slurmctld for the partitions that have a QOS; "" is among them where the default partition is. Raises
    SlurmError.
    """
    text = client.run(["scontrol", "--all", "--oneliner", "show", "partition"]).stdout
    found = set()
    for line in text.splitlines():
        row = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if row.get("QoS", "N/A") not in ("N/A", ""):
            found |= {row["PartitionName"], *([""] if row.get("Default") == "YES" else [])}
    return found


def parse_settings(text: str) -> dict[str, str]:
    """Return the settings in the output of `scontrol show config`."""
    return {match["name"]: match["value"].strip() for match in _SETTING.finditer(text)}


def parse_nodes(text: str) -> dict[str, tuple[NodeKind, ...]]:
    """Return the nodes of each partition in the output of sinfo; none of a partition without nodes."""
    found: dict[str, tuple[NodeKind, ...]] = {}
    for line in text.splitlines():
        name, nodes, cpus, memory, gres, features, disk = line.split(command_output.SEPARATOR)
        gpus = tuple(Gpus(int(match["number"]), match["type"] or "") for match in _GPUS.finditer(gres))
        names = tuple(each for each in features.split(",") if each and each != "(null)")
        kinds = found.setdefault(name.removesuffix("*"), ())
        if int(nodes):
            kind = NodeKind(int(nodes), int(cpus), int(memory), gpus, names, int(disk))
            found[name.removesuffix("*")] = (*kinds, kind)
    return found


def parse_partitions(
    text: str, settings: Mapping[str, str], kinds: Mapping[str, tuple[NodeKind, ...]]
) -> tuple[LivePartition, ...]:
    """Return the partitions in the output of scontrol, with their nodes."""
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines()]
    return tuple(
        LivePartition(
            name=row["PartitionName"],
            is_default=row.get("Default") == "YES",
            state=row.get("State", ""),
            max_time=None if row["MaxTime"] in _UNLIMITED else units.parse_time(row["MaxTime"]),
            max_nodes=None if row["MaxNodes"] in _UNLIMITED else int(row["MaxNodes"]),
            accounts=_listed(row.get("AllowAccounts")),
            qos=_listed(row.get("AllowQos")),
            is_exclusive=row.get("OverSubscribe") == "EXCLUSIVE" or settings.get("SelectType") == "select/linear",
            preempt_mode=row.get("PreemptMode", ""),
            grace_time=_grace_time(row.get("GraceTime", "")),
            tier=int(row.get("PriorityTier", "1")),
            default_memory=_default_memory(row, settings),
            kinds=kinds.get(row["PartitionName"], ()),
        )
        for row in rows
        if "PartitionName" in row
    )


def _grace_time(text: str) -> timedelta:
    """Return the GraceTime of a partition: scontrol prints seconds, sacctmgr for a QOS hours:minutes:seconds."""
    if text.isdigit():
        return timedelta(seconds=int(text))
    return (units.parse_time(text) if text else None) or timedelta()


def _default_memory(row: Mapping[str, str], settings: Mapping[str, str]) -> str:
    """Return the default of a partition, else of slurm.conf, which an own DefMemPerNode=UNLIMITED stands for."""
    for values in (row, settings):
        for name in ("DefMemPerCPU", "DefMemPerNode"):
            if values.get(name, "UNLIMITED") != "UNLIMITED":
                return f"{name}={values[name]}"
    return ""


def _listed(text: str | None) -> tuple[str, ...] | None:
    """Return the names in a list of who may use a partition; None where all may, or where it says who may not."""
    return None if text in (None, "ALL", "(null)") else tuple(str(text).split(","))


def _qos(row: list[str]) -> LiveQos:
    name, preempts, mode, grace = row
    return LiveQos(name, tuple(filter(None, preempts.split(","))), mode, _grace_time(grace))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))
