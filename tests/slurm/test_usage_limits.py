"""What a user may still use, in what Slurm 22.05.8 printed of limits (tests/recorded/record_limits.py)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from slurm_tf.cli import limits_table
from slurm_tf.cli.terminal import Screen
from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, usage_limits
from slurm_tf.slurm.usage_limits import Limit, Limits
from tests.conftest import RECORDED

TEXTS: dict[str, dict[str, str]] = json.loads((RECORDED / "slurm-22.05.8" / "limits.json").read_text())


def of(user: str, **changed: str) -> Limits:
    return usage_limits.parse(user, **{**TEXTS[user], **changed})


def test_what_is_left_of_each_limit(golden: Callable[[str, str], None]) -> None:
    texts = ["\n".join(limits_table.text(of(user), Screen(width, False))) for user in TEXTS for width in (60, 80, None)]
    texts.append(json.dumps(limits_table.as_dict(of("alice")), indent=1))
    golden("limits.txt", "\n\n".join(texts) + "\n")


def test_hours_of_running_jobs_are_promised() -> None:
    # two GPUs and one, for 21 minutes each, that have just begun; before, three GPUs ran for 50 s, and two of other
    # QOS: one costs two and a half times as much, one nothing
    mine = Limit("alice in vision", "GrpTRESMins", "gres/gpu", most=3000, used=4, promised=63)
    assert mine in of("alice").limits
    assert (mine.left, mine.is_time) == (2933, True)
    assert Limit("alice", "GrpTRESMins", "cpu", most=10, used=9, promised=9).left == 0


def test_the_use_of_others_is_not_ones_own() -> None:
    # alice has a GPU of this QOS
    own = {each.owner: each.used for each in of("bob").limits if each.name == "MaxTRESPU"}
    assert own == {"bob in QOS gpuq": 0, "bob in QOS strict": 0}


def test_what_a_qos_gives_each_account() -> None:
    """Of a QOS without a job of the account sacctmgr knows the limit."""
    own = {each.owner: (each.most, each.used) for each in of("alice").limits if each.name == "MaxTRESPA"}
    assert own == {"account vision in QOS normal": (8, 2), "account vision in QOS scavenge": (2, 0)}


def test_limits_of_all_accounts_above() -> None:
    text = TEXTS["bob"]["manager"].replace("ParentAccount=root(1)", "ParentAccount=science(9)")
    text += (
        text[text.index("ClusterName=") : text.index("ClusterName=sandbox Account=nlp")]
        .replace("Account=root", "Account=science")
        .replace("ParentAccount= ", "ParentAccount=root(1) ")
        .replace("GrpTRES=cpu=N(2)", "GrpTRES=cpu=64(3)")
    )
    assert Limit("account science", "GrpTRES", "cpu", 64, 3) in of("bob", manager=text).limits


def test_a_release_that_names_users_in_qos() -> None:
    text = TEXTS["alice"]["manager"].replace(" 20001={", " alice(20001)={")
    assert of("alice", manager=text) == of("alice")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PriorityDecayHalfLife   = 7-00:00:00": "PriorityDecayHalfLife = 00:00:00"}, "does not forget"),
        (
            {"= 7-00:00:00": "= 00:00:00", "UsageResetPeriod = NONE": "UsageResetPeriod = MONTHLY"},
            "counts from 0 again each month (PriorityUsageResetPeriod)",
        ),
        ({}, "half of what was used in 7 days (PriorityDecayHalfLife)"),
    ],
)
def test_how_slurm_forgets(changes: dict[str, str], words: str) -> None:
    settings = TEXTS["alice"]["settings"]
    for old, new in changes.items():
        assert old in settings
        settings = settings.replace(old, new)
    assert words in "\n".join(limits_table.text(of("alice", settings=settings), Screen(None, False)))


def test_a_cluster_without_limits() -> None:
    settings = TEXTS["alice"]["settings"].replace("associations,limits,qos,safe", "associations")
    found = of("alice", settings=settings)
    assert (found.limits, found.unknown) == (
        (), "this cluster holds jobs to no limits: AccountingStorageEnforce is associations"
    )  # fmt: skip
    assert usage_limits.parse("nobody", **{**TEXTS["bob"], "own": ""}).limits == ()


def test_slurm_that_does_not_answer_is_unknown_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise SlurmError("Access/permission denied")

    monkeypatch.setattr(client, "run", refuse)
    lines = limits_table.text(usage_limits.ask("alice"), Screen(None, False))
    assert lines == ["What alice may still use is unknown: Access/permission denied"]


def test_factors_of_qos() -> None:
    found = of("alice").factors
    assert (found["normal"], found["urgent"], found["scavenge"]) == (1.0, 2.5, 0.0)
    assert usage_limits.parse_factors("odd|||||||\n") == {}
