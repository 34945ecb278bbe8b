"""How many nodes a job of several roles needs, in words."""

from collections.abc import Callable

import pytest

from slurm_tf.jobspec.plan import Plan
from slurm_tf.submit import nodes_needed

JOB = (
    'name = "a"\nstrategy = "ps"\ncommand = ["x"]\n[roles.chief]\nmem = "1G"\n'
    '[roles.worker]\ncount = 2\nmem = "4G"\n{worker}\n[roles.ps]\nmem = "{ps}"\ncpus-per-task = 1\n'
)


@pytest.mark.parametrize(
    ("worker", "ps", "words", "surplus"),
    [
        ("", "2G", "1 node for all roles: chief, worker, ps", ""),
        (
            'ntasks-per-node = 1\ngpus-per-task = "a100:1"',
            "2G",
            "2 nodes for all roles: chief, worker, ps",
            "1G of memory above the sum of the roles: each node can hold the largest share",
        ),
        (
            "ntasks-per-node = 2\ncount = 3\ngpus-per-task = 2",
            "1G",
            "2 nodes for all roles: chief, worker, ps",
            "1 CPU and 2 GPUs above the sum of the roles: each node can hold the largest share",
        ),
        (
            'ntasks-per-node = 1\npartition = "gpu"',
            "2G",
            "4 or more, as 3 components have nodes of their own (chief; worker; ps): their partitions differ",
            "",
        ),
    ],
)
def test_words(worker: str, ps: str, words: str, surplus: str, fit: Callable[..., Plan]) -> None:
    text = JOB.format(worker=worker, ps=ps)
    layout = fit(text.replace("count = 2\n", "") if "count" in worker else text).layout
    assert nodes_needed.words(layout) == words
    assert nodes_needed.surplus(layout) == surplus


def test_nothing_is_said_where_all_roles_ask_for_the_same(fit: Callable[..., Plan]) -> None:
    layout = fit('name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\n[roles.worker]\ncount = 2\n').layout
    assert nodes_needed.words(layout) == nodes_needed.surplus(layout) == ""
