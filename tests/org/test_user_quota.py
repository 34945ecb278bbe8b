"""A user's quota and why jobs wait, in what Slurm 22.05.8 printed; on a real Slurm: tests/cluster."""

import re
from datetime import datetime

import pytest

from slurm_tf.org import limit_words, user_quota
from slurm_tf.org.user_quota import Demand, Obstacle
from tests.org.recorded_cluster import TEXTS, RecordedCluster

GPU = "gres/gpu"


def words(job: str, **runs: str) -> str:
    """Return why a job waits, with times as they were recorded left out."""
    mine = user_quota.of_user()
    demand = user_quota.demand_of(mine, job)
    assert demand is not None
    return re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d$", "TIME", user_quota.why_waiting(mine, demand, runs))


def test_who_uses_what_a_job_waits_for(cluster: RecordedCluster) -> None:
    assert words("3", **{"1": "mnist"}) == "you have 2 GPUs in physics, 2 are in use by run mnist until about TIME"
    cluster.user = "bob"
    assert words("4") == (
        "your organization physics has 4 GPUs, 4 are in use by job 2 and job 1 of alice until about TIME"
    )


def test_who_uses_it_is_left_out_where_private_data_hides_it(cluster: RecordedCluster) -> None:
    cluster.user = "bob"
    # PrivateData=jobs: squeue shows one's own jobs alone
    cluster.changes["RUNNING\x1fNone\x1falice"] = "PENDING\x1fNone\x1falice"
    assert words("4") == "your organization physics has 4 GPUs, 4 are in use by job 2 and others until about TIME"
    cluster.changes["RUNNING\x1fNone\x1fbob"] = "PENDING\x1fNone\x1fbob"
    assert words("4") == "your organization physics has 4 GPUs, 4 are in use"


def test_tasks_of_an_array_are_jobs_by_themselves(cluster: RecordedCluster) -> None:
    cluster.user = "bob"
    # squeue has a row for tasks with another reason
    line = "4\x1f4\x1f0,2,4,6,8\x1f"
    (row,) = (each for each in TEXTS["bob"][squeue()].split("\x1f\n") if each.startswith(line))
    cluster.changes[line] = f"{row.replace('0,2,4,6,8', '9-11')}\x1f\n{line}"
    demand = user_quota.demand_of(user_quota.of_user(), "4")
    assert demand is not None
    assert [each[GPU] for each in demand.components] == [1]


def squeue() -> str:
    """Return the question for the whole queue."""
    return next(typed for typed in TEXTS["bob"] if typed.startswith("squeue") and "--account" not in typed)


def test_limits_of_an_organization_whose_use_is_hidden(cluster: RecordedCluster) -> None:
    # PrivateData=usage: of associations slurmctld shows one's own alone
    cluster.changes["PrivateData             = none"] = "PrivateData             = usage"
    for name in ("root", "nlp", "physics", "lasers", "speech", "vision"):
        cluster.changes[f"ClusterName=sandbox Account={name} UserName= "] = "hidden "
    found = user_quota.of_user()
    hidden = [each for each in found.limits.limits if each.is_unknown]
    assert {(each.account, each.name, each.tres, each.most) for each in hidden} == {
        ("physics", "GrpTRES", "cpu", 8), ("physics", "GrpTRES", GPU, 4), ("physics", "GrpTRES", "mem", 8192),
        ("physics", "GrpTRESMins", GPU, 6000),
    }  # fmt: skip
    (hit, *_) = found.hits(Demand(({"cpu": 9},), 5, "physics"))
    assert (hit.obstacle, hit.limit.account) == (Obstacle.NEVER, "physics")
    assert not [each for each in found.hits(Demand(({"cpu": 8},), 5, "physics")) if each.limit.account == "physics"]


@pytest.mark.usefixtures("cluster")
def test_a_job_that_can_never_start() -> None:
    assert words("5") == (
        "it asks for 3 GPUs, and you have 2 GPUs in physics at a time (GrpTRES gres/gpu=2): it can never start"
    )


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("demand", "limit"),
    [
        (Demand(({GPU: 2},), 600, "physics"), None),  # alice has both of hers in use: it waits
        (Demand(({"cpu": 9},), 5, "physics"), "GrpTRES cpu=8"),
        (Demand(({"mem": 9000},), 5, "physics"), "GrpTRES mem=8G"),
        (Demand(({"cpu": 1},), 1441, "physics"), "MaxWallPJ=1440"),
        (Demand(({GPU: 2},), 3001, "physics"), "MaxWallPJ=1440"),
        (Demand(({GPU: 1},), 5, "vision", "gpuq"), None),
        (Demand(({GPU: 4},), 5, "vision", "gpuq"), "MaxTRESPU gres/gpu=3"),
        # components of a heterogeneous job start together
        (Demand(({GPU: 2}, {GPU: 2}), 5, "vision", "gpuq"), "MaxTRESPU gres/gpu=3"),
        (Demand(({GPU: 99},), 5), None),  # of the default account, vision, which has no limits
        (Demand(({},), None, "physics"), None),  # nothing is known
    ],
)
def test_what_no_job_may_have(demand: Demand, limit: str | None) -> None:
    hits = [each for each in user_quota.of_user().hits(demand) if each.obstacle is Obstacle.NEVER]
    assert (limit_words.in_slurm(hits[0].limit) if hits else None) == limit


def test_the_limit_of_a_qos_stands_for_those_of_associations(cluster: RecordedCluster) -> None:
    cluster.changes["MaxWallPJ= MaxTRESPJ= MaxTRESPN= MaxTRESMinsPJ= MinPrioThresh=  MinTRESPJ="] = "MaxWallPJ=3000"
    cluster.changes["sandbox|physics|normal"] = "sandbox|physics|normal,gpuq"
    assert not user_quota.of_user().hits(Demand(({"cpu": 1},), 2000, "physics", "gpuq"))


def test_a_qos_limits_each_account_by_itself(cluster: RecordedCluster) -> None:
    # what alice has in use in account physics: two GPUs
    cluster.changes["pages=N(0),gres/gpu=N(2),gres/gpu:a100=N(2)} lasers="] = "pages=N(0),gres/gpu=3(2)} lasers="
    cluster.changes["normal|1.000000|||||"] = "normal|1.000000|||gres/gpu=3||"
    found = user_quota.of_user()
    (hit,) = (each for each in found.hits(Demand(({GPU: 2},), 5, "physics")) if each.limit.name == "MaxTRESPA")
    assert (hit.obstacle, hit.limit.account, hit.limit.qos, hit.limit.left) == (Obstacle.IN_USE, "physics", "normal", 1)
    assert [each.id for each in found.holders(hit.limit)] == ["1"]
    (never, *_) = found.hits(Demand(({GPU: 4},), 5, "vision"))
    assert limit_words.in_slurm(never.limit) == "MaxTRESPA gres/gpu=3"
    why = user_quota.why_waiting(found, Demand(({GPU: 4},), 5, "vision"))
    assert why.startswith("it asks for 4 GPUs, and your organization vision has 3 GPUs in QOS normal at a time")


def test_hours_that_are_used_up(cluster: RecordedCluster) -> None:
    cluster.changes["gres/gpu=6000(0)"] = "gres/gpu=6000(5900)"
    asked = Demand(({GPU: 2},), 60, "physics")
    (hit, *_) = user_quota.of_user().hits(asked)
    assert hit.obstacle is Obstacle.USED_UP
    # 60 minutes are promised to jobs that run
    start = "your organization physics has 0.7 of 100.0 GPU-hours left, and it may take 2.0 GPU-hours: "
    end = {
        "PriorityDecayHalfLife   = 7-00:00:00": "Slurm forgets half of what was used in 7 days (PriorityDecayHalfLife)",
        "PriorityDecayHalfLife   = 00:00:00": (
            "Slurm does not forget what was used, so it waits until an admin allows more"
        ),
    }
    for line, said in end.items():
        cluster.changes["PriorityDecayHalfLife   = 7-00:00:00"] = line
        assert user_quota.why_waiting(user_quota.of_user(), asked) == start + said
    cluster.changes["PriorityUsageResetPeriod = NONE"] = "PriorityUsageResetPeriod = MONTHLY"
    assert "Slurm counts from 0 again at 20" in user_quota.why_waiting(user_quota.of_user(), asked)


@pytest.mark.parametrize(
    ("period", "now", "start"),
    [
        ("DAILY", "2026-12-31", "2027-01-01"),
        ("WEEKLY", "2026-11-28", "2026-11-29"),  # a Saturday
        ("WEEKLY", "2026-11-29", "2026-12-06"),
        ("MONTHLY", "2026-11-28", "2026-12-01"),
        ("MONTHLY", "2026-12-28", "2027-01-01"),
        ("QUARTERLY", "2026-09-30", "2026-10-01"),
        ("QUARTERLY", "2026-10-01", "2027-01-01"),
        ("YEARLY", "2026-01-01", "2027-01-01"),
        ("NOW", "2026-01-01", None),
    ],
)
def test_when_slurm_counts_from_0_again(period: str, now: str, start: str | None) -> None:
    found = user_quota.next_reset(period, datetime.fromisoformat(f"{now}T12:00").astimezone())
    assert (f"{found:%Y-%m-%d}" if found else None) == start


def test_slurm_that_does_not_answer_is_unknown(cluster: RecordedCluster) -> None:
    cluster.silent = ("sacctmgr",)
    assert user_quota.of_user().unknown == "sacctmgr did not answer in 10 s"
    cluster.silent = ("squeue",)
    found = user_quota.of_user()
    assert (found.unknown, found.queue, len(found.limits.limits) > 3) == ("squeue did not answer in 10 s", (), True)
