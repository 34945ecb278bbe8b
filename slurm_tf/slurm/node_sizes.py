"""The nodes of a partition and the memory of jobs that ask for none, as sinfo and scontrol print them."""

import re
from dataclasses import dataclass

from slurm_tf.slurm import client, command_output

_COLUMNS = ("%P", "%D", "%c", "%m", "%Z", "%G", "%f")
_DEFAULT = re.compile(r"\bDefMemPerCPU\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class NodeSize:
    """What each of `nodes` nodes has; memory in MiB, features for --constraint."""

    nodes: int
    cpus: int
    memory: int
    gpus: int
    threads_per_core: int
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PartitionNodes:
    """The nodes of a partition. `memory_per_cpu`: MiB of a job that asks for none; None: unknown, or not for a CPU."""

    sizes: tuple[NodeSize, ...] = ()
    memory_per_cpu: int | None = None


def of_partition(partition: str) -> PartitionNodes:
    """Ask Slurm for the nodes of `partition`, "" for the default one. Raises SlurmError."""
    where = [f"--partition={partition}"] if partition else []
    columns = f"--format={command_output.SEPARATOR.join(_COLUMNS)}"
    sizes = parse_sizes(client.run(["sinfo", "--noheader", "--exact", *where, columns]).stdout, partition)
    partitions = client.run(["scontrol", "--all", "--oneliner", "show", "partition"]).stdout
    config = client.run(["scontrol", "show", "config"]).stdout
    return PartitionNodes(sizes, parse_memory_per_cpu(partitions, config, partition))


def parse_sizes(text: str, partition: str) -> tuple[NodeSize, ...]:
    """Return the sizes in the output of sinfo, whose default partition has a star (22.05.8)."""
    found = []
    for line in text.splitlines():
        name, nodes, cpus, memory, threads, gres, features = line.split(command_output.SEPARATOR)
        if partition or name.endswith("*"):
            gpus, of_nodes = client.gpus_in_gres(gres), frozenset(features.split(","))
            found.append(NodeSize(int(nodes), int(cpus), int(memory), gpus, int(threads), of_nodes))
    return tuple(found)


def parse_memory_per_cpu(partitions: str, config: str, partition: str) -> int | None:
    """Return DefMemPerCPU of a partition, else of slurm.conf; None where a job gets memory in another way.

    A partition without a default of its own shows DefMemPerNode=UNLIMITED, and slurm.conf's counts (22.05.8).
    """
    of_partition = f"PartitionName={partition} " if partition else " Default=YES "
    own = next((line for line in partitions.splitlines() if of_partition in line), "")
    text = config if "DefMemPerNode=UNLIMITED" in own else own
    found = _DEFAULT.search(text)
    return int(found[1]) if found else None
