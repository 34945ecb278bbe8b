"""The sizes of nodes, in what sinfo of Slurm 22.05.8 prints."""

from slurm_tf.slurm import node_sizes
from slurm_tf.slurm.node_sizes import NodeSize


def test_sizes_of_a_partition() -> None:
    text = "main*\x1f2\x1f8\x1f8192\x1f1\x1fgpu:a100:4(S:0-1),gpu:t4:2\nbig\x1f1\x1f64\x1f515000\x1f2\x1f(null)\n"
    big = NodeSize(1, 64, 515000, 0, 2)
    assert node_sizes.parse(text, "") == (NodeSize(2, 8, 8192, 6, 1),)
    assert node_sizes.parse(text.splitlines()[1], "big") == (big,)
