"""What sinfo says of nodes and their use; on a real Slurm: tests/cluster/test_page.py."""

import pytest

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import node_use
from slurm_tf.slurm.node_use import NodeUse

# node1 is in two partitions and runs a job, node2 was drained by an admin; columns as those of Slurm 22.05.8
_ROWS = (
    ("node1", "mixed", "2/6/0/8", "8192", "2048", "gpu:a100:4", "gpu:a100:2(IDX:0,2)", "gpu", "none"),
    ("node1", "mixed", "2/6/0/8", "8192", "2048", "gpu:a100:4", "gpu:a100:2(IDX:0,2)", "cpu", "none"),
    ("node2", "drained*", "0/0/8/8", "8192", "0", "(null)", "gpu:0", "cpu", "bad GPU,\x1f replace it"),
)


def printed(*rows: tuple[str, ...]) -> str:
    return "".join("".join(f"{cell}\x1f" for cell in row) + "\n" for row in rows)


def test_each_node_is_one_row_with_all_its_partitions() -> None:
    first, second = node_use.parse(printed(*_ROWS))
    assert first == NodeUse("node1", "mixed", 8, 2, 8192, 2048, 4, 2, ("cpu", "gpu"), "")
    assert first.takes_jobs
    assert (second.state, second.gpus, second.reason) == ("drained", 0, "bad GPU,\x1f replace it")
    assert not second.takes_jobs
    assert node_use.parse("") == ()


def test_what_sinfo_never_prints_is_an_error() -> None:
    with pytest.raises(SlurmError, match="the CPUs 'many' of node node1"):
        node_use.parse(printed(("node1", "idle", "many", "1", "0", "", "", "cpu", "none")))
