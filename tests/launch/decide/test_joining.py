"""Whether a job trained one model: which of its tasks have joined the cluster."""

from dataclasses import replace

import pytest

from slurm_tf.launch.decide.joining import Joining, judged
from slurm_tf.launch.decide.restarts import Outcome
from slurm_tf.run.settings import LaunchSettings, RoleSettings
from tests.launch.conftest import DEFAULTS

WELL = Outcome(0, "")
SETTINGS = replace(DEFAULTS, join_required=True)
PS = tuple(RoleSettings(role, 1) for role in ("chief", "worker", "ps", "evaluator"))
NEVER = (
    "none of the 2 tasks has joined the cluster: each trained a model of its own, and all wrote the same files; the "
    "program needs slurm_tf.train or a tf.distribute strategy that reads TF_CONFIG (slurm-tf docs train), or one task: "
    'strategy = "single"; join = "optional" allows it'
)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (SETTINGS, ["worker:0", "worker:1"]),
        (replace(SETTINGS, strategy="ps", roles=PS), ["chief:0", "worker:0", "ps:0"]),
        (replace(SETTINGS, strategy="between_graph", roles=PS), ["chief:0", "worker:0", "ps:0"]),
        (replace(SETTINGS, roles=(RoleSettings("worker", 1), RoleSettings("evaluator", 1))), []),
        (replace(SETTINGS, strategy="horovod"), []),
        (replace(SETTINGS, join_required=False), []),
    ],
)
def test_who_is_to_join(settings: LaunchSettings, names: list[str]) -> None:
    assert judged(settings) == names


@pytest.mark.parametrize(
    ("ends", "outcome", "notes"),
    [
        ({"worker:0": False, "worker:1": False}, Outcome(65, NEVER), []),
        ({"worker:0": False}, Outcome(65, NEVER), []),
        ({"worker:0": True, "worker:1": True}, WELL, []),
        (
            {"worker:0": True, "worker:1": False}, WELL,
            ["worker:1 has not joined the cluster: it trains alone"],
        ),
        (
            {"worker:0": False, "worker:1": None}, WELL,
            ["warning: whether any task has joined the cluster cannot be seen on these nodes"],
        ),
    ],
)  # fmt: skip
def test_how_a_job_ends(ends: dict[str, bool | None], outcome: Outcome, notes: list[str]) -> None:
    made = Joining(SETTINGS)
    for name, joined in ends.items():
        made.started(name)
        made.ended(name, joined)
    assert (made.judge(WELL), made.notes) == (outcome, notes)


def test_another_end_stays_and_a_restart_begins_anew() -> None:
    made = Joining(SETTINGS)
    assert made.judge(WELL) == WELL, "a preflight alone"
    made.started("worker:0")
    assert made.judge(Outcome(7, "bad")) == Outcome(7, "bad")
    made.said("worker:0", True, 1.0)
    made.ended("worker:0", None)
    assert made.judge(WELL) == WELL
    made.started("worker:0")
    made.ended("worker:0", False)
    assert made.judge(WELL).code == 65


def test_those_that_train_alone_are_named_in_one_line() -> None:
    made = Joining(replace(SETTINGS, roles=(RoleSettings("worker", 9),)))
    for index in range(8):
        made.started(f"worker:{index}")
        made.said(f"worker:{index}", False, 100.0 + index)
    made.said("worker:0", True, 108.0)
    assert made.wakes_at == 110.0
    made.tick(109.0)
    assert made.notes == []
    made.tick(110.0)
    names = "worker:1, worker:2, worker:3, worker:4, worker:5 and 2 more"
    assert made.notes == [f"{names} have not joined the cluster: each trains alone"]
    assert made.wakes_at is None
