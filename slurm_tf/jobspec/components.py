"""What a job asks Slurm for, and the steps that it starts on that: which roles are together, and which are apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import component_amounts, containers, directives, limits, node_sharing
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.directives import Option
from slurm_tf.jobspec.job_file import Role
from slurm_tf.jobspec.node_sharing import Sharing
from slurm_tf.jobspec.resources import MemoryOption, MemoryRequest, Resources, TimeLimit
from slurm_tf.jobspec.sbatch_table import NOT_OF_COMPONENTS
from slurm_tf.run.container_settings import ContainerSettings
from slurm_tf.slurm.billing import Amounts
from slurm_tf.slurm.node_sizes import PartitionNodes

# With these a job gets more than its tasks times what each asks for: whole nodes or cores, of a size not known here.
_MORE_THAN_ASKED = frozenset({
    "core-spec", "cpus-per-gpu", "exclusive", "gpus-per-socket", "hint", "mincpus", "ntasks-per-core", "thread-spec",
    "threads-per-core", "tres-per-task",
})  # fmt: skip

# Returns what is known of the nodes of a partition.
NodesOf = Callable[[str], PartitionNodes]


@dataclass(frozen=True, slots=True)
class Component:
    """One component of the job: what it is given, and the options that say so, in their order.

    `amounts`: what the component holds while it runs; None there is unknown. `is_exact`: no option gives it more than
    it asks for, such as whole nodes or cores.
    """

    resources: Resources | None
    amounts: Amounts
    is_exact: bool
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The tasks of some roles, which one srun starts, or one component of it; in rank order from `first_rank` on.

    `inside`: the runtime in whose container the agents run; "" for the agents of a step on the nodes themselves.
    """

    roles: tuple[str, ...]
    first_rank: int
    srun: tuple[Option, ...]
    inside: str = ""

    @property
    def name(self) -> str:
        """The roles, as the agents of the step are told."""
        return ",".join(self.roles)


@dataclass(frozen=True, slots=True)
class Layout:
    """The components of a job and the steps on them.

    One component: one step for all roles, or, where `sharing` says how roles with different needs share its nodes, one
    for each role, whose srun has the options `srun` as well. Several components, a heterogeneous job: a step on each;
    `apart` says why they cannot share nodes.
    """

    components: tuple[Component, ...]
    steps: tuple[Step, ...]
    srun: tuple[Option, ...] = ()
    sharing: Sharing | None = None
    apart: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles, in rank order."""
        return tuple(name for step in self.steps for name in step.roles)


@dataclass(frozen=True)
class Wanted:
    """What the job file asks for: `roles` in rank order, the `resources` of each, and the job's time limit.

    `nodes_of` is asked once, where roles with different needs may share nodes.
    """

    job: Job
    roles: Mapping[str, Role]
    resources: Mapping[str, Resources]
    limit: TimeLimit | None
    nodes_of: NodesOf

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of tasks of each role."""
        return {name: role.count for name, role in self.roles.items()}

    @cached_property
    def nodes(self) -> PartitionNodes:
        """What is known of the nodes that the roles share; nothing of those of another cluster."""
        if self.job.spec.sbatch.get("clusters"):
            return PartitionNodes()
        first = next(iter(self.resources.values()))
        found = self.nodes_of(first.partition)
        return found if found.sizes else replace(found, sizes=limits.node_sizes(self.job, first))

    @property
    def with_memory(self) -> Mapping[str, Resources]:
        """The resources, where some roles state their memory with what Slurm gives the others, as far as it is known.

        Slurm gives no more to a job that states some: what all hold has to be said.
        """
        stated = [each.memory is not None for each in self.resources.values()]
        if all(stated) or not any(stated) or self.nodes.memory_per_cpu is None:
            return self.resources
        memory = MemoryRequest(MemoryOption.PER_CPU, self.nodes.memory_per_cpu)
        return {name: each if each.memory else replace(each, memory=memory) for name, each in self.resources.items()}

    @property
    def are_equal(self) -> bool:
        """Whether all roles ask for the same, and one srun can enter the container of all."""
        return len({self.comparable(name) for name in self.roles}) == 1

    def comparable(self, name: str) -> tuple[Resources, ContainerSettings | None]:
        """Return what roles of one step have in common: what they ask for, and the container that srun enters."""
        container = containers.resolve(self.job, name, self.roles[name])
        return self.resources[name].comparable, None if container is None or container.runtime.wraps else container


def why_apart(wanted: Wanted) -> str:
    """Return why roles cannot share nodes, so that the job is heterogeneous; "" where it has one component."""
    if wanted.job.site.scheduler == "local" or wanted.are_equal:
        return ""
    return node_sharing.obstacle(wanted.job, wanted.with_memory)


def lay_out(wanted: Wanted, apart: str, once: tuple[Option, ...]) -> Layout:
    """Return the components and steps of a job.

    `apart`: what `why_apart` says; `once`: options that are written once. Raises ConfigError.
    """
    job, names = wanted.job, tuple(wanted.roles)
    if job.site.scheduler == "local":
        only = Component(None, Amounts(None, None, None, None), False, ())
        return Layout((only,), (Step(names, 0, ()),))
    if wanted.are_equal:
        need, tasks = _joined(wanted, names)
        _check_together(wanted, names, need, tasks)
        return Layout((_component(wanted, need, tasks, once),), (Step(names, 0, directives.of_srun(job, need)),))
    return _heterogeneous(wanted, once, apart) if apart else _shared(wanted, once)


def _shared(wanted: Wanted, once: tuple[Option, ...]) -> Layout:
    """Return one component whose nodes hold all roles, and a step for each of them."""
    job = wanted.job
    how = node_sharing.fit(job, wanted.counts, wanted.with_memory, wanted.nodes.sizes)
    steps, rank = [], 0
    for name, count in wanted.counts.items():
        options = directives.of_shared_srun(job, wanted.resources[name], count, how.places[name])
        steps.append(Step((name,), rank, options))
        rank += count
    _check_together(wanted, tuple(wanted.roles), how.needed, how.nodes)
    component = _component(wanted, how.needed, how.nodes, once)
    return Layout((component,), tuple(steps), (*directives.of_any_srun(job), ("exact", None)), how)


def _heterogeneous(wanted: Wanted, once: tuple[Option, ...], apart: str) -> Layout:
    """Return a component for each different need, of which the first has the options that are written once."""
    job = wanted.job
    for name in NOT_OF_COMPONENTS:
        if job.spec.sbatch.get(name):
            found = f"found {name}, and roles that are components with nodes of their own ({apart})"
            needed, hint = "roles that can share nodes", "exclude says which nodes the job does not get"
            raise ConfigError(found, needed, hint, job.where(f"sbatch.{name}"))
    # sbatch makes --mem of a component the next one's too, and refuses another kind of memory there (22.05.8)
    names = sorted(wanted.roles, key=lambda name: _is_per_node(wanted.resources[name]))
    groups: dict[tuple[Resources, ContainerSettings | None], tuple[str, ...]] = {}
    for name in names:
        key = wanted.comparable(name)
        groups[key] = (*groups.get(key, ()), name)
    components: list[Component] = []
    steps, rank = [], 0
    gpus = any(each.gpus for each in wanted.resources.values())
    for group in groups.values():
        need, tasks = _joined(wanted, group)
        if len(group) > 1 and need.tasks_per_node is None:  # their tasks may be on one node
            only_one = tasks == len(group)
            need = replace(need.on_each_node(len(group)), tasks_per_node=tasks if only_one else None)
        _check_together(wanted, group, need, tasks)
        components.append(_component(wanted, need, tasks, () if components else once, gpus))
        steps.append(Step(group, rank, directives.of_srun(job, need)))
        rank += tasks
    return Layout(tuple(components), tuple(steps), apart=apart)


def _check_together(wanted: Wanted, names: Sequence[str], need: Resources, tasks: int) -> None:
    """Raise ConfigError if a partition cannot give what several roles need on the same nodes."""
    if len(names) > 1:  # what one needs was checked before
        limits.check(wanted.job, names, need, tasks, wanted.limit)


def _joined(wanted: Wanted, names: Sequence[str]) -> tuple[Resources, int]:
    """Return the resources of one component for roles that ask for the same, and the number of its tasks."""
    first, *others = [wanted.resources[name] for name in names]
    return first.joined(others), sum(wanted.roles[name].count for name in names)


def _component(
    wanted: Wanted, need: Resources, tasks: int, once: tuple[Option, ...], gpus_elsewhere: bool = False
) -> Component:
    options = (*once, *directives.of_component(wanted.job, need, tasks, wanted.limit, bool(once), gpus_elsewhere))
    is_exact = not _MORE_THAN_ASKED & {name for name, _ in options}
    return Component(need, component_amounts.held(need, tasks, is_exact), is_exact, options)


def _is_per_node(need: Resources) -> bool:
    return need.memory is not None and need.memory.option is MemoryOption.PER_NODE
