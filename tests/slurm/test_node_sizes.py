"""The nodes of a partition, in what sinfo and scontrol of Slurm 22.05.8 print."""

import pytest

from slurm_tf.slurm import node_sizes
from slurm_tf.slurm.node_sizes import NodeSize


def test_sizes_of_a_partition() -> None:
    text = "main*\x1f2\x1f8\x1f8192\x1f1\x1fgpu:a100:4(S:0-1),gpu:t4:2\x1fib,avx\n"
    text += "big\x1f1\x1f64\x1f515000\x1f2\x1f(null)\x1f(null)\n"
    big = NodeSize(1, 64, 515000, 0, 2, frozenset({"(null)"}))
    assert node_sizes.parse_sizes(text, "") == (NodeSize(2, 8, 8192, 6, 1, frozenset({"ib", "avx"})),)
    assert node_sizes.parse_sizes(text.splitlines()[1], "big") == (big,)


PARTITIONS = (
    "PartitionName=main AllowGroups=ALL Default=YES QoS=N/A DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED\n"
    "PartitionName=own AllowGroups=ALL Default=NO QoS=N/A DefMemPerCPU=4000 MaxMemPerNode=UNLIMITED\n"
    "PartitionName=whole AllowGroups=ALL Default=NO QoS=N/A DefMemPerNode=64000 MaxMemPerNode=UNLIMITED\n"
)


@pytest.mark.parametrize(
    ("partition", "config", "memory"),
    [
        ("", "DefMemPerCPU            = 256\n", 256),
        ("main", "DefMemPerCPU            = 256\n", 256),
        ("main", "DefMemPerNode           = UNLIMITED\n", None),
        ("own", "DefMemPerCPU            = 256\n", 4000),
        ("whole", "DefMemPerCPU            = 256\n", None),
        ("none", "DefMemPerCPU            = 256\n", None),
    ],
)
def test_memory_of_a_job_that_asks_for_none(partition: str, config: str, memory: int | None) -> None:
    assert node_sizes.parse_memory_per_cpu(PARTITIONS, config, partition) == memory
