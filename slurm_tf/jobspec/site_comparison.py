"""Compares a site profile with the live cluster: each value that both have, and what only one of them has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slurm_tf import units
from slurm_tf.jobspec import gpu_types, site_detection
from slurm_tf.jobspec.base_table import Amount
from slurm_tf.jobspec.sites import Partition, Profile, Site
from slurm_tf.slurm.live_cluster import LiveCluster

_NO_LIMIT = "no limit"


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose values differ, both as text. `where`: the file that has the profile's value."""

    key: str
    profile: str
    cluster: str
    where: str


def compare(profile: Profile, cluster: LiveCluster) -> list[Difference]:
    """Return each difference, in the order of a profile. What a profile does not say is none."""
    live = site_detection.site(cluster, {})
    rows = [*_of_cluster(profile.site, live, cluster), *_of_partitions(profile.site, live)]
    return [
        Difference(key, said, found, profile.where(key).removesuffix(f": {key}"))
        for key, said, found in rows
        if said != found
    ]


def _of_cluster(site: Site, live: Site, cluster: LiveCluster) -> Iterator[tuple[str, str, str]]:
    """Yield the key, the profile's value and the cluster's, of what is said of the cluster as a whole."""
    if site.recognise.cluster:
        yield "recognise.cluster", site.recognise.cluster, live.recognise.cluster
    if site.default_partition:
        yield "default-partition", site.default_partition, live.default_partition or "none"
    # every option for GPUs is taken where Slurm knows of some; "as-asked" says nothing of the cluster
    if site.gpu_spelling != "as-asked" and (site.gpu_spelling == "none") == cluster.has_gpus:
        yield "gpu-spelling", site.gpu_spelling, "GPUs are a gres" if cluster.has_gpus else "no gres named gpu"
    if live.exclusive:
        yield "exclusive", _yes_or_no(site.exclusive), _yes_or_no(True)
    by_qos = cluster.settings.get("PreemptType") == "preempt/qos"
    knows_preemption = not by_qos or "all_qos" not in cluster.unknown
    if site.preempt_mode != "UNKNOWN" and knows_preemption:
        yield "preempt-mode", site.preempt_mode, live.preempt_mode
    if site.grace_time is not None and knows_preemption:
        yield "grace-time", _time(site.grace_time), _time(live.grace_time, "none")
    if cluster.mpi and site.mpi not in cluster.mpi:
        yield "mpi", site.mpi, ", ".join(cluster.mpi)
    if site.scratch_size is not None and site.scratch == live.scratch and live.scratch_size is not None:
        yield "scratch-size", _memory(site.scratch_size), _memory(live.scratch_size)
    yield from _names("accounts", site.accounts, cluster.accounts, cluster.all_accounts)
    yield from _names("qos", site.qos, cluster.qos, [each.name for each in cluster.all_qos])


def _names(
    key: str, said: Sequence[str], of_user: Sequence[str], there: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield names that the cluster does not have, and those of the user that the profile would refuse."""
    if not said:
        return
    gone = [name for name in said if there and name not in there]
    lacking = [name for name in of_user if name not in said]
    if gone or lacking:
        yield key, _list(said), _list(of_user if lacking else there)


def _of_partitions(site: Site, live: Site) -> Iterator[tuple[str, str, str]]:
    """Yield what is said of partitions. A profile that names none says nothing; else it is to name all."""
    for name in dict.fromkeys([*site.partitions, *live.partitions]) if site.partitions else ():
        said, found = site.partitions.get(name), live.partitions.get(name)
        if said is None or found is None:
            yield f"partitions.{name}", "is there" if said else "none", "is there" if found else "none"
            continue
        for key, one, other in _of_partition(site, said, found):
            yield f"partitions.{name}.{key}", one, other


def _of_partition(site: Site, said: Partition, found: Partition) -> Iterator[tuple[str, str, str]]:
    """Yield what the profile says of one partition, with the cluster's value."""
    if said.max_time is not None:
        yield "max-time", _time(said.max_time), _time(found.max_time)
    for key in ("max_nodes", "cpus_per_node"):
        if getattr(said, key) is not None:
            number = getattr(found, key)
            yield key.replace("_", "-"), str(getattr(said, key)), _NO_LIMIT if number is None else str(number)
    if said.mem_per_node is not None:
        yield "mem-per-node", _memory(said.mem_per_node), _memory(found.mem_per_node)
    if said.gpus_per_node is not None and site.gpu_spelling != "none":
        yield "gpus-per-node", _gpus(site, said.gpus_per_node), _gpus(site, found.gpus_per_node)
    if said.features is not None and found.features is not None:
        yield "features", _list(sorted(said.features)), _list(sorted(found.features))
    for key, one, other in (("accounts", said.accounts, found.accounts), ("qos", said.qos, found.qos)):
        if one is not None:
            yield key, _list(sorted(one)), "all" if other is None else _list(sorted(other))


def _yes_or_no(value: bool) -> str:
    return "true" if value else "false"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _time(value: Amount | None, nothing: str = _NO_LIMIT) -> str:
    length = None if value is None else units.parse_time(str(value))
    return nothing if length is None else units.format_time(length)


def _memory(value: Amount | None) -> str:
    return _NO_LIMIT if value is None else units.format_memory(units.parse_memory(str(value)))


def _gpus(site: Site, value: Amount | None) -> str:
    """Return GPUs by Slurm's names, in one order."""
    numbers: dict[str, int] = {}
    for each in units.parse_gpus(str(value or 0)):
        name = gpu_types.as_known(site, each.type)
        numbers[name] = numbers.get(name, 0) + each.number
    return units.format_gpus([units.Gpus(number, name) for name, number in sorted(numbers.items())])
