"""All organizations, in what Slurm 22.05.8 printed; on a real Slurm: tests/cluster."""

from datetime import timedelta

import pytest

from slurm_tf.errors import UnreachableError, UsageError
from slurm_tf.org import organizations
from slurm_tf.slurm import live_cluster
from tests.org.recorded_cluster import RecordedCluster

GPU = "gres/gpu"


@pytest.mark.usefixtures("cluster")
def test_what_is_allocated_waits_and_is_left() -> None:
    found = organizations.read()
    assert [each.name for each in found.organizations] == ["nlp", "physics", "lasers", "speech", "vision"]
    quota = found.named("physics").quota
    assert quota.allocated is not None
    assert quota.left is not None
    assert quota.waiting is not None
    # alice's two and bob's two, who is in an organization below
    assert (quota.limits.grp_tres[GPU], quota.allocated[GPU], quota.left[GPU]) == (4, 4, 0)
    # two jobs of alice, of one GPU and three, and five tasks of bob's array
    assert (quota.waiting[GPU], quota.waiting_jobs) == (9, 7)
    assert (quota.limits.grp_tres["mem"], quota.left["mem"]) == (8192, 7680)
    assert (quota.limits.max_wall, quota.gpu_minutes, quota.left_gpu_minutes) == (timedelta(days=1), 6000, 6000)


@pytest.mark.usefixtures("cluster")
def test_users_and_organizations_below() -> None:
    found = organizations.read()
    (alice,) = found.named("physics").users
    assert alice.quota.allocated is not None
    assert alice.quota.waiting is not None
    assert (alice.name, alice.quota.limits.grp_tres, alice.quota.allocated[GPU], alice.quota.waiting[GPU]) == (
        "alice", {GPU: 2}, 2, 4
    )  # fmt: skip
    lasers = found.named("lasers")
    assert (lasers.parent, lasers.quota.limits.grp_tres["mem"]) == ("physics", 1000001)
    assert lasers.quota.limits.grp_tres[f"{GPU}:a100"] == 3


def test_hours_of_a_qos_that_forgets_nothing(cluster: RecordedCluster) -> None:
    cluster.changes["GrpTRESMins=cpu=N(0),mem=N(0),energy=N(0),node=N(0),billing=N(0),fs/disk=N(0),vmem=N(0),"
                    "pages=N(0),gres/gpu=60(0)"] = "GrpTRESMins=gres/gpu=60(17)"  # fmt: skip
    speech = organizations.read().named("speech")
    assert speech.never_forgotten
    assert (speech.quota.gpu_minutes, speech.quota.used_gpu_minutes, speech.quota.left_gpu_minutes) == (60, 17, 43)


@pytest.mark.parametrize("command", ["squeue", "scontrol"])
def test_slurmctld_that_does_not_answer_leaves_amounts_unknown(
    cluster: RecordedCluster, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "scontrol":  # it answers which cluster this is, and no more
        settings = live_cluster.ask_settings()
        monkeypatch.setattr(live_cluster, "ask_settings", lambda: settings)
    cluster.silent = (command,)
    found = organizations.read()
    quota = found.named("physics").quota
    assert found.unknown == f"{command} did not answer in 10 s"
    assert (quota.allocated, quota.waiting, quota.waiting_jobs, quota.left, quota.left_gpu_minutes) == (None,) * 5
    assert quota.limits.grp_tres[GPU] == 4


def test_what_private_data_hides_is_unknown(cluster: RecordedCluster) -> None:
    cluster.changes["PrivateData             = none"] = "PrivateData             = jobs,usage"
    cluster.changes["ClusterName=sandbox Account=physics UserName= "] = "hidden "
    found = organizations.read()
    physics = found.named("physics")
    assert found.unknown == "PrivateData=jobs,usage hides some of it"
    assert (physics.quota.allocated, physics.quota.left, physics.quota.waiting) == (None, None, None)
    # her own
    (alice,) = physics.users
    assert (alice.quota.allocated or {})[GPU] == 2
    assert alice.quota.waiting_jobs == 2
    assert found.named("lasers").users[0].quota.waiting is None
    cluster.changes["alice|vision|None|"] = "alice|vision|Operator|"
    assert organizations.read().named("lasers").users[0].quota.waiting_jobs == 5


def test_slurmdbd_that_does_not_answer(cluster: RecordedCluster) -> None:
    cluster.silent = ("sacctmgr",)
    with pytest.raises(UnreachableError):
        organizations.read()


@pytest.mark.usefixtures("cluster")
def test_no_such_organization() -> None:
    with pytest.raises(UsageError, match=r"no organization 'x'.*nlp, physics, lasers, speech, vision"):
        organizations.read().named("x")
