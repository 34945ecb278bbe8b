"""What a component holds while it runs, as far as it is what it asks for."""

from slurm_tf.jobspec.resources import GpuOption, GpuRequest, MemoryOption, Resources
from slurm_tf.slurm.billing import Amounts


def held(need: Resources, tasks: int, is_exact: bool) -> Amounts:
    """Return what a component holds, as far as it is what it asks for."""
    cpus = tasks * (need.cpus_per_task or 1) if is_exact else None
    nodes, request = need.nodes(tasks), need.gpus or need.node_gpus
    whole = _of_all(request, tasks, nodes) if request else None
    gpus = whole.number if whole else None
    if request is None:
        gpus = 0
    types = {name: number for name, number in whole.by_type.items() if name} if whole else {}
    return Amounts(cpus, _mib(need, cpus, nodes, gpus), nodes, gpus, types)


def _of_all(request: GpuRequest, tasks: int, nodes: int | None) -> GpuRequest | None:
    """Return the GPUs of a request in all, None where the number of nodes decides it and is not known."""
    if request.option is GpuOption.TOTAL:
        return request
    times = tasks if request.option is GpuOption.PER_TASK else nodes
    return None if times is None else request.scaled(times)


def _mib(need: Resources, cpus: int | None, nodes: int | None, gpus: int | None) -> int | None:
    """Return the memory in all; None where the site's default holds, or all memory of the nodes is asked for."""
    if need.memory is None or not need.memory.mib:
        return None
    times = {MemoryOption.PER_NODE: nodes, MemoryOption.PER_CPU: cpus, MemoryOption.PER_GPU: gpus}[need.memory.option]
    return None if times is None else need.memory.mib * times
