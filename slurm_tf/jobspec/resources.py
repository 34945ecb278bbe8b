"""The resources that one role asks for, typed and in the options that the site accepts.

They are read from the job file once; directives and estimates are made from these values.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import TypeVar

from slurm_tf import units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import gpu_types, layers, sites
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import Amount, Role
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


def read(job: Job, name: str, role: Role, limit: TimeLimit | None) -> Resources:
    """Return the resources of role `name`, checked against its partition. Raises ConfigError."""
    memory = _one_of(job, name, role, [option.value for option in MemoryOption], units.parse_memory)
    options = [option.value for option in GpuOption if option is not GpuOption.GRES]
    gpus = _one_of(job, name, role, options, units.parse_gpus)
    request = GpuRequest(GpuOption(gpus[0]), gpus[1]) if gpus and any(each.number for each in gpus[1]) else None
    asked = request.gpus if request else ()
    where = job.where(f"roles.{name}.{request.option.value}" if request else f"roles.{name}")
    resources = Resources(
        partition=_partition(job, role),
        constraint=gpu_types.constraint(job.site, asked, role.constraint or "", where),
        cpus_per_task=role.cpus_per_task,
        tasks_per_node=role.ntasks_per_node,
        memory=MemoryRequest(MemoryOption(memory[0]), memory[1]) if memory else None,
        gpus=request,
        gpus_per_task=_per_task(request, role) if request else 0,
    )
    _check_partitions(job, name, resources, role.count, limit)
    if job.site.scheduler == "local":
        return resources
    if job.site.gpu_spelling == "none" and request:
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
    partitions = _partitions(job, resources)
    numbers = {partition and partition.gpus_per_node for partition in partitions.values()}
    per_node = numbers.pop()
    if per_node is None or numbers:
        what = "partitions with the same gpus-per-node" if len(partitions) > 1 else "a partition with gpus-per-node"
        needed = f"{what} in the profile of {of_site}; found {','.join(partitions) or 'no partition'}"
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


def _partitions(job: Job, resources: Resources) -> dict[str, sites.Partition | None]:
    """Return each partition that the job may start in, None where the site profile does not have it."""
    names = (resources.partition or job.site.default_partition).split(",")
    return {name: job.site.partitions.get(name) for name in names}


def _check_partitions(job: Job, name: str, resources: Resources, tasks: int, limit: TimeLimit | None) -> None:
    """Raise ConfigError if no partition of the list can give what is asked, as far as the site profile says."""
    exceeded = [
        next(_refused(job, partition_name, partition, resources, tasks, limit), None) if partition else None
        for partition_name, partition in _partitions(job, resources).items()
    ]
    errors = [each for each in exceeded if each]
    if len(errors) == len(exceeded):
        asked = ", ".join(dict.fromkeys(each.asked for each in errors))
        key = errors[0].key
        where = job.where(key if key in _OF_JOB else f"roles.{name}.{key}")
        raise ConfigError(f"asks for {asked}", "; ".join(each.needed for each in errors), where=where)


@dataclass(frozen=True, slots=True)
class _Exceeded:
    """A limit of a partition that a role exceeds: the key, what it asks for, what is needed."""

    key: str
    asked: str
    needed: str


def _refused(
    job: Job, name: str, partition: sites.Partition, resources: Resources, tasks: int, limit: TimeLimit | None
) -> Iterator[_Exceeded]:
    """Yield why a partition does not take a role: its limits, then its features, accounts and QOS."""
    yield from _exceeded(job.site, name, partition, resources, tasks, limit)
    if partition.features is not None:
        unknown = _unknown_features(resources.constraint, partition.features)
        if unknown:
            there = " or ".join(partition.features) or "none"
            yield _Exceeded("constraint", f"nodes with {unknown}", f"{there}, the features of partition {name!r}")
    for key, value, allowed in (
        ("account", job.spec.account, partition.accounts),
        ("qos", job.spec.qos, partition.qos),
    ):
        if value and allowed is not None and value.lower() not in map(str.lower, allowed):
            yield _Exceeded(key, f"{key} {value}", f"{' or '.join(allowed)}, those of partition {name!r}")


def _unknown_features(constraint: str, there: Sequence[str]) -> str:
    """Return the features of a constraint that no node has, "" if the constraint can be met as far as that says."""
    names = [each.partition("*")[0] for each in re.split(r"[\s&|()\[\],]+", constraint)]
    unknown = [each for each in names if each and each not in there]
    one_is_enough = "|" in constraint and len(unknown) < len([each for each in names if each])
    return "" if one_is_enough else " and ".join(dict.fromkeys(unknown))


def _exceeded(
    site: sites.Site, name: str, partition: sites.Partition, resources: Resources, tasks: int, limit: TimeLimit | None
) -> Iterator[_Exceeded]:
    """Yield the limits of a partition that are exceeded."""
    on_a_node, request = min(resources.tasks_per_node or 1, tasks), resources.gpus
    gpus = (resources.gpus_per_task or 0) * on_a_node
    if request and request.option is GpuOption.PER_NODE:
        gpus = request.number
    memory = resources.memory
    mib = memory.mib if memory and memory.option is MemoryOption.PER_NODE else 0
    nodes = resources.nodes(tasks) if resources.tasks_per_node else 1
    there = _value(partition.gpus_per_node, units.parse_gpus)
    option = request.option.value if request else "gpus"
    # key, what is asked, what there is, and its unit
    rows = [
        ("cpus-per-task", (resources.cpus_per_task or 1) * on_a_node, partition.cpus_per_node, "CPUs on a node"),
        ("mem", mib, _value(partition.mem_per_node, units.parse_memory), "MiB of memory on a node"),
        (option, gpus, None if there is None else sum(each.number for each in there), "GPUs on a node"),
        ("ntasks-per-node", nodes or 1, partition.max_nodes, "nodes"),
    ]
    for key, asked, available, unit in rows:
        if available is not None and asked > available:
            yield _Exceeded(key, f"{asked} {unit}", f"at most {available}, the limit of partition {name!r}")
    if request and there is not None and not any(not each.type for each in there):
        yield from _exceeded_types(site, name, request, there, on_a_node, tasks)
    longest = _value(partition.max_time, units.parse_time)
    if longest is not None and limit and (limit.length is None or limit.length > longest):
        needed = f"at most {units.format_time(longest)}, the limit of partition {name!r}"
        yield _Exceeded("time", units.format_time(limit.length), needed)


def _exceeded_types(
    site: sites.Site, name: str, request: GpuRequest, there: Sequence[Gpus], on_a_node: int, tasks: int
) -> Iterator[_Exceeded]:
    """Yield what a partition whose GPUs all have types lacks of the types that are asked for."""
    known = tuple(each._replace(type=gpu_types.as_known(site, each.type)) for each in there)
    types = GpuRequest(GpuOption.PER_NODE, known).by_type
    for each in request.gpus:
        number, asked = each.number, gpu_types.as_known(site, each.type)
        if request.option is GpuOption.PER_TASK:
            number *= on_a_node
        elif request.option is GpuOption.TOTAL:
            number = number * on_a_node // tasks
        if asked and each.number and asked not in types:
            needed = f"of type {' or '.join(each.type for each in there)}, those of partition {name!r}"
            yield _Exceeded(request.option.value, f"GPUs of type {each.type}", needed)
        elif asked and number > types[asked]:
            needed = f"at most {types[asked]}, the limit of partition {name!r}"
            yield _Exceeded(request.option.value, f"{number} {each.type} GPUs on a node", needed)


def _value(amount: Amount | None, parse: Callable[[str], T]) -> T | None:
    return None if amount is None else parse(str(amount))
