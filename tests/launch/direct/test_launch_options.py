"""What the tasks of `launch` are asked for: roles, and that all are asked for the same."""

from collections import Counter
from typing import Any

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.launch.direct import direct_launch
from slurm_tf.launch.transport import messages
from slurm_tf.launch.transport.messages import Report


def test_roles_are_in_the_order_given() -> None:
    roles = direct_launch.parse_roles("worker=2, chief=1,evaluator=1,ps=3")
    assert [(role.name, role.count, role.gpus) for role in roles] == [
        ("worker", 2, None), ("chief", 1, None), ("evaluator", 1, 0), ("ps", 3, 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "worker", "worker=", "worker=*", "worker=0", "worker=-1", "worker=1,", "master=1", "ps=1,ps=1", "ps=²"]
)
def test_roles_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"needed each of chief, worker, ps, evaluator at most once"):
        direct_launch.parse_roles(text)


def said(count: int) -> list[dict[str, Any]]:
    return [
        {
            "node": f"n{rank}", "options": [f"worker={count}", "", "split"],
            "report": messages.encode(Report(rank, f"n{rank}", f"n{rank}", 5, ("0",))).decode(),
        }
        for rank in range(count)
    ]  # fmt: skip


def test_all_must_ask_for_the_same() -> None:
    every = said(3)
    assert Counter(place[0] for place in direct_launch._decide(every)["tasks"]) == {"worker": 3}
    every[2]["options"] = ["worker=2,ps=1", "", "split"]
    with pytest.raises(UsageError, match=r"rank 2 was asked for .*'worker=2,ps=1'.*, as rank 0"):
        direct_launch._decide(every)
