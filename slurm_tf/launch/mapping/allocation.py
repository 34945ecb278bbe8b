"""Reads what Slurm set in one task's environment: its rank, node and devices."""

import os
import re
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

from slurm_tf.errors import AllocationError
from slurm_tf.slurm import hostlist

# Slurm sets all of these to the same list of devices (22.05.8); a program reads the one of its vendor.
DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")

# Bound devices: each task has its own, whatever the names say. Slurm 22.05 sets the first on a node with several
# tasks, 24.11 and later say it in SLURM_TRES_PER_TASK and keep the second.
_BOUND = re.compile(r"gres/gpu|gpu:(per_task|single|map|mask)")


# slurm/slurm.h, SLURM_INTERACTIVE_STEP and its like: "steps" of one shell, with the job's SLURM_NTASKS (22.05.8).
_FIRST_SPECIAL_STEP = 0xFFFFFFFA


@dataclass(frozen=True)
class Allocation:
    """One task of a step. `gpus`: device names it was given, in Slurm's order; they name devices on its node only.

    `gpus_bound`: each task of the node has been given its own devices, so equal names are different devices.
    """

    rank: int
    tasks: int
    local_rank: int
    node: str
    gpus: Tuple[str, ...]
    gpus_bound: bool
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
        gpus = _device_names(environ)
        return cls(
            rank=_number(environ, "SLURM_PROCID"),
            tasks=_number(environ, "SLURM_NTASKS"),
            local_rank=_number(environ, "SLURM_LOCALID"),
            node=environ.get("SLURMD_NODENAME") or os.uname().nodename,
            gpus=gpus,
            gpus_bound=_are_bound(environ, len(gpus)),
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


def _device_names(environ: Mapping[str, str]) -> Tuple[str, ...]:
    for variable in DEVICE_VARIABLES:
        names = environ.get(variable)
        if names is not None:
            return tuple(name.strip() for name in names.split(",") if name.strip())
    return ()


def _are_bound(environ: Mapping[str, str], seen: int) -> bool:
    """Whether the devices are this task's own rather than all of its node's."""
    on_node = _number(environ, "SLURM_GPUS_ON_NODE", seen)
    if seen < on_node:
        return True
    binding = [environ.get(name, "") for name in ("SLURMD_TRES_BIND", "SLURM_TRES_BIND", "SLURM_TRES_PER_TASK")]
    return bool(environ.get("SLURM_GPUS_PER_TASK")) or any(_BOUND.search(text) for text in binding)


def _number(environ: Mapping[str, str], name: str, default: Optional[int] = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit():
        raise AllocationError(f"{name} is {text!r}", "a number, as srun sets it")
    return int(text)
