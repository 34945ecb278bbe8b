"""Reads site profiles, which describe clusters. The only reader of site_configs/."""

import os
import re
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from slurm_tf import files, search_path, units
from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.job_file import Amount, Base

PreemptMode = Literal["OFF", "CANCEL", "REQUEUE", "SUSPEND", "UNKNOWN"]


class Recognise(Base, frozen=True):
    """How a machine of this site is recognised. A regular expression must match the whole host name."""

    cluster: Annotated[str, Meta(description="ClusterName of slurm.conf, or SLURM_CLUSTER_NAME in a job")] = ""
    hostnames: Annotated[tuple[str, ...], Meta(description="regular expressions for the login node's name")] = ()


class Partition(Base, frozen=True):
    """The limits of one partition; a limit that is not given is not checked."""

    max_time: Amount | None = None
    max_nodes: Annotated[int, Meta(ge=1)] | None = None
    cpus_per_node: Annotated[int, Meta(ge=1)] | None = None
    mem_per_node: Amount | None = None
    gpus_per_node: Annotated[Amount, Meta(description="GPUs of each node, as [type:]count[,...]")] | None = None


class Prices(Base, frozen=True):
    """The price of an hour, for estimates and reports; a price that is not given is unknown, not zero."""

    currency: str = ""
    cpu_hour: float | None = None
    gpu_hour: (
        Annotated[float, Meta(description="price of one GPU-hour, for types that are not in gpu-types")] | None
    ) = None
    gpu_types: Annotated[dict[str, float], Meta(description="price of one GPU-hour, by GPU type")] = field(
        default_factory=dict
    )
    billing_hour: (
        Annotated[
            float,
            Meta(
                description="price of one billing unit (TRES billing) for one hour; the other prices are then ignored"
            ),
        ]
        | None
    ) = None


class Site(Base, frozen=True):
    """One cluster, or this machine."""

    description: str = ""
    scheduler: Annotated[
        Literal["slurm", "local"], Meta(description="slurm: submit jobs; local: start the tasks on this machine")
    ] = "slurm"
    recognise: Recognise = Recognise()
    template: Annotated[str, Meta(description="templates/site/NAME.sbatch.j2")] = "generic"
    node_python: Annotated[str, Meta(description="Python 3.9 or later on the nodes; runs only the launcher")] = (
        "python3"
    )
    modules: Annotated[tuple[str, ...], Meta(description="modules to load before a job's setup")] = ()
    prologue: Annotated[
        str, Meta(description="shell lines to run before the modules and a job's setup; not quoted")
    ] = ""
    default_partition: Annotated[str, Meta(description="the partition that sbatch uses if a job names none")] = ""
    partitions: dict[str, Partition] = field(default_factory=dict)
    gpu_spelling: Annotated[
        Literal["as-asked", "gres", "gpus-per-node", "gpus-per-task", "none"],
        Meta(
            description="the sbatch option for GPUs that this site accepts; none: its nodes have the GPUs of their "
            "partition (gpus-per-node), which Slurm does not know of"
        ),
    ] = "as-asked"
    mem_spelling: Annotated[
        Literal["as-asked", "mem", "mem-per-cpu", "none"],
        Meta(description="the sbatch option for memory that this site accepts"),
    ] = "as-asked"
    exclusive: Annotated[
        bool, Meta(description="jobs share their nodes with no other job, unless the job file says otherwise")
    ] = False
    ports: Annotated[
        str, Meta(description='port range for TensorFlow, such as "20000-20999"; "": the kernel chooses ports')
    ] = ""
    coordinator_ports: Annotated[
        str, Meta(description='port range for the coordinator, must not overlap ports; "": the kernel chooses a port')
    ] = ""
    interface: Annotated[
        str, Meta(description='network interface to use, such as "ib0"; "": that of the route to the other nodes')
    ] = ""
    mpi: Annotated[
        str, Meta(description='srun --mpi for horovod.controller = "mpi"; `srun --mpi=list` shows the values')
    ] = "pmix"
    shared: Annotated[
        str, Meta(description='folder for runs, on shared storage; "": runs/ in the folder that you submit from')
    ] = ""
    scratch: Annotated[str, Meta(description="fast local folder of each node")] = "/tmp"  # noqa: S108
    requeue: Annotated[bool, Meta(description="Slurm may requeue a job after a preemption or a node failure")] = True
    preempt_mode: Annotated[PreemptMode, Meta(description="PreemptMode of slurm.conf")] = "UNKNOWN"
    grace_time: Annotated[Amount, Meta(description="GraceTime of the partition or QOS")] | None = None
    node_mtbf: Annotated[Amount, Meta(description="mean time between failures of one node")] | None = None
    prices: Prices = Prices()
    job: Annotated[dict[str, Any], Meta(description="defaults for all keys of a job file")] = field(
        default_factory=dict
    )


def load(name: str, trusted: Collection[str] = ()) -> Site:
    """Return site `name`: a profile of that name in the search path, or a path to a .toml file.

    `trusted`: the users whose profiles count, besides us and root. Raises ConfigError or UsageError.
    """
    path = Path(files.expand(name)) if name.endswith(".toml") else _profiles().get(name)
    if path is None:
        hint = layers.nearest(name, list(_profiles()))
        raise UsageError(f"no site profile {name!r}", f"one of {', '.join(sorted(_profiles()))}", hint)
    values = layers.parse_toml(search_path.read(path, trusted), path)
    site = layers.resolve([layers.Layer(str(path), values)], Site).spec
    _check(site, str(path))
    return site


def read_prices(path: Path) -> Prices:
    """Return the prices of a file with the keys of a site's [prices]. Raises ConfigError."""
    found = layers.resolve([layers.Layer(str(path), layers.read_toml(path))], Prices).spec
    if not found.currency:
        raise ConfigError("found no currency", 'one, such as currency = "EUR"', where=f"{path}: currency")
    return found


def recognise(environ: Mapping[str, str], trusted: Collection[str] = ()) -> str:
    """Return the name of the site that this machine belongs to: by cluster, by host name, else "generic".

    A profile that cannot be used is left out where another one is the machine's. Raises ConfigError or UsageError.
    """
    cluster = cluster_name(environ)
    host = socket.getfqdn()
    names = (host, host.partition(".")[0])
    profiles, unusable = _usable(trusted)
    for name, site in profiles.items():
        if cluster and site.recognise.cluster == cluster:
            return name
    for name, site in profiles.items():
        if any(re.fullmatch(pattern, host) for pattern in site.recognise.hostnames for host in names):
            return name
    if unusable:  # it may be the one for this machine
        raise unusable[0]
    return "generic"


def _usable(trusted: Collection[str]) -> tuple[dict[str, Site], list[ConfigError]]:
    """Return the profiles by name, and why others cannot be used."""
    profiles, unusable = {}, []
    for name in _profiles():
        try:
            profiles[name] = load(name, trusted)
        except ConfigError as error:
            unusable.append(error)
    return profiles, unusable


def _profiles() -> dict[str, Path]:
    """Return the profiles by name: a later folder of the search path wins."""
    folders = search_path.folders("site_configs")
    paths = [folder / name for folder in folders for name in search_path.names(folder) if name.endswith(".toml")]
    return {path.stem: path for path in paths}


def cluster_name(environ: Mapping[str, str]) -> str:
    """Return the name of the machine's cluster: a job's own, else of slurm.conf; "" if there is none to read."""
    if environ.get("SLURM_CLUSTER_NAME"):
        return environ["SLURM_CLUSTER_NAME"]
    path = Path(environ.get("SLURM_CONF", "/etc/slurm/slurm.conf"))
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    match = re.search(r"^\s*ClusterName\s*=\s*(\S+)", path.read_text(errors="replace"), re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def _check(site: Site, where: str) -> None:
    layers.check_strings(site, where, free=("prologue",))
    for key in ("ports", "coordinator_ports"):
        layers.check_unit(getattr(site, key) or "1024-65535", units.parse_ports, f"{where}: {key.replace('_', '-')}")
    if site.ports and site.coordinator_ports:
        (low, high), (other_low, other_high) = units.parse_ports(site.ports), units.parse_ports(site.coordinator_ports)
        if low <= other_high and other_low <= high:
            raise ConfigError(
                "it overlaps the range of `ports`", "a range of its own", where=f"{where}: coordinator-ports"
            )
    for key in ("grace_time", "node_mtbf"):
        layers.check_unit(getattr(site, key), units.parse_time, f"{where}: {key.replace('_', '-')}")
    for name, partition in site.partitions.items():
        at = f"{where}: partitions.{name}"
        layers.check_unit(partition.max_time, units.parse_time, f"{at}.max-time")
        layers.check_unit(partition.mem_per_node, units.parse_memory, f"{at}.mem-per-node")
        layers.check_unit(partition.gpus_per_node, units.parse_gpus, f"{at}.gpus-per-node")
    for pattern in site.recognise.hostnames:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"found {pattern!r} ({error})", "a regular expression", where=f"{where}: recognise.hostnames"
            ) from error
