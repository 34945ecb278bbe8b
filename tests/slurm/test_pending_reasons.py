"""Pending reasons in words."""

import pytest

from slurm_tf.slurm import pending_reasons


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "jobs of higher priority come first"),
        ("(Resources)", "it is next, and waits for nodes to become free"),
        ("ReqNodeNotAvail,_UnavailableNodes:node[1-2]", "nodes that it needs are down or drained: node[1-2]"),
        ("ReqNodeNotAvail, Reserved for maintenance", "its nodes are reserved for maintenance"),
        ("ReqNodeNotAvail", "nodes that it needs are down, drained or reserved"),
        ("QOSMaxCpuPerJobLimit", "it asks for more than the QOS allows one job (CPUs)"),
        ("AssocMaxWallDurationPerJobLimit", "it asks for more than the account allows one job (time)"),
        ("QOSMinGRES", "it asks for less than the QOS's least amount of GPUs"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_words(reason: str, words: str) -> None:
    assert pending_reasons.explain(reason) == words


@pytest.mark.parametrize(
    ("reason", "starts"),
    [
        ("QOSMaxGRESPerUser", "the QOS's limit for a user is reached (GPUs): it waits"),
        ("QOSMaxMemoryPerUser", "the QOS's limit for a user is reached (memory)"),
        ("QOSMaxMemPerUser", "the QOS's limit for a user is reached (memory)"),
        ("AssocGrpCpuLimit", "the account's limit for all jobs is reached (CPUs)"),
        ("AssocGrpGRESRunMinutes", "the account's limit for all jobs is reached (GPUs over time)"),
        ("AssocMaxJobsLimit", "the account's limit for an account is reached (running jobs)"),
        ("QOSMaxJobsPerUserLimit", "the QOS's limit for a user is reached (running jobs)"),
    ],
)
def test_limits_that_may_pass_or_not(reason: str, starts: str) -> None:
    assert pending_reasons.explain(reason).startswith(starts)
    assert not pending_reasons.is_permanent(reason)
    assert pending_reasons.may_be_permanent(reason)


@pytest.mark.parametrize(
    "reason",
    ["DependencyNeverSatisfied", "PartitionNodeLimit", "PartitionTimeLimit", "QOSMaxCpuPerJobLimit", "QOSMinGRES",
     "InvalidQOS", "BadConstraints"],
)  # fmt: skip
def test_what_never_passes(reason: str) -> None:
    assert pending_reasons.is_permanent(reason)


@pytest.mark.parametrize("reason", ["Priority", "Resources", "Dependency", "BeginTime", "", "None"])
def test_what_passes(reason: str) -> None:
    assert not pending_reasons.may_be_permanent(reason)


@pytest.mark.parametrize(
    ("reason", "settled"), [("", False), ("None", False), ("PartitionConfig", False), ("Priority", True)]
)
def test_the_first_reason_may_not_be_the_last(reason: str, settled: bool) -> None:
    assert pending_reasons.is_settled(reason) is settled
