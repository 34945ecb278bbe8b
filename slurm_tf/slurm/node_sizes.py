"""The sizes of a partition's nodes, as sinfo prints them."""

from dataclasses import dataclass
from functools import cache

from slurm_tf.slurm import client, command_output

_COLUMNS = ("%P", "%D", "%c", "%m", "%Z", "%G")


@dataclass(frozen=True, slots=True)
class NodeSize:
    """What each of `nodes` nodes has; memory in MiB."""

    nodes: int
    cpus: int
    memory: int
    gpus: int
    threads_per_core: int


@cache
def of_partition(partition: str) -> tuple[NodeSize, ...]:
    """Ask Slurm for the sizes of the nodes in `partition`, "" for the default one. Raises SlurmError."""
    where = [f"--partition={partition}"] if partition else []
    columns = f"--format={command_output.SEPARATOR.join(_COLUMNS)}"
    return parse(client.run(["sinfo", "--noheader", "--exact", *where, columns]).stdout, partition)


def parse(text: str, partition: str) -> tuple[NodeSize, ...]:
    """Return the sizes in the output of sinfo, whose default partition has a star (22.05.8)."""
    rows = [line.split(command_output.SEPARATOR) for line in text.splitlines()]
    return tuple(
        NodeSize(int(nodes), int(cpus), int(memory), client.gpus_in_gres(gres), int(threads))
        for name, nodes, cpus, memory, threads, gres in rows
        if partition or name.endswith("*")
    )
