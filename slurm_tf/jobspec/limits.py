"""Compares what a job asks for with the limits of its partitions, as far as the site profile says them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from slurm_tf import units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import gpu_types, sites
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.resources import GpuOption, GpuRequest, MemoryOption, Resources, TimeLimit, partitions
from slurm_tf.slurm.node_sizes import NodeSize
from slurm_tf.units import Gpus

_GPUS = "GPUs on a node"
_OF_JOB = ("time", "account", "qos")
# In the place of a number that a profile does not say.
_MANY = 1 << 40


def check(job: Job, roles: Sequence[str], resources: Resources, tasks: int, limit: TimeLimit | None) -> None:
    """Raise ConfigError if no partition of the list can give what is asked, as far as the site profile says.

    `roles`: those that ask for it, one alone or several together. `limit`: the job's time limit.
    """
    exceeded = [
        list(_refused(job, _Demand(name, partition, resources, tasks), limit)) if partition else []
        for name, partition in partitions(job, resources).items()
    ]
    if not all(exceeded):
        return
    errors = ErrorList()
    if len(exceeded) == 1:
        for each in exceeded[0]:
            errors.add(_error(job, roles, [each]))
    else:  # one that could give it would be enough: what is first in the way in each of them
        errors.add(_error(job, roles, [each[0] for each in exceeded]))
    errors.raise_all()


def node_sizes(job: Job, resources: Resources) -> tuple[NodeSize, ...]:
    """Return the nodes of a role's partition as the site profile describes them, nothing where it does not."""
    listed = list(partitions(job, resources).values())
    partition = listed[0] if len(listed) == 1 else None
    if partition is None or partition.cpus_per_node is None:
        return ()
    demand = _Demand("", partition, resources, 1)
    gpus = sum(each.number for each in demand.gpus_there or ())
    return (
        NodeSize(
            nodes=partition.max_nodes or _MANY,
            cpus=partition.cpus_per_node,
            memory=_MANY if demand.mib_there is None else demand.mib_there,
            gpus=_MANY if demand.gpus_there is None else gpus,
            threads_per_core=1,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Exceeded:
    """A limit of a partition that is exceeded: the key that asks, what it asks for, what is needed."""

    key: str
    asked: str
    needed: str

    @property
    def is_of_gpus(self) -> bool:
        """Whether it is a number of GPUs."""
        return self.asked.endswith(_GPUS)


def _error(job: Job, roles: Sequence[str], exceeded: Sequence[_Exceeded]) -> ConfigError:
    first, *more = roles
    key = exceeded[0].key
    asked = ", ".join(dict.fromkeys(each.asked for each in exceeded))
    found = f"{', '.join(roles)} on the same nodes ask for {asked}" if more else f"asks for {asked}"
    where = job.where("roles" if more else f"roles.{first}.{key}")
    if key in _OF_JOB:
        where = job.where(key)
    do = _with_gpus(job) if all(each.is_of_gpus for each in exceeded) else ""
    needed = "; ".join(each.needed for each in exceeded)
    return ConfigError(found, needed, do, where)


def _with_gpus(job: Job) -> str:
    """Return which partitions have GPUs, "" where the profile names none."""
    named = [
        f"{name} ({partition.gpus_per_node} on a node)"
        for name, partition in job.site.partitions.items()
        if partition.gpus_per_node and any(each.number for each in units.parse_gpus(str(partition.gpus_per_node)))
    ]
    return f"partitions with GPUs: {', '.join(named)}" if named else ""


@dataclass(frozen=True)
class _Demand:
    """What `tasks` tasks ask of one partition."""

    name: str
    partition: sites.Partition
    resources: Resources
    tasks: int

    @cached_property
    def on_a_node(self) -> int:
        """How many tasks are on each node; 1 where Slurm decides it, the fewest that there can be."""
        return min(self.resources.tasks_per_node or 1, self.tasks)

    @cached_property
    def cpus(self) -> int:
        """The CPUs of a task."""
        return self.resources.cpus_per_task or 1

    @cached_property
    def gpus(self) -> int:
        """The GPUs on each node."""
        request = self.resources.gpus
        if request and request.option in (GpuOption.PER_NODE, GpuOption.GRES):
            return request.number
        return (self.resources.gpus_per_task or 0) * self.on_a_node

    @cached_property
    def mib(self) -> int:
        """The memory on each node, in MiB."""
        memory = self.resources.memory
        return self._mib(self.on_a_node, self.gpus) if memory else 0

    def _mib(self, tasks: int, gpus: int) -> int:
        memory = self.resources.memory
        if memory is None:
            return 0
        number = {MemoryOption.PER_NODE: 1, MemoryOption.PER_CPU: tasks * self.cpus, MemoryOption.PER_GPU: gpus}
        return memory.mib * number[memory.option]

    @cached_property
    def gpus_there(self) -> tuple[Gpus, ...] | None:
        """The GPUs of a node of the partition, None where the profile does not say."""
        amount = self.partition.gpus_per_node
        return None if amount is None else units.parse_gpus(str(amount))

    @cached_property
    def mib_there(self) -> int | None:
        """The memory of a node of the partition, None where the profile does not say."""
        amount = self.partition.mem_per_node
        return None if amount is None else units.parse_memory(str(amount))

    @cached_property
    def memory_key(self) -> str:
        """The key that asks for memory."""
        memory = self.resources.memory
        return memory.option.value if memory else MemoryOption.PER_NODE.value

    @cached_property
    def gpu_key(self) -> str:
        """The key that asks for GPUs."""
        request = self.resources.gpus
        return request.option.value if request else GpuOption.TOTAL.value

    def most_on_a_node(self) -> list[tuple[int, str]]:
        """Return how many tasks a node can hold by each of its limits, and the key that asks for that."""
        per_task, found = self.resources.gpus_per_task or 0, []
        is_per_node = self.resources.gpus and self.resources.gpus.option in (GpuOption.PER_NODE, GpuOption.GRES)
        gpus = None if self.gpus_there is None or is_per_node else sum(each.number for each in self.gpus_there)
        rows = [
            (self.cpus, self.partition.cpus_per_node, "cpus-per-task"),
            (self._mib(1, per_task) if self._memory_grows else 0, self.mib_there, self.memory_key),
            (per_task, gpus, self.gpu_key),
        ]
        for each, there, key in rows:
            if each and there is not None:
                found.append((there // each, key))
        return found

    @property
    def _memory_grows(self) -> bool:
        """Whether a node needs more memory for more tasks."""
        memory = self.resources.memory
        return memory is not None and memory.option is not MemoryOption.PER_NODE


def _refused(job: Job, demand: _Demand, limit: TimeLimit | None) -> Iterator[_Exceeded]:
    """Yield why a partition does not take a role: its limits, then its features, accounts and QOS."""
    name, partition = demand.name, demand.partition
    yield from _exceeded(job.site, demand, limit)
    if partition.features is not None:
        unknown = _unknown_features(demand.resources.constraint, partition.features)
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


def _exceeded(site: sites.Site, demand: _Demand, limit: TimeLimit | None) -> Iterator[_Exceeded]:
    """Yield the limits of a partition that are exceeded."""
    name, partition, there = demand.name, demand.partition, demand.gpus_there
    # key, what is asked, what there is, and its unit
    rows = [
        ("cpus-per-task", demand.cpus * demand.on_a_node, partition.cpus_per_node, "CPUs on a node"),
        (demand.memory_key, demand.mib, demand.mib_there, "MiB of memory on a node"),
        (demand.gpu_key, demand.gpus, None if there is None else sum(each.number for each in there), _GPUS),
    ]
    found = [
        _Exceeded(key, f"{asked} {unit}", _at_most(available, unit, name))
        for key, asked, available, unit in rows
        if available is not None and asked > available
    ]
    yield from found
    if not found:
        yield from _too_many_nodes(demand)
    request = demand.resources.gpus
    if request and there and all(each.type for each in there):
        yield from _exceeded_types(site, demand, request, there)
    longest = None if partition.max_time is None else units.parse_time(str(partition.max_time))
    if longest is not None and limit and (limit.length is None or limit.length > longest):
        needed = f"at most {units.format_time(longest)}, the limit of partition {name!r}"
        yield _Exceeded("time", units.format_time(limit.length), needed)


def _at_most(available: int, unit: str, name: str) -> str:
    if available == 0 and unit == _GPUS:
        return f"none: partition {name!r} has no GPUs"
    return f"at most {available}, the limit of partition {name!r}"


def _too_many_nodes(demand: _Demand) -> Iterator[_Exceeded]:
    """Yield the limit on nodes, if the tasks need more than that, however many of them are on a node."""
    most = demand.partition.max_nodes
    if most is None:
        return
    needed = f"at most {most}, the limit of partition {demand.name!r}"
    if demand.resources.tasks_per_node:
        nodes = -(-demand.tasks // demand.resources.tasks_per_node)
        if nodes > most:
            yield _Exceeded("ntasks-per-node", f"{nodes} nodes", needed)
        return
    fits, key = min(demand.most_on_a_node(), default=(demand.tasks, ""))
    nodes = -(-demand.tasks // fits)
    if nodes > most:
        yield _Exceeded(key, f"{nodes} nodes for {demand.tasks} tasks, {fits} on each", needed)


def _exceeded_types(
    site: sites.Site, demand: _Demand, request: GpuRequest, there: Sequence[Gpus]
) -> Iterator[_Exceeded]:
    """Yield what a partition whose GPUs all have types lacks of the types that are asked for."""
    known = tuple(each._replace(type=gpu_types.as_known(site, each.type)) for each in there)
    types = GpuRequest(GpuOption.PER_NODE, known).by_type
    for each in request.gpus:
        number, asked = each.number, gpu_types.as_known(site, each.type)
        if request.option is GpuOption.PER_TASK:
            number *= demand.on_a_node
        elif request.option is GpuOption.TOTAL:
            number = number * demand.on_a_node // demand.tasks
        if asked and each.number and asked not in types:
            needed = f"of type {' or '.join(each.type for each in there)}, those of partition {demand.name!r}"
            yield _Exceeded(request.option.value, f"GPUs of type {each.type}", needed)
        elif asked and number > types[asked]:
            needed = f"at most {types[asked]}, the limit of partition {demand.name!r}"
            yield _Exceeded(request.option.value, f"{number} {each.type} {_GPUS}", needed)
