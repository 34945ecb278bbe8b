"""Divides the GPUs of each node among the tasks that need some."""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.errors import TopologyError
from slurm_tf.launch.transport.messages import Report


def assign(reports: Sequence[Report], wanted: Sequence[Optional[int]], sharing: str) -> List[Optional[Tuple[str, ...]]]:
    """Return the devices that each task is to see, None for those that keep what Slurm gave; () for none.

    `wanted`: how many each task needs, None for a share. `sharing`: see cluster.form. Raises TopologyError.
    """
    given: List[Optional[Tuple[str, ...]]] = [()] * len(reports)
    groups: Dict[Tuple[str, str], List[int]] = {}
    for position, (report, number) in enumerate(zip(reports, wanted)):
        if number != 0:
            # two components of a heterogeneous job on one node have devices of their own
            groups.setdefault((report.node, report.role), []).append(position)
    for (node, _), positions in groups.items():
        numbers = {position: wanted[position] for position in positions}
        slices = _divide(node, {position: reports[position] for position in positions}, numbers, sharing)
        for position in positions:
            given[position] = slices[position]
    return given


def _divide(
    node: str, reports: Mapping[int, Report], wanted: Mapping[int, Optional[int]], sharing: str
) -> Mapping[int, Optional[Tuple[str, ...]]]:
    """Return the devices of each GPU task of one node: None for those that keep what they see."""
    for position, report in reports.items():
        if len(report.gpus) < (wanted[position] or 1):
            raise TopologyError(
                f"rank {report.rank} on {node} sees {len(report.gpus)} GPUs",
                f"{wanted[position] or 'at least 1'}, as its role asked for",
                "ask Slurm for them (gpus-per-task, gpus-per-node) or set gpus-per-task = 0 for the role",
            )
    own = len(reports) > 1 and _are_disjoint(list(reports.values()))
    if sharing == "all" or own or all(report.gpus_bound for report in reports.values()):
        return dict.fromkeys(reports)
    names = next(iter(reports.values())).gpus
    if any(report.gpus != names for report in reports.values()):
        raise TopologyError(f"the tasks on {node} see overlapping sets of GPUs", "all of them, or each its own")
    sizes = _slice_sizes(node, len(names), [wanted[position] for position in reports])
    slices, start = {}, 0
    for position, size in zip(reports, sizes):
        slices[position] = names[start : start + size]
        start += size
    return slices


def _are_disjoint(reports: Sequence[Report]) -> bool:
    names = [name for report in reports for name in report.gpus]
    return len(set(names)) == len(names)


def _slice_sizes(node: str, available: int, wanted: Sequence[Optional[int]]) -> List[int]:
    """Return a number for each task: what its role asked for, else an equal share, the first ones one more."""
    known = [number for number in wanted if number is not None]
    rest, open_tasks = available - sum(known), len(wanted) - len(known)
    if rest < open_tasks:
        raise TopologyError(
            f"{len(wanted)} GPU tasks on {node} share {available} GPUs",
            f"{sum(known) + open_tasks} GPUs for them on that node",
            'ask for more GPUs, for fewer tasks a node, or set gpu-sharing = "all" if the program divides them itself',
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
