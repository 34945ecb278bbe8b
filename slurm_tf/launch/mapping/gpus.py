"""Divides the GPUs of each node among the tasks that need some, and refuses bindings that give two tasks the same ones.

What counts is how many devices each task sees: where Slurm confines tasks to their devices (ConstrainDevices), every
task calls its first one 0 (22.05.8).
"""

from dataclasses import replace
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.errors import TopologyError
from slurm_tf.launch.transport.messages import Report

# The devices that a task is to see; None leaves it what it sees.
Devices = Optional[Tuple[str, ...]]

# How many ranks or nodes a message lists at most.
_NAMED = 20
_SHARE_HINT = 'gpu-sharing = "all" if the program divides them itself'


def by_index(report: Report, node_gpus: int) -> Report:
    """Return the report of a task that Slurm gave no devices, with all `node_gpus` devices of its node, by index."""
    if report.gpus or not node_gpus:
        return report
    return replace(report, gpus=tuple(map(str, range(node_gpus))), gpus_on_node=node_gpus)


def assign(
    reports: Sequence[Report], wanted: Sequence[Optional[int]], pools: Sequence[str], sharing: str
) -> List[Devices]:
    """Return the devices that each task is to see, () for none.

    `wanted`: how many each task needs, None for a share. `pools`: tasks of one node divide its GPUs if they have the
    same one. `sharing`: see cluster.form. Raises TopologyError.
    """
    given: List[Devices] = [()] * len(reports)
    groups: Dict[Tuple[str, str], List[int]] = {}
    for position, (report, pool) in enumerate(zip(reports, pools)):
        if wanted[position] != 0:
            groups.setdefault((report.node, pool), []).append(position)
    for (node, _), positions in groups.items():
        tasks, numbers = [reports[position] for position in positions], [wanted[position] for position in positions]
        for position, devices in zip(positions, _divide(node, tasks, numbers, sharing)):
            given[position] = devices
    return given


def unused(reports: Sequence[Report], given: Sequence[Devices], pools: Sequence[str], held: Mapping[str, int]) -> str:
    """Return a line that says where the job has more GPUs than its tasks were given, "" if it has not.

    `pools`: as for `assign`. `held`: how many it has on a node, as far as its batch script knows; the tasks know what
    their step has.
    """
    groups: Dict[Tuple[str, str], List[int]] = {}
    for position, (report, pool) in enumerate(zip(reports, pools)):
        groups.setdefault((report.node, pool), []).append(position)
    of_step: Dict[str, int] = {}
    used: Dict[str, int] = {}
    for (node, _), positions in groups.items():
        tasks = [reports[position] for position in positions]
        of_step[node] = of_step.get(node, 0) + max(task.gpus_on_node or 0 for task in tasks)
        used[node] = used.get(node, 0) + _used(tasks, [given[position] for position in positions])
    nodes: Dict[Tuple[int, int], List[str]] = {}
    for node, number in used.items():
        nodes.setdefault((max(of_step[node], held.get(node, 0)), number), []).append(node)
    texts = [
        f"{has} GPUs on {_listed(names, ', ')} and its tasks use {few}"
        for (has, few), names in nodes.items()
        if has > few
    ]
    if not texts:
        return ""
    return (
        f"warning: of the job's GPUs, all of which are paid for, some are not used: it has {'; '.join(texts)}; ask for "
        "as many as the tasks use (gpus-per-task, gpus-per-node), or start more tasks (count, ntasks-per-node)"
    )


def _used(tasks: Sequence[Report], given: Sequence[Devices]) -> int:
    """Return how many devices the tasks of one pool on one node see together."""
    sliced = sum(len(devices) for devices in given if devices is not None)
    kept = [task for task, devices in zip(tasks, given) if devices is None]
    if all(task.gpus_bound for task in kept):
        return sliced + sum(len(_seen(task)) for task in kept)
    if any(task.gpus is None for task in kept):  # gpu-bind = none: the step's devices, and no variable
        return sliced + max(task.gpus_on_node or 0 for task in kept)
    return sliced + len({name for task in kept for name in _seen(task)})


def _divide(node: str, tasks: Sequence[Report], wanted: Sequence[Optional[int]], sharing: str) -> List[Devices]:
    """Return the devices of each GPU task of one node: None for those that keep what they see."""
    for task, number in zip(tasks, wanted):
        _check_number(task, number, sharing)
    if sharing == "all":
        return [None] * len(tasks)
    if len(tasks) > 1 and (_are_disjoint(map(_seen, tasks)) or all(task.gpus_bound for task in tasks)):
        _check_own(node, tasks, wanted)
        return [None] * len(tasks)
    names = _seen(tasks[0])
    if any(task.gpus != names for task in tasks):
        found = f"the tasks on {node} see overlapping sets of GPUs: {_who_sees_what(tasks)}"
        raise TopologyError(found, "all of them, or each its own", _binding_hint(tasks))
    slices: List[Devices] = []
    start = 0
    for size in _slice_sizes(node, len(names), wanted):
        slices.append(names[start : start + size])
        start += size
    return slices


def _check_number(task: Report, wanted: Optional[int], sharing: str) -> None:
    """Raise TopologyError if a task sees fewer devices than its role asked for."""
    seen, needed = len(_seen(task)), wanted or 1
    if sharing == "all" and task.gpus is None and task.gpus_on_node:
        seen = task.gpus_on_node
    if seen >= needed:
        return
    do = "ask Slurm for them (gpus-per-task, gpus-per-node) or set gpus-per-task = 0 for the role"
    raise TopologyError(
        f"rank {task.rank} on {task.node} sees {seen} GPUs" + _bound_by([task]),
        f"{wanted or 'at least 1'}, as its role asked for",
        _binding_hint([task]) if task.gpu_binding else do,
    )


def _check_own(node: str, tasks: Sequence[Report], wanted: Sequence[Optional[int]]) -> None:
    """Raise TopologyError if tasks that keep what they see have the same devices, or one has more than its share."""
    on_node = max(task.gpus_on_node or 0 for task in tasks)
    seen = sum(len(_seen(task)) for task in tasks)
    share = -(-on_node // len(tasks))
    too_many = [
        task
        for task, number in zip(tasks, wanted)
        if on_node and len(_seen(task)) > (share if number is None else number)
    ]
    places = [task.gpu_places for task in tasks]
    if on_node and seen > on_node:
        found = f"{len(tasks)} tasks on {node} see {seen} GPUs in all, and the job has {on_node} there"
    elif all(places) and not _are_disjoint(places):
        found = f"{len(tasks)} tasks on {node} are bound to the same GPUs"
    elif too_many:
        found = f"rank {too_many[0].rank} on {node} sees more GPUs than its share of the {on_node} there"
    else:
        return
    found += f": {_who_sees_what(tasks)}{_bound_by(tasks)}"
    raise TopologyError(found, "GPUs of its own for each task", _binding_hint(tasks))


def _binding_hint(tasks: Sequence[Report]) -> str:
    sizes = [len(_seen(task)) for task in tasks]
    on_node = max([sum(sizes) // len(sizes), *(task.gpus_on_node or 0 for task in tasks)])
    number = max(1, on_node // len(tasks))
    return (
        f"ask for gpus-per-task = {number}, and leave out gpu-bind (SBATCH_GPU_BIND, SLURM_GPU_BIND), or set "
        f"{_SHARE_HINT}"
    )


def _bound_by(tasks: Sequence[Report]) -> str:
    binding = next((task.gpu_binding for task in tasks if task.gpu_binding), "")
    return f" (bound by {binding})" if binding else ""


def _who_sees_what(tasks: Sequence[Report]) -> str:
    return _listed([f"rank {task.rank} sees {','.join(_seen(task)) or 'none'}" for task in tasks], "; ")


def _listed(texts: Sequence[str], separator: str) -> str:
    return separator.join([*texts[:_NAMED], *["..."] * (len(texts) > _NAMED)])


def _seen(task: Report) -> Tuple[str, ...]:
    return task.gpus or ()


def _are_disjoint(sets: Iterable[Sequence[object]]) -> bool:
    members = [member for each in sets for member in each]
    return len(set(members)) == len(members)


def _slice_sizes(node: str, available: int, wanted: Sequence[Optional[int]]) -> List[int]:
    """Return a number for each task: what its role asked for, else an equal share, the first ones one more."""
    known = [number for number in wanted if number is not None]
    rest, open_tasks = available - sum(known), len(wanted) - len(known)
    if rest < open_tasks:
        raise TopologyError(
            f"{len(wanted)} GPU tasks on {node} share {available} GPUs",
            f"{sum(known) + open_tasks} GPUs for them on that node",
            f"ask for more GPUs, for fewer tasks a node, or set {_SHARE_HINT}",
        )
    share, more = divmod(rest, open_tasks) if open_tasks else (0, 0)
    sizes, seen = [], 0
    for number in wanted:
        if number is None:
            sizes.append(share + (seen < more))
            seen += 1
        else:
            sizes.append(number)
    return sizes
