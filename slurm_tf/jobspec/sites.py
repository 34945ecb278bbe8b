"""Reads site profiles, which describe clusters. The only reader of site_configs/."""

import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from slurm_tf import files, units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import container_runtimes, inheritance, layers
from slurm_tf.jobspec.base_table import Amount, Base
from slurm_tf.jobspec.layers import Layer
from slurm_tf.run.container_settings import Runtime
from slurm_tf.slurm import slurm_conf

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
    features: (
        Annotated[tuple[str, ...], Meta(description="features of its nodes: what a job's constraint may name")] | None
    ) = None
    accounts: (
        Annotated[tuple[str, ...], Meta(description="accounts that may use it (AllowAccounts); default: all")] | None
    ) = None
    qos: Annotated[tuple[str, ...], Meta(description="QOS that may use it (AllowQos); default: all")] | None = None


class GpuType(Base, frozen=True):
    """How the site is asked for GPUs of one type."""

    name: (
        Annotated[
            str,
            Meta(
                description='the site\'s own name for it in --gres and --gpus; "": ask for GPUs of any type; default: '
                '"" if there is a constraint, else the same name'
            ),
        ]
        | None
    ) = None
    constraint: Annotated[str, Meta(description="the feature of the nodes that have it, for --constraint")] = ""


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
            Meta(description="price of one billing unit (TRES billing) for one hour; then CPUs and GPUs have no price"),
        ]
        | None
    ) = None
    qos: Annotated[
        dict[str, Annotated[float, Meta(ge=0)]],
        Meta(
            description="what the price of a job is multiplied by, by its QOS; 0: it is free; default: its UsageFactor "
            "in Slurm"
        ),
    ] = field(default_factory=dict)

    def with_factors(self, factors: Mapping[str, float]) -> "Prices":
        """Return the prices where a QOS that they do not name has the factor that Slurm has for it."""
        return msgspec.structs.replace(self, qos={**factors, **self.qos})


class SiteContainer(Base, frozen=True):
    """How the site's nodes run containers."""

    runtime: Annotated[
        str, Meta(description='"apptainer", "singularity", "charliecloud", "pyxis" or "oci"; "": no containers')
    ] = ""
    command: Annotated[
        tuple[str, ...], Meta(description="the runtime's program, if it is not in PATH under its own name")
    ] = ()
    modules: Annotated[
        tuple[str, ...], Meta(description="modules to load, after the site's others, for a job with containers")
    ] = ()
    images: Annotated[
        str, Meta(description="folder of images, which jobs can name; may begin with ~ and hold $NAME")
    ] = ""
    mounts: Annotated[
        tuple[str, ...],
        Meta(description="mounts of every container, as SRC[:DST[:ro]]: data, the site's configuration"),
    ] = ()
    gpu_options: (
        Annotated[
            tuple[str, ...],
            Meta(
                description='words for the runtime where a role has GPUs; default: "--nv" of apptainer and '
                "singularity; charliecloud needs the key, [] if `ch-fromhost --nvidia IMAGE` was run on the images"
            ),
        ]
        | None
    ) = None


class Site(Base, frozen=True):
    """One cluster, or this machine."""

    inherit: Annotated[
        str, Meta(description="a profile whose keys count where this one has none; tables merge key by key")
    ] = ""
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
    gpu_types: Annotated[
        dict[str, GpuType], Meta(description="how the site is asked for GPUs of a type, by the type in job files")
    ] = field(default_factory=dict)
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
    host_suffix: Annotated[
        str,
        Meta(
            description='what the fast network adds to a node\'s host name: "-ib0", and node7 is node7-ib0 there; '
            "instead of interface"
        ),
    ] = ""
    env: Annotated[
        dict[str, str],
        Meta(
            description="environment variables of every job, set before the prologue; a leading ~, $NAME and ${NAME} "
            "are replaced in the job"
        ),
    ] = field(default_factory=dict)
    thread_variables: Annotated[
        tuple[str, ...],
        Meta(description="environment variables that are set to a task's number of CPUs, unless they are set"),
    ] = ()
    mpi: Annotated[
        str, Meta(description='srun --mpi for horovod.controller = "mpi"; `srun --mpi=list` shows the values')
    ] = "pmix"
    shared: Annotated[
        str, Meta(description='folder for runs, on shared storage; "": runs/ in the folder that you submit from')
    ] = ""
    scratch: Annotated[
        str,
        Meta(
            description="fast local folder of each node, SLURM_TF_SCRATCH in the job; a leading ~, $NAME and ${NAME} "
            "are replaced there"
        ),
    ] = "/tmp"  # noqa: S108
    scratch_size: Annotated[Amount, Meta(description="what scratch holds at most: a job's --tmp")] | None = None
    accounts: Annotated[tuple[str, ...], Meta(description="the accounts that jobs may name; empty: any")] = ()
    qos: Annotated[tuple[str, ...], Meta(description="the QOS that jobs may name; empty: any")] = ()
    required: Annotated[
        tuple[Literal["account", "partition", "qos", "time", "constraint"], ...],
        Meta(description="what the site refuses a job without"),
    ] = ()
    requeue: Annotated[bool, Meta(description="Slurm may requeue a job after a preemption or a node failure")] = True
    preempt_mode: Annotated[PreemptMode, Meta(description="PreemptMode of slurm.conf")] = "UNKNOWN"
    grace_time: Annotated[Amount, Meta(description="GraceTime of the partition or QOS")] | None = None
    node_mtbf: Annotated[Amount, Meta(description="mean time between failures of one node")] | None = None
    prices: Prices = Prices()
    container: SiteContainer = SiteContainer()
    job: Annotated[dict[str, Any], Meta(description="defaults for all keys of a job file")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class Profile:
    """A site profile with all that it inherits. `origins`: the file that each key comes from, by its dotted path.

    `job`: its [job], and those that it inherits, weakest first.
    """

    path: Path
    site: Site
    origins: Mapping[str, str]
    job: tuple[Layer, ...]

    def where(self, key: str) -> str:
        """Return "file: key" for an error about `key`."""
        return f"{self.origins.get(key, self.path)}: {key}"


def load(name: str, trusted: Collection[str] = ()) -> Site:
    """Return site `name`: a profile of that name in the search path, or a path to a .toml file.

    `trusted`: the users whose profiles count, besides us and root. Raises ConfigError or UsageError.
    """
    return read(name, trusted).site


def read(name: str, trusted: Collection[str] = ()) -> Profile:
    """Return the profile of site `name`, which `load` finds, with what it inherits.

    Raises ConfigError or UsageError.
    """
    if name.endswith(inheritance.SUFFIX):
        path = Path(files.expand(name))
    else:
        path = inheritance.find(inheritance.SITE_PROFILES, name)
    chain = inheritance.chain(inheritance.SITE_PROFILES, path, inheritance.read(path, trusted), trusted)
    resolved = layers.resolve(chain, Site)
    job = tuple(
        Layer(f"site {Path(each.origin).stem}: job", each.values["job"]) for each in chain if each.values.get("job")
    )
    profile = Profile(path, resolved.spec, resolved.origins, job)
    _check(profile)
    return profile


def read_prices(path: Path) -> Prices:
    """Return the prices of a file with the keys of a site's [prices]. Raises ConfigError."""
    found = layers.resolve([layers.Layer(str(path), layers.read_toml(path))], Prices).spec
    if not found.currency:
        raise ConfigError("found no currency", 'one, such as currency = "EUR"', where=f"{path}: currency")
    return found


def recognise(environ: Mapping[str, str], trusted: Collection[str] = ()) -> str:
    """Return the name of the site that this machine belongs to: by cluster, by host name, else "generic".

    A profile that does not say its machines is left out where another one is the machine's. Raises ConfigError or
    UsageError.
    """
    cluster = slurm_conf.cluster_name(environ)
    host = socket.getfqdn()
    names = (host, host.partition(".")[0])
    profiles, unknown = _recognised_by(trusted)
    for name, recognise in profiles.items():
        if cluster and recognise.cluster == cluster:
            return name
    for name, recognise in profiles.items():
        if any(re.fullmatch(pattern, host) for pattern in recognise.hostnames for host in names):
            return name
    if unknown:  # it may be the one for this machine
        raise unknown[0]
    return "generic"


def _recognised_by(trusted: Collection[str]) -> tuple[dict[str, Recognise], list[ConfigError]]:
    """Return by what the machines of each profile are recognised, and why that of others is unknown.

    Nothing else of a profile is checked: every verb asks for this first.
    """
    profiles, unknown = {}, []
    for name, path in paths().items():
        try:
            values = inheritance.read(path, trusted)
            own = {key: values[key] for key in ("recognise",) if key in values}
            site = layers.resolve([Layer(str(path), own)], Site).spec
            _check_patterns(site, f"{path}: recognise.hostnames")
        except ConfigError as error:
            unknown.append(error)
        else:
            profiles[name] = site.recognise
    return profiles, unknown


def paths() -> dict[str, Path]:
    """Return the profiles by name, those of later folders first: a later folder of the search path wins."""
    return inheritance.paths(inheritance.SITE_PROFILES)


def _check(profile: Profile) -> None:
    site = profile.site
    layers.check_strings(site, str(profile.path), ("prologue",), profile.origins)
    _check_network(profile)
    _check_container(profile)
    for key in ("grace_time", "node_mtbf"):
        layers.check_unit(getattr(site, key), units.parse_time, profile.where(key.replace("_", "-")))
    layers.check_unit(site.scratch_size, units.parse_memory, profile.where("scratch-size"))
    for name, partition in site.partitions.items():
        at = f"partitions.{name}"
        layers.check_unit(partition.max_time, units.parse_time, profile.where(f"{at}.max-time"))
        layers.check_unit(partition.mem_per_node, units.parse_memory, profile.where(f"{at}.mem-per-node"))
        layers.check_unit(partition.gpus_per_node, units.parse_gpus, profile.where(f"{at}.gpus-per-node"))
    for name in site.env:
        layers.check_variable(name, profile.where(f"env.{name}"))
    for name in site.thread_variables:
        layers.check_variable(name, profile.where("thread-variables"))
    _check_patterns(site, profile.where("recognise.hostnames"))


def _check_patterns(site: Site, where: str) -> None:
    for pattern in site.recognise.hostnames:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"found {pattern!r} ({error})", "a regular expression", where=where) from error


def _check_container(profile: Profile) -> None:
    container = profile.site.container
    container_runtimes.check_runtime(container.runtime, profile.where("container.runtime"))
    if container.runtime:
        words, where = container.gpu_options or (), profile.where("container.gpu-options")
        container_runtimes.check_options(Runtime(container.runtime), words, where)


def _check_network(profile: Profile) -> None:
    site = profile.site
    for key in ("ports", "coordinator_ports"):
        layers.check_unit(getattr(site, key) or "1024-65535", units.parse_ports, profile.where(key.replace("_", "-")))
    if site.ports and site.coordinator_ports:
        (low, high), (other_low, other_high) = units.parse_ports(site.ports), units.parse_ports(site.coordinator_ports)
        if low <= other_high and other_low <= high:
            where = profile.where("coordinator-ports")
            raise ConfigError("it overlaps the range of `ports`", "a range of its own", where=where)
    if site.interface and site.host_suffix:
        raise ConfigError("found interface as well", "one of them", where=profile.where("host-suffix"))
