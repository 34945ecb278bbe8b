"""What nodes have, what is in use of it, and why those that are down or drained are so, as sinfo says."""

import re
from dataclasses import dataclass

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, command_output

_FIELDS = ("NodeHost", "StateLong", "CPUsState", "Memory", "AllocMem", "Gres", "GresUsed", "PartitionName", "Reason")
# Flags of states, as "idle~" for a node that is powered down: sinfo(1), NODE STATE CODES.
_FLAGS = "*~#!%$@^+-"
_CPUS = re.compile(r"(\d+)/(\d+)/(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class NodeUse:
    """One node; memory in MiB. `reason`: why an admin, or Slurm, has taken it out, "" for none."""

    name: str
    state: str
    cpus: int
    cpus_in_use: int
    memory: int
    memory_in_use: int
    gpus: int
    gpus_in_use: int
    partitions: tuple[str, ...]
    reason: str

    @property
    def takes_jobs(self) -> bool:
        """Whether jobs may start on it, now or when others end."""
        return self.state in ("idle", "mixed", "allocated", "completing", "planned", "reserved")


def ask() -> tuple[NodeUse, ...]:
    """Ask Slurm for all nodes, in sinfo's order. Raises SlurmError."""
    argv = ["sinfo", "--noheader", "--Node", "--all", command_output.columns(_FIELDS)]
    return parse(client.run(argv).stdout)


def parse(text: str) -> tuple[NodeUse, ...]:
    """Return the nodes in what sinfo printed of _FIELDS, which has a line for each partition of a node.

    Raises SlurmError.
    """
    found: dict[str, NodeUse] = {}
    for row in command_output.rows(text, len(_FIELDS)):
        name, state, cpus, memory, used_memory, gres, used_gres, partition, reason = (each.strip() for each in row)
        known = found[name].partitions if name in found else ()
        numbers = _CPUS.fullmatch(cpus)
        if numbers is None or not (memory.isdigit() and used_memory.isdigit()):
            raise SlurmError(f"sinfo printed the CPUs {cpus!r} of node {name}", "allocated/idle/other/total")
        found[name] = NodeUse(
            name=name,
            state=state.rstrip(_FLAGS),
            cpus=int(numbers[4]),
            cpus_in_use=int(numbers[1]),
            memory=int(memory),
            memory_in_use=int(used_memory),
            gpus=client.gpus_in_gres(gres),
            gpus_in_use=client.gpus_in_gres(used_gres),
            partitions=tuple(sorted((*known, partition))),
            reason="" if reason == "none" else reason,
        )
    return tuple(found.values())
