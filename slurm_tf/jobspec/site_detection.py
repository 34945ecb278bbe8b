"""Writes a first profile from what a live cluster says of itself; what it does not say stands there as a comment."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import get_args

from slurm_tf import units
from slurm_tf.jobspec import layers, sites, toml_entries
from slurm_tf.jobspec.layers import Layer
from slurm_tf.jobspec.toml_entries import Entry
from slurm_tf.slurm.live_cluster import LiveCluster, LivePartition
from slurm_tf.units import Gpus

# srun's plugins for Open MPI and MPICH, the one that is most likely to work first.
_MPI = ("pmix", "pmi2", "cray_shasta")


@dataclass(frozen=True, slots=True)
class Preemption:
    """How jobs are preempted here: a PreemptMode, the shortest time that they are given, and who says so."""

    mode: sites.PreemptMode
    grace_time: timedelta | None
    note: str


def profile(cluster: LiveCluster, gpus: Mapping[str, str], host: str = "") -> str:
    """Return the profile as TOML.

    `gpus`: those of nodes of partitions whose GPUs Slurm does not know of. `host`: by which the profile is recognised
    as well, "" if the cluster's name is enough.
    """
    lines = [
        toml_entries.comment(f"Detected from cluster {cluster.name}, Slurm {cluster.version}, by user {cluster.user}."),
        "# `slurm-tf sites check` compares it with the cluster; `slurm-tf docs sites` explains each key.",
        *toml_entries.lines(_top(cluster)),
        "",
        "[recognise]",
        *toml_entries.lines(_recognise(cluster, host)),
    ]
    for partition in cluster.partitions:
        lines += [
            "",
            f"[partitions.{toml_entries.key(partition.name)}]",
            *toml_entries.lines(_partition(cluster, partition, gpus)),
        ]
    text = "\n".join([*lines, *_not_asked()]) + "\n"
    _as_site(text)
    return text


def site(cluster: LiveCluster, gpus: Mapping[str, str]) -> sites.Site:
    """Return what the profile says."""
    return _as_site(profile(cluster, gpus))


def _as_site(text: str) -> sites.Site:
    """Return a detected profile as it is read, without what it inherits. Raises ConfigError."""
    path = Path("the detected profile")
    return layers.resolve([Layer(str(path), layers.parse_toml(text.encode(), path))], sites.Site).spec


def _recognise(cluster: LiveCluster, host: str) -> Iterator[Entry]:
    yield Entry("cluster", cluster.name or None, "ClusterName of slurm.conf")
    if host:
        note = "no slurm.conf that can be read here says the ClusterName; add the other login nodes"
        yield Entry("hostnames", (re.escape(host),), note)


def _top(cluster: LiveCluster) -> Iterator[Entry]:
    yield Entry("description", f"cluster {cluster.name}, Slurm {cluster.version}")
    yield Entry("inherit", "generic", "for all keys that are not here")
    default = next((each.name for each in cluster.partitions if each.is_default), None)
    yield Entry("default-partition", default, "" if default else "no partition is the default: jobs name one")
    yield from _gpu_spelling(cluster)
    exclusive = [each.name for each in cluster.partitions if each.is_exclusive]
    if exclusive and len(exclusive) == len(cluster.partitions):
        yield Entry("exclusive", True, "each job has its nodes for itself (OverSubscribe, SelectType)")
    else:
        yield Entry("exclusive", False, f"whole nodes only in {', '.join(exclusive)}" if exclusive else "")
    preemption = preemption_of(cluster)
    yield Entry("preempt-mode", preemption.mode, preemption.note)
    grace = preemption.grace_time
    yield Entry("grace-time", units.format_time(grace) if grace else None, "no GraceTime" if grace is None else "")
    yield _mpi(cluster)
    yield from _scratch(cluster)
    yield from _accounts(cluster)


def _gpu_spelling(cluster: LiveCluster) -> Iterator[Entry]:
    if cluster.has_gpus:
        yield Entry("gpu-spelling", "as-asked", "GPUs are a gres here")
    else:
        yield Entry("gpu-spelling", "none", "no node has a gres named gpu: a partition is its GPUs (gpus-per-node)")


def preemption_of(cluster: LiveCluster) -> Preemption:
    """Return how jobs are preempted: of several modes slurm.conf's, of several GraceTimes the shortest."""
    kind, common = cluster.settings.get("PreemptType", "preempt/none"), _mode(cluster.settings.get("PreemptMode", ""))
    if kind == "preempt/none":
        return Preemption("OFF", None, "PreemptType of slurm.conf")
    if kind == "preempt/qos":
        preempted = {name for qos in cluster.all_qos for name in qos.preempts}
        found = [(each.name, each.preempt_mode, each.grace_time) for each in cluster.all_qos if each.name in preempted]
    else:
        highest = max((each.tier for each in cluster.partitions), default=1)
        lower = [each for each in cluster.partitions if each.tier < highest]
        found = [(each.name, each.preempt_mode, each.grace_time) for each in lower]
    modes = {name: common if mode.lower() in ("", "cluster") else _mode(mode) for name, mode, _ in found}
    times = [time for name, _, time in found if time and modes[name] != "OFF"]
    said = ", ".join(f"{name} {mode}" for name, mode in modes.items())
    mode = next(iter(modes.values())) if len(set(modes.values())) == 1 else common
    return Preemption(mode, min(times, default=None), f"{kind}: {said}" if said else kind)


def _mode(text: str) -> sites.PreemptMode:
    """Return the mode among what Slurm prints, such as GANG,SUSPEND."""
    known: tuple[sites.PreemptMode, ...] = get_args(sites.PreemptMode)
    return next((each for each in known if each in text.upper().split(",")), "UNKNOWN")


def _mpi(cluster: LiveCluster) -> Entry:
    if not cluster.mpi:
        return Entry("mpi", None, f"srun --mpi=list: {cluster.unknown.get('mpi', 'printed no plugin')}")
    known = next((name for name in _MPI if name in cluster.mpi), None)
    return Entry("mpi", known, f"srun --mpi=list: {', '.join(cluster.mpi)}")


def _scratch(cluster: LiveCluster) -> Iterator[Entry]:
    folder = cluster.settings.get("TmpFS", "")
    # %h and %n stand for the node
    same = bool(folder) and "%" not in folder
    yield Entry("scratch", folder if same else None, "TmpFS of slurm.conf" + ("" if same else f": {folder}"))
    disks = [kind.disk for partition in cluster.partitions for kind in partition.kinds]
    size = min(disks, default=0)
    note = "the smallest TmpDisk of a node" if size else "nodes say no TmpDisk"
    yield Entry("scratch-size", units.format_memory(size) if size else None, note)


def _accounts(cluster: LiveCluster) -> Iterator[Entry]:
    enforced = cluster.settings.get("AccountingStorageEnforce", "none")
    for key, names in (("accounts", cluster.accounts), ("qos", cluster.qos)):
        note = f"those of {cluster.user}; a profile for others needs theirs as well; enforced: {enforced}"
        nobody = cluster.unknown.get("accounts") or f"accounting has none of user {cluster.user}"
        yield Entry(key, names or None, note if names else nobody)
    plugins = cluster.settings.get("JobSubmitPlugins", "(null)")
    asks = f"; job_submit plugins may ask for more: {plugins}" if plugins not in ("(null)", "") else ""
    yield Entry("required", None, f"Slurm does not tell what a job must have{asks}")


def _partition(cluster: LiveCluster, partition: LivePartition, gpus: Mapping[str, str]) -> Iterator[Entry]:
    memory = partition.default_memory or "all memory of its nodes"
    state = "" if partition.state == "UP" else f"; its state is {partition.state}"
    yield Entry("", None, f"a job that states no memory gets {memory}{state}")
    limit = partition.max_time
    yield Entry("max-time", units.format_time(limit) if limit else None, "" if limit else "no limit")
    yield Entry("max-nodes", partition.max_nodes, "" if partition.max_nodes else "no limit")
    kinds = partition.kinds
    if not kinds:
        yield Entry("cpus-per-node", None, "sinfo shows no node of it")
        return
    yield Entry("cpus-per-node", max(kind.cpus for kind in kinds), _of_several(len(kinds)))
    yield Entry("mem-per-node", units.format_memory(max(kind.memory for kind in kinds)), _of_several(len(kinds)))
    yield _gpus(cluster, partition, gpus)
    yield Entry("features", tuple(dict.fromkeys(name for kind in kinds for name in kind.features)))
    for key, names in (("accounts", partition.accounts), ("qos", partition.qos)):
        if names is not None:
            yield Entry(key, names)


def _of_several(kinds: int) -> str:
    return f"the most that a node has: it has nodes of {kinds} kinds" if kinds > 1 else ""


def _gpus(cluster: LiveCluster, partition: LivePartition, gpus: Mapping[str, str]) -> Entry:
    """Return the GPUs of a node: of each type the most that a node has."""
    if not cluster.has_gpus:
        stated = gpus.get(partition.name)
        note = "as typed: Slurm does not know" if stated else "if its nodes have GPUs, say which: a100:4"
        return Entry("gpus-per-node", stated, note)
    most: dict[str, int] = {}
    for each in (each for kind in partition.kinds for each in kind.gpus):
        most[each.type] = max(most.get(each.type, 0), each.number)
    found = [Gpus(number, name) for name, number in most.items()]
    return Entry("gpus-per-node", units.format_gpus(found) if found else 0, "" if found else "no GPUs")


def _not_asked() -> list[str]:
    """Return comments for what a cluster cannot be asked."""
    rows = {
        "node-python": "Python 3.9 or later on the nodes, for the launcher: not known without a job",
        "modules, prologue": "what every job loads",
        "ports, coordinator-ports": "if firewalls between nodes let only some ports through",
        "interface or host-suffix": "the fast network, if it is not the one of the route between nodes",
        "shared": "a folder for runs on storage that all nodes see",
        "thread-variables, [env]": "variables of every job",
        "node-mtbf": "how often a node fails",
        "[prices]": "what an hour costs",
        "[gpu-types.NAME]": "if job files call a type of GPUs by another name than Slurm",
    }
    return ["", "# Not asked, as Slurm does not know it:", *(f"#   {key}: {why}" for key, why in rows.items())]
