"""Memory by node: what Slurm says of tasks and steps, and what that means for one node."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from slurm_tf.account import job_use
from slurm_tf.account.job_use import StepUse

GIB = 1024**3


def step(name: str = "0", nodes: str = "n1", **more: Any) -> dict[str, Any]:
    count = more.pop("node_count", None)
    return {"step": name, "nodes": nodes, "node_count": count, "started": 0, "ended": 100, **more}


def use(*steps: dict[str, Any], **more: Any) -> job_use.JobUse:
    job = {"id": "12", "exit_class": "completed", "started": 0, "ended": 100, "elapsed": 100, "node_count": 4, **more}
    return job_use.read(job, steps)


@pytest.mark.parametrize(
    ("steps", "least", "most"),
    [
        ([step("batch", max_rss=32 * GIB)], 32, 32),
        ([step(nodes="n[1-4]", tasks=4, max_rss=40 * GIB, total_memory=52 * GIB)], 40, 40),
        ([step(nodes="n[1-2]", tasks=4, max_rss=40 * GIB, total_memory=52 * GIB)], 40, 80),
        ([step(nodes="n1", tasks=4, max_rss=40 * GIB, total_memory=52 * GIB)], 52, 52),
        ([step(nodes="n[1-2]", tasks=2, max_rss=0, total_memory=52 * GIB)], None, 52),
        ([step(nodes="n1", max_rss=4 * GIB)], 4, None),
        ([step(nodes="n1", max_rss=4 * GIB, total_memory=9 * GIB)], 9, 9),
        ([step("extern", max_rss=99 * GIB), step("interactive", max_rss=GIB)], 1, 1),
        # the script and a step at its time; a step after another; on other nodes; on nodes that nobody knows
        ([step("batch", max_rss=GIB), step(tasks=1, max_rss=2 * GIB)], 2, 3),
        ([step(tasks=1, max_rss=2 * GIB, ended=50), step("1", tasks=1, max_rss=3 * GIB, started=50)], 3, 3),
        ([step(tasks=1, max_rss=2 * GIB), step("1", "n2", tasks=1, max_rss=3 * GIB)], 3, 3),
        ([step(tasks=1, max_rss=3 * GIB), step("", "", tasks=1, max_rss=GIB)], 3, 4),
        ([step("0", "n[1", tasks=1, max_rss=2 * GIB), step("1", "n2", tasks=1, max_rss=GIB)], 2, 3),
    ],
)  # fmt: skip
def test_the_memory_of_one_node(steps: list[dict[str, Any]], least: int | None, most: int | None) -> None:
    found = use(*steps, used_memory=None)
    assert (found.node_least, found.node_most) == (least and least * GIB, most and most * GIB)
    assert found.lacks_tasks == (least is not None and most is None)


def test_without_steps_all_may_have_been_on_one_node() -> None:
    assert (use(used_memory=7 * GIB).node_most, use().node_most) == (7 * GIB, None)


# Bytes of each task by node; what Slurm records of them; and that no node held more than what is read from it.
PLACED = some.lists(some.lists(some.integers(1, 10**6), min_size=1, max_size=4), min_size=1, max_size=4)


@given(some.lists(PLACED, min_size=1, max_size=3), some.booleans(), some.booleans(), some.randoms())
def test_no_node_held_more(placed: list[list[list[int]]], has_total: bool, at_once: bool, order: random.Random) -> None:
    steps, truth = [], []
    for number, nodes in enumerate(placed):
        size = max(map(len, nodes))
        even = [[*tasks, *[1] * (size - len(tasks))] for tasks in nodes]
        tasks = [each for node in even for each in node]
        steps.append(
            StepUse(
                str(number), tuple(f"n{at}" for at in range(len(even))), len(even), len(tasks), max(tasks),
                sum(tasks) if has_total else None, 0 if at_once else number, 9 if at_once else number + 1,
            )
        )  # fmt: skip
        truth.append({f"n{at}": sum(each) for at, each in enumerate(even)})
    order.shuffle(steps)
    busiest = job_use.busiest_node(steps)
    assert busiest is not None
    for node in {node for each in truth for node in each}:
        held = [each.get(node, 0) for each in truth]
        assert busiest >= (sum(held) if at_once else max(held))
