"""The resources that one role asks for, typed and in the options that the site accepts.

They are read from the job file once; directives and estimates are made from these values.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import TypeVar

from slurm_tf import units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import gpu_types, layers, sites
from slurm_tf.jobspec.base_table import Amount
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import Role
from slurm_tf.units import Gpus

T = TypeVar("T")

# Keys of the whole job that a partition may refuse; all others are a role's.
_OF_JOB = ("time", "account", "qos")


class MemoryOption(str, Enum):
    """The options of sbatch that ask for memory."""

    PER_NODE = "mem"
    PER_CPU = "mem-per-cpu"
    PER_GPU = "mem-per-gpu"


class GpuOption(str, Enum):
    """The options of sbatch that ask for GPUs; GRES is a number for each node, too."""

    TOTAL = "gpus"
    PER_NODE = "gpus-per-node"
    PER_TASK = "gpus-per-task"
    GRES = "gres"


MEMORY_KEYS = tuple(option.value for option in MemoryOption)
GPU_KEYS = tuple(option.value for option in GpuOption if option is not GpuOption.GRES)


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """An amount of memory and what it is for; 0 MiB is all memory of a node."""

    option: MemoryOption
    mib: int


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """Numbers of GPUs, of one type each, and what they are for."""

    option: GpuOption
    gpus: tuple[Gpus, ...]

    @property
    def number(self) -> int:
        """How many they are, of all types."""
        return sum(each.number for each in self.gpus)

    @property
    def by_type(self) -> Mapping[str, int]:
        """How many of each type."""
        numbers: Counter[str] = Counter()
        for each in self.gpus:
            numbers[each.type] += each.number
        return numbers

    def scaled(self, times: int, divisor: int = 1) -> "GpuRequest | None":
        """Return the request for another number of each type, None where that is no whole number."""
        if any(each.number * times % divisor for each in self.gpus):
            return None
        return replace(self, gpus=tuple(each._replace(number=each.number * times // divisor) for each in self.gpus))


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A job's time limit; `length` is None for UNLIMITED."""

    length: timedelta | None


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one component. `gpus_per_task`: 0 for none, None for some whose number is not known.

    `node_gpus`: those of each of its nodes, where tasks need some and Slurm is not asked for them.
    """

    partition: str
    constraint: str
    cpus_per_task: int | None
    tasks_per_node: int | None
    memory: MemoryRequest | None
    gpus: GpuRequest | None
    gpus_per_task: int | None
    node_gpus: GpuRequest | None = None

    @property
    def comparable(self) -> "Resources":
        """What two roles must have in common to be one component: a total of GPUs counts for each task."""
        if self.gpus and self.gpus.option is GpuOption.TOTAL and self.gpus_per_task:
            return replace(self, gpus=self.gpus.scaled(self.gpus_per_task, self.gpus.number) or self.gpus)
        return self if self.gpus else replace(self, gpus_per_task=0, node_gpus=None)

    def joined(self, others: Sequence["Resources"]) -> "Resources":
        """Return the resources of one component for this role and `others`: totals of GPUs add up.

        Their `comparable` must be equal.
        """
        if self.gpus and self.gpus.option is GpuOption.TOTAL:
            total = sum(each.gpus.number for each in (self, *others) if each.gpus)
            return replace(self, gpus=self.gpus.scaled(total, self.gpus.number))
        return replace(self, node_gpus=next((each.node_gpus for each in (self, *others) if each.node_gpus), None))

    def on_each_node(self, times: int) -> "Resources":
        """Return the resources with so many times the memory and GPUs of each node."""
        memory, gpus = self.memory, self.gpus
        if memory and memory.option is MemoryOption.PER_NODE:
            memory = replace(memory, mib=memory.mib * times)
        if gpus and gpus.option in (GpuOption.PER_NODE, GpuOption.GRES):
            gpus = gpus.scaled(times)
        return replace(self, memory=memory, gpus=gpus)

    def nodes(self, tasks: int) -> int | None:
        """Return the number of nodes for so many tasks, None where Slurm decides it."""
        if self.tasks_per_node:
            return -(-tasks // self.tasks_per_node)
        return 1 if tasks == 1 else None


def read(job: Job, name: str, role: Role) -> Resources:
    """Return the resources of role `name` in the options that the site accepts. Raises ConfigError."""
    return accepted(job, name, role, asked(job, name, role))


def asked(job: Job, name: str, role: Role) -> Resources:
    """Return the resources of role `name` as the job file asks for them. Raises ConfigError."""
    request = asked_gpus(job, name, role)
    gpus = request.gpus if request else ()
    where = job.where(f"roles.{name}.{request.option.value}" if request else f"roles.{name}")
    return Resources(
        partition=_partition(job, role),
        constraint=gpu_types.constraint(job.site, gpus, role.constraint or "", where),
        cpus_per_task=role.cpus_per_task,
        tasks_per_node=role.ntasks_per_node,
        memory=asked_memory(job, name, role),
        gpus=request,
        gpus_per_task=_per_task(request, role) if request else 0,
    )


def asked_memory(job: Job, name: str, role: Role) -> MemoryRequest | None:
    """Return the memory that role `name` asks for. Raises ConfigError."""
    found = _one_of(job, name, role, MEMORY_KEYS, units.parse_memory)
    return MemoryRequest(MemoryOption(found[0]), found[1]) if found else None


def asked_gpus(job: Job, name: str, role: Role) -> GpuRequest | None:
    """Return the GPUs that role `name` asks for, None also where it asks for 0 of them. Raises ConfigError."""
    found = _one_of(job, name, role, GPU_KEYS, units.parse_gpus)
    return GpuRequest(GpuOption(found[0]), found[1]) if found and any(each.number for each in found[1]) else None


def accepted(job: Job, name: str, role: Role, resources: Resources) -> Resources:
    """Return the resources of role `name` in the options that the site accepts. Raises ConfigError."""
    if job.site.scheduler == "local":
        return resources
    if job.site.gpu_spelling == "none" and resources.gpus:
        resources = replace(resources, node_gpus=_node_gpus(job, name, resources, role.count))
    return replace(
        resources, memory=_accepted_memory(job, name, resources, role), gpus=_accepted_gpus(job, name, resources, role)
    )


def states_gpus(role: Role) -> bool:
    """Whether a role says how many GPUs it needs, also that it needs none."""
    return any(value is not None for value in (role.gpus, role.gpus_per_node, role.gpus_per_task))


def time_limit(job: Job) -> TimeLimit | None:
    """Return the job's time limit, None for the partition's default; 0 is no limit, as for sbatch. Raises UnitError."""
    return None if job.spec.time is None else TimeLimit(units.parse_time(str(job.spec.time)) or None)


def _partition(job: Job, role: Role) -> str:
    """Return the role's own partition, unless the environment or the command line names one for the whole job."""
    named = job.origins.get("partition", "").startswith(("environment: ", "command line: "))
    return (job.spec.partition if named else None) or role.partition or job.spec.partition or ""


def _one_of(job: Job, name: str, role: Role, keys: Sequence[str], parse: Callable[[str], T]) -> tuple[str, T] | None:
    """Return the one of `keys` that the role has, with its value. Raises ConfigError if it has several."""
    found: list[tuple[str, Amount]] = [
        (key, value) for key in keys if (value := getattr(role, key.replace("-", "_"))) is not None
    ]
    if not found:
        return None
    key, value = found[-1]
    where = job.where(f"roles.{name}.{key}")
    if len(found) > 1:
        raise ConfigError(f"found {' and '.join(key for key, _ in found)}", "one of them", where=where)
    layers.check_unit(value, parse, where)
    return key, parse(str(value))


def _per_task(request: GpuRequest, role: Role) -> int | None:
    """Return how many GPUs each task gets if they divide evenly, else None."""
    number = request.number
    if request.option is GpuOption.PER_TASK:
        return number
    tasks = role.count if request.option is GpuOption.TOTAL else role.ntasks_per_node
    return number // tasks if tasks and number % tasks == 0 else None


def _tasks_on_a_node(resources: Resources, tasks: int) -> int | None:
    return resources.tasks_per_node or (1 if tasks == 1 else None)


def _accepted_gpus(job: Job, name: str, resources: Resources, role: Role) -> GpuRequest | None:
    """Return the GPUs in the option that the site accepts. Raises ConfigError."""
    request, spelling = resources.gpus, job.site.gpu_spelling
    if request is None or spelling == "none":
        return None
    if spelling in ("as-asked", request.option.value):
        return request
    accepted = _spelled(GpuOption(spelling), request, role, _tasks_on_a_node(resources, role.count))
    if accepted:
        return replace(accepted, option=GpuOption(spelling))
    raise ConfigError(
        f"found {request.option.value} = {units.format_gpus(request.gpus)!r}",
        f"a number that site {job.site_name} can be asked for as {spelling}",
        "say ntasks-per-node as well, and a number of GPUs that divides by it",
        job.where(f"roles.{name}.{request.option.value}"),
    )


def _node_gpus(job: Job, name: str, resources: Resources, tasks: int) -> GpuRequest:
    """Return the GPUs of each node of a role that needs some, where Slurm knows of none. Raises ConfigError."""
    request = resources.gpus
    option = request.option.value if request else ""
    found, where = f"found {option}", job.where(f"roles.{name}.{option}")
    of_site = f"site {job.site_name}, where a partition is its GPUs"
    listed = partitions(job, resources)
    numbers = {partition and partition.gpus_per_node for partition in listed.values()}
    per_node = numbers.pop()
    if per_node is None or numbers:
        what = "partitions with the same gpus-per-node" if len(listed) > 1 else "a partition with gpus-per-node"
        needed = f"{what} in the profile of {of_site}; found {','.join(listed) or 'no partition'}"
        raise ConfigError(found, needed, where=where)
    if _tasks_on_a_node(resources, tasks) is None:
        needed = f"ntasks-per-node as well at {of_site}: Slurm does not count them when it places tasks"
        raise ConfigError(found, needed, where=where)
    return GpuRequest(GpuOption.PER_NODE, units.parse_gpus(str(per_node)))


def _spelled(option: GpuOption, request: GpuRequest, role: Role, on_a_node: int | None) -> GpuRequest | None:
    """Return the request with numbers for another option, None where they cannot be told."""
    if option is GpuOption.PER_TASK:
        tasks = role.count if request.option is GpuOption.TOTAL else on_a_node
        return request.scaled(1, tasks) if tasks else None
    if request.option is GpuOption.PER_NODE:
        return request
    if on_a_node is None:
        return None
    return request.scaled(on_a_node, role.count if request.option is GpuOption.TOTAL else 1)


def _accepted_memory(job: Job, name: str, resources: Resources, role: Role) -> MemoryRequest | None:
    """Return the memory in the option that the site accepts; None where it accepts none. Raises ConfigError."""
    request, spelling = resources.memory, job.site.mem_spelling
    if request is None or spelling == "none":
        return None
    if request.option is MemoryOption.PER_GPU and job.site.gpu_spelling == "none":
        needed = f"mem or mem-per-cpu: Slurm knows of no GPUs at site {job.site_name}"
        raise ConfigError("found mem-per-gpu", needed, where=job.where(f"roles.{name}.mem-per-gpu"))
    if spelling in ("as-asked", request.option.value):
        return request
    option, per_node = MemoryOption(spelling), _tasks_on_a_node(resources, role.count)
    if request.option is not MemoryOption.PER_GPU and per_node and resources.cpus_per_task:
        cpus = per_node * resources.cpus_per_task
        return MemoryRequest(option, request.mib * cpus if option is MemoryOption.PER_NODE else -(-request.mib // cpus))
    raise ConfigError(
        f"found {request.option.value} = {units.format_memory(request.mib)!r}",
        f"an amount that site {job.site_name} can be asked for as {spelling}",
        "say ntasks-per-node and cpus-per-task as well",
        job.where(f"roles.{name}.{request.option.value}"),
    )


def partitions(job: Job, resources: Resources) -> dict[str, sites.Partition | None]:
    """Return each partition that the job may start in, None where the site profile does not have it."""
    names = (resources.partition or job.site.default_partition).split(",")
    return {name: job.site.partitions.get(name) for name in names}
