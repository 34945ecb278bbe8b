"""Fits roles with different needs onto the nodes of one plain job: where each runs, and what each node has to hold.

Slurm has no way to say "these tasks, and those beside them": --mem, --gres and --cpus-per-task are the same on every
node. So the job asks for nodes that can each hold the largest share of any, and every role is a step on its part of
them. It is one srun a role: the components of one srun may not share a node ("Allocation failure of 1 nodes: job size
of 1, already allocated 1 nodes to previous components", 22.05.8; _handle_het_step_exclude in srun_job.c), but steps of
their own may, each with --exact, its own --mem and --gres: all start at once, and none sees the GPUs of another.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from slurm_tf.errors import HostlistError
from slurm_tf.jobspec import component_amounts
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.resources import GpuOption, GpuRequest, MemoryOption, MemoryRequest, Resources
from slurm_tf.slurm import hostlist
from slurm_tf.slurm.billing import Amounts
from slurm_tf.slurm.node_sizes import NodeSize
from slurm_tf.units import Gpus

# Options of [sbatch] that ask for something by component, task or GPU: it cannot be told whose it would be.
_OF_A_ROLE = ("cpus-per-gpu", "gres", "ntasks-per-core", "ntasks-per-socket", "tres-per-task")
_FEATURE = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Share:
    """What one role, or several, hold on one node; memory in MiB, None for the site's default, GPUs by type."""

    cpus: int
    mib: int | None
    gpus: Mapping[str, int]

    def joined(self, other: "Share") -> "Share":
        """Return what both hold; 0 MiB stays all memory of the node."""
        mib = None if self.mib is None or other.mib is None else self.mib and other.mib and self.mib + other.mib
        types = [*dict.fromkeys((*self.gpus, *other.gpus))]
        return Share(
            self.cpus + other.cpus, mib, {each: self.gpus.get(each, 0) + other.gpus.get(each, 0) for each in types}
        )

    def at_least(self, other: "Share") -> "Share":
        """Return what is enough for either; 0 MiB stays all memory of the node."""
        mib = None if self.mib is None or other.mib is None else self.mib and other.mib and max(self.mib, other.mib)
        types = [*dict.fromkeys((*self.gpus, *other.gpus))]
        return Share(
            max(self.cpus, other.cpus),
            mib,
            {each: max(self.gpus.get(each, 0), other.gpus.get(each, 0)) for each in types},
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The nodes of one role's step: `nodes` from the `first` of the job on, each with `tasks_per_node` at most.

    `share`: what the role holds on each of them.
    """

    first: int
    nodes: int
    tasks_per_node: int
    share: Share


@dataclass(frozen=True, slots=True)
class Sharing:
    """Where each role runs, and what the job asks for on each of its `nodes`.

    `surplus`: what all of them hold above the sum of what the roles ask for; None is unknown.
    """

    nodes: int
    places: Mapping[str, Place]
    needed: Resources
    surplus: Amounts


def obstacle(job: Job, requested: Mapping[str, Resources]) -> str:
    """Return why these roles cannot share nodes, in words; "" if they can."""
    needs = list(requested.values())
    if len({each.partition for each in needs}) > 1:
        return "their partitions differ"
    if len({each.constraint for each in needs}) > 1:
        return "their constraints differ"
    if len({each.memory is None for each in needs}) > 1:
        without = ", ".join(name for name, each in requested.items() if each.memory is None)
        return f"only some of them say how much memory they need: {without} does not"
    if any(each.gpus and each.gpus.option is GpuOption.TOTAL and each.gpus_per_task is None for each in needs):
        return "gpus of a role is no multiple of its count"
    if sum(each.node_gpus is not None for each in needs) > 1:
        return "several of them need GPUs, which Slurm does not know of here"
    types = {bool(gpus.type) for each in needs if each.gpus for gpus in each.gpus.gpus}
    if len(types) > 1:
        return "only some of them say which type of GPUs they need"
    if any(each.memory and each.memory.option is MemoryOption.PER_GPU and not each.gpus for each in needs):
        return "mem-per-gpu of a role without GPUs"
    own = [name for name in _OF_A_ROLE if job.spec.sbatch.get(name)]
    return f"[sbatch] has {', '.join(own)}, which each role gets" if own else ""


def fit(job: Job, counts: Mapping[str, int], requested: Mapping[str, Resources], sizes: Sequence[NodeSize]) -> Sharing:
    """Return the smallest number of nodes that hold these roles, and where each runs.

    `counts`: tasks of each role; `sizes`: the nodes of the partition, empty where they are not known.
    """
    constraint = next(iter(requested.values())).constraint
    if _FEATURE.fullmatch(constraint):  # else it is an expression
        sizes = [size for size in sizes if constraint in size.features]
    threads = max((size.threads_per_core for size in sizes), default=1)
    stated = max(_listed(job), *(each.nodes(counts[name]) or 1 for name, each in requested.items()))
    cpus = sum(count * (requested[name].cpus_per_task or 1) for name, count in counts.items())
    least = max(stated, -(-cpus // max((size.cpus for size in sizes), default=cpus)))
    for nodes in range(least, max(least, sum(counts.values())) + 1):
        places, largest = _places(counts, requested, nodes, threads)
        if not sizes or sum(size.nodes for size in sizes if _holds(size, largest)) >= nodes:
            break
    else:  # no node is large enough for one of the tasks: sbatch says so
        nodes = stated
        places, largest = _places(counts, requested, nodes, threads)
    needed = _as_asked(job, requested, largest)
    surplus = _surplus(counts, requested, places, component_amounts.held(needed, nodes, True))
    return Sharing(nodes, places, needed, surplus)


def _listed(job: Job) -> int:
    """Return the number of nodes in the job's nodelist: sbatch gives it all of them, or says that it is no list."""
    try:
        return len(hostlist.expand(str(job.spec.sbatch.get("nodelist", ""))))
    except HostlistError:
        return 0


def _places(
    counts: Mapping[str, int], requested: Mapping[str, Resources], nodes: int, threads: int
) -> tuple[Mapping[str, Place], Share]:
    """Place the roles on so many nodes, those on the most nodes first; return the largest share of a node as well."""
    spans: dict[str, Place] = {}
    for name, need in requested.items():
        tasks = min(counts[name], need.tasks_per_node or -(-counts[name] // nodes))
        spans[name] = Place(0, -(-counts[name] // tasks), tasks, _share(need, tasks, threads))
    held: list[Share | None] = [None] * nodes
    for name in sorted(spans, key=lambda name: (-spans[name].nodes, -spans[name].share.cpus)):
        place = spans[name] = _at_the_emptiest(held, spans[name])
        for node in range(place.first, place.first + place.nodes):
            held[node] = _both(held[node], place.share)
    return spans, reduce(Share.at_least, [share for share in held if share])


def _at_the_emptiest(held: Sequence[Share | None], place: Place) -> Place:
    """Return the place where the fullest of its nodes holds least; several nodes are the first or the last ones."""

    def fullest(first: int) -> tuple[int, int, int]:
        return max(_fullness(_both(each, place.share)) for each in held[first : first + place.nodes])

    last = len(held) - place.nodes
    return replace(place, first=min(range(last + 1) if place.nodes == 1 else (0, last), key=fullest))


def _both(held: Share | None, share: Share) -> Share:
    return held.joined(share) if held else share


def _fullness(share: Share) -> tuple[int, int, int]:
    return sum(share.gpus.values()), share.cpus, share.mib or 0


def _surplus(
    counts: Mapping[str, int], requested: Mapping[str, Resources], places: Mapping[str, Place], needed: Amounts
) -> Amounts:
    """Return what is `needed` above the sum of what the roles ask for."""
    of_roles = [
        component_amounts.held(replace(need, tasks_per_node=places[name].tasks_per_node), counts[name], True)
        for name, need in requested.items()
    ]
    return Amounts(
        _above(needed.cpus, [each.cpus for each in of_roles]),
        _above(needed.memory, [each.memory for each in of_roles]),
        None,
        _above(needed.gpus, [each.gpus for each in of_roles]),
    )


def _above(needed: int | None, of_roles: Sequence[int | None]) -> int | None:
    known = [each for each in of_roles if each is not None]
    return None if needed is None or len(known) < len(of_roles) else needed - sum(known)


def _share(need: Resources, tasks: int, threads: int) -> Share:
    """Return what `tasks` tasks of a role hold on one node."""
    per_task = need.cpus_per_task or 1
    # a step gets whole cores (--exact, 22.05.8): tasks of one CPU share them, others have their own
    cpus = _whole(tasks, threads) if per_task == 1 else tasks * _whole(per_task, threads)
    gpus: Mapping[str, int] = _on_a_node(need.gpus, need.gpus_per_task, tasks).by_type if need.gpus else {}
    return Share(cpus, _mib(need.memory, tasks * per_task, sum(gpus.values())), gpus)


def _whole(cpus: int, threads: int) -> int:
    return -(-cpus // threads) * threads


def _on_a_node(request: GpuRequest, gpus_per_task: int | None, tasks: int) -> GpuRequest:
    """Return the GPUs of so many tasks of a role on one node; a total divides by the role's tasks."""
    if request.option in (GpuOption.PER_NODE, GpuOption.GRES):
        return request
    if request.option is GpuOption.PER_TASK:
        return request.scaled(tasks) or request
    return request.scaled(tasks * (gpus_per_task or 0), request.number) or request


def _mib(memory: MemoryRequest | None, cpus: int, gpus: int) -> int | None:
    if memory is None:
        return None
    return (
        memory.mib * {MemoryOption.PER_NODE: 1, MemoryOption.PER_CPU: cpus, MemoryOption.PER_GPU: gpus}[memory.option]
    )


def _holds(size: NodeSize, share: Share) -> bool:
    return size.cpus >= share.cpus and size.memory >= (share.mib or 0) and size.gpus >= sum(share.gpus.values())


def _as_asked(job: Job, requested: Mapping[str, Resources], share: Share) -> Resources:
    """Return what one node holds as the resources of one task on it, in options that the site accepts."""
    first = next(iter(requested.values()))
    options = {each.gpus.option for each in requested.values() if each.gpus}
    option = GpuOption.GRES if GpuOption.GRES in options else GpuOption.PER_NODE
    if job.site.gpu_spelling == GpuOption.PER_TASK.value:
        option = GpuOption.PER_TASK
    gpus = tuple(Gpus(number, name) for name, number in share.gpus.items() if number)
    memory = None if share.mib is None else MemoryRequest(MemoryOption.PER_NODE, share.mib)
    if memory and job.site.mem_spelling == MemoryOption.PER_CPU.value:
        memory = MemoryRequest(MemoryOption.PER_CPU, -(-memory.mib // share.cpus))
    return Resources(
        partition=first.partition,
        constraint=first.constraint,
        cpus_per_task=share.cpus,
        tasks_per_node=1,
        memory=memory,
        gpus=GpuRequest(option, gpus) if gpus else None,
        gpus_per_task=None if gpus else 0,
        node_gpus=next((each.node_gpus for each in requested.values() if each.node_gpus), None),
    )
