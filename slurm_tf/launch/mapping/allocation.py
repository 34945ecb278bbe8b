"""Reads what Slurm set in one task's environment: its rank, node and devices."""

import os
import re
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

from slurm_tf.errors import AllocationError
from slurm_tf.run import env
from slurm_tf.slurm import hostlist

# How Slurm bound tasks to devices: SLURMD_TRES_BIND=gpu:per_task:1 or gpu:mask_gpu:0x3,0xc (22.05.8); not set on a node
# with one task.
_BINDINGS = ("SLURMD_TRES_BIND", "SLURM_TRES_BIND")
_BOUND = re.compile(r"gpu:(?:verbose,)?(?P<kind>per_task|single|map|mask)(?:_gpu)?(?::(?P<list>[^;]*))?")
# An element of a map or mask: a number, and how many tasks in a row it is for.
_ELEMENT = re.compile(r"(?P<number>0[xX][0-9a-fA-F]+|\d+)(?:\*(?P<times>\d+))?", re.ASCII)


# What each task has of its own, beside SLURM_TRES_BIND, which srun takes for an option. Slurm 22.05 sets none of these
# in an OCI container (srun --container), where the batch script's own, if srun passed them on, would be the task's.
OF_TASK = (
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_TASK_PID", "SLURMD_NODENAME",
    "SLURM_GPUS_ON_NODE", "SLURMD_TRES_BIND", *env.DEVICE_VARIABLES,
)  # fmt: skip

# slurm/slurm.h, SLURM_INTERACTIVE_STEP and its like: "steps" of one shell, with the job's SLURM_NTASKS (22.05.8).
_FIRST_SPECIAL_STEP = 0xFFFFFFFA


@dataclass(frozen=True)
class Allocation:
    """One task of a step. `gpus`: device names it was given, in Slurm's order; None where Slurm set no variable.

    They name devices on its node only: `gpus_bound` if they were given to this task rather than to all of its node, so
    that equal names may be different devices. `gpu_places`: which of its node's they are, where the binding says so.
    `gpus_on_node`: how many the step has on this node, None if Slurm does not say. `gpu_binding`: how Slurm bound them,
    in its words.
    """

    rank: int
    tasks: int
    local_rank: int
    node: str
    gpus: Optional[Tuple[str, ...]]
    gpus_bound: bool
    gpu_places: Tuple[int, ...]
    gpus_on_node: Optional[int]
    gpu_binding: str
    job: str
    step: str
    restarts: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Allocation":
        """Return the allocation of the task whose environment this is.

        Raises AllocationError outside of a step: a batch script with a TaskProlog has SLURM_PROCID=0 as well, but no
        SLURM_STEP_ID; the shell of salloc's interactive step has both (22.05.8).
        """
        outside = "SLURM_STEP_ID" not in environ or "SLURM_PROCID" not in environ
        if outside or _number(environ, "SLURM_STEP_ID") >= _FIRST_SPECIAL_STEP:
            why = "SLURM_STEP_ID and SLURM_PROCID are not both set" if outside else "it is the shell of the allocation"
            raise AllocationError(
                f"this process is no task of a Slurm step ({why})",
                "to be started by srun",
                "put srun in front of the command; a batch script's own shell runs once, on the first node only",
            )
        gpus, local_rank = _device_names(environ), _number(environ, "SLURM_LOCALID")
        on_node = _number(environ, "SLURM_GPUS_ON_NODE", 0) or None
        binding = next((environ[name] for name in _BINDINGS if environ.get(name)), "")
        return cls(
            rank=_number(environ, "SLURM_PROCID"),
            tasks=_number(environ, "SLURM_NTASKS"),
            local_rank=local_rank,
            node=environ.get("SLURMD_NODENAME") or os.uname().nodename,
            gpus=gpus,
            gpus_bound=_are_bound(environ, len(gpus or ()), on_node, binding),
            gpu_places=_places(binding, local_rank),
            gpus_on_node=on_node,
            gpu_binding=binding,
            job=environ.get("SLURM_JOB_ID", ""),
            step=environ["SLURM_STEP_ID"],
            restarts=_number(environ, "SLURM_RESTART_COUNT", 0),
        )


def expected_nodes(environ: Mapping[str, str]) -> Dict[str, int]:
    """Return how many tasks each node of the job is to run, in Slurm's order; empty where Slurm does not say.

    Of use to say which node a missing task may be on, never to say which: ranks follow the distribution. Reads the
    batch script's variables, of every component of a heterogeneous job.
    """
    groups = int(environ.get("SLURM_HET_SIZE") or 0)
    suffixes = [f"_HET_GROUP_{group}" for group in range(groups)] or [""]
    expected: Dict[str, int] = {}
    for suffix in suffixes:
        nodes = hostlist.expand(environ.get(f"SLURM_JOB_NODELIST{suffix}", ""))
        tasks = environ.get(f"SLURM_TASKS_PER_NODE{suffix}")
        if nodes and tasks:
            for node, count in zip(nodes, hostlist.counts(tasks)):
                expected[node] = expected.get(node, 0) + count
    return expected


def of_task(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return a task's environment with its rank and node, which Slurm 22.05 does not tell it in an OCI container.

    It starts one task of a step on each node there, so the rank is the node's place in the step. Raises
    AllocationError.
    """
    if environ.get(env.INSIDE) != env.OCI or "SLURM_PROCID" in environ:
        return environ
    nodes, here = hostlist.expand(environ.get("SLURM_STEP_NODELIST", "")), os.uname().nodename
    names = [here, *(node for node in nodes if node.partition(".")[0] == here.partition(".")[0])]
    node = next((name for name in names if name in nodes), None)
    if node is None:
        found = f"this node's host name is {here}, and the nodes of the step are {', '.join(nodes) or 'unknown'}"
        needed = "a host name that Slurm has as well: Slurm 22.05 tells a container nothing of its task"
        raise AllocationError(found, needed, "a later Slurm, or a container that the agent starts (charliecloud)")
    rank = str(nodes.index(node))
    return {**environ, "SLURM_PROCID": rank, "SLURM_NODEID": rank, "SLURM_LOCALID": "0", "SLURMD_NODENAME": node}


def _device_names(environ: Mapping[str, str]) -> Optional[Tuple[str, ...]]:
    for variable in env.DEVICE_VARIABLES:
        names = environ.get(variable)
        if names is not None:
            return tuple(name.strip() for name in names.split(",") if name.strip())
    return None


def _are_bound(environ: Mapping[str, str], seen: int, on_node: Optional[int], binding: str) -> bool:
    """Whether the devices are this task's own rather than all of its node's."""
    if seen < (on_node or seen):
        return True
    if binding:
        return bool(_BOUND.search(binding))
    # Slurm 22.05 sets the first, 24.11 and later the second
    return bool(environ.get("SLURM_GPUS_PER_TASK")) or "gres/gpu" in environ.get("SLURM_TRES_PER_TASK", "")


def _places(binding: str, local_rank: int) -> Tuple[int, ...]:
    """Return which of its node's devices a map, a mask or "single" gives to the task; () where that is not known.

    Source: srun(1) of Slurm 22.05, --gpu-bind: a list that is too short begins again.
    """
    match = _BOUND.search(binding)
    if match is None or match["kind"] == "per_task":
        return ()
    elements = [_ELEMENT.fullmatch(text) for text in (match["list"] or "").split(",")]
    numbers = [int(each["number"], 0) for each in elements if each for _ in range(int(each["times"] or 1))]
    if not numbers or not all(elements):
        return ()
    if match["kind"] == "single":
        return (local_rank // numbers[0],) if numbers[0] else ()
    number = numbers[local_rank % len(numbers)]
    return (
        (number,) if match["kind"] == "map" else tuple(bit for bit in range(number.bit_length()) if number >> bit & 1)
    )


def _number(environ: Mapping[str, str], name: str, default: Optional[int] = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit():
        raise AllocationError(f"{name} is {text!r}", "a number, as srun sets it")
    return int(text)
