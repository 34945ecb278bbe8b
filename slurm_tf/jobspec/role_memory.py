"""The memory that the tasks of each role have, as the launcher passes it on to the programs of an engine."""

from collections.abc import Mapping

from slurm_tf.jobspec.components import Layout, Wanted
from slurm_tf.jobspec.resources import MemoryOption, MemoryRequest, Resources
from slurm_tf.run.settings import RoleMemory


def of_roles(wanted: Wanted, layout: Layout) -> Mapping[str, RoleMemory | None]:
    """Return the memory of each role; None where it is all that a node has, or the job does not say it."""
    found: dict[str, RoleMemory | None] = {}
    for number, step in enumerate(layout.steps):
        together = None if layout.sharing else layout.components[number].resources
        for name in step.roles:
            of_role = wanted.resources[name]
            # roles in one step have one --mem on each node
            found[name] = _of(together, step.roles) if together else _of(of_role, (name,))
    return found


def _of(resources: Resources, roles: tuple[str, ...]) -> RoleMemory | None:
    request = resources.memory
    if request is None or not request.mib:
        return None
    if request.option is MemoryOption.PER_NODE:
        return RoleMemory(request.mib, roles)
    return _of_task(request, resources)


def _of_task(request: MemoryRequest, resources: Resources) -> RoleMemory | None:
    """Return the memory of one task of a role that has some for each CPU or GPU."""
    per_task = resources.cpus_per_task or 1
    if request.option is MemoryOption.PER_GPU:
        per_task = resources.gpus_per_task or 0
    return RoleMemory(request.mib * per_task) if per_task else None
