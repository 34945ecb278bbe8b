"""What a cluster says of itself, in what Slurm 22.05.8 printed."""

from datetime import timedelta

import pytest

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, live_cluster
from slurm_tf.slurm.live_cluster import LiveQos, NodeKind
from slurm_tf.units import Gpus
from tests.live_clusters import play


def test_types_of_gpus_features_and_who_may_use_a_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    play("typed", monkeypatch)
    found = live_cluster.ask()
    assert (found.name, found.version, found.user, found.has_gpus) == ("sandbox", "22.05.8", "alice", True)
    cpu, gpu = found.partitions
    features = ("a100", "a100-80g", "intel")
    assert cpu.kinds == (NodeKind(1, 72, 524288, (Gpus(4, "a100"), Gpus(4, "1g.5gb")), features, 0),)
    assert (cpu.is_default, gpu.is_default, cpu.max_time) == (True, False, timedelta(days=1))
    assert (cpu.accounts, gpu.accounts, gpu.qos) == (None, ("vision",), ("normal", "urgent"))
    assert (cpu.default_memory, gpu.default_memory) == ("DefMemPerCPU=256", "DefMemPerNode=4000")
    assert (found.accounts, found.all_accounts) == (("vision",), ("nlp", "root", "vision"))
    assert found.qos == ("evictable", "gpuq", "normal", "scavenge", "slow-scavenge", "strict", "urgent")
    assert LiveQos("scavenge", (), "requeue", timedelta(seconds=5)) in found.all_qos
    assert LiveQos("urgent", ("evictable", "scavenge", "slow-scavenge"), "cluster", timedelta()) in found.all_qos
    assert found.mpi == ("pmix", "none", "cray_shasta", "pmi2", "pmix_v4")
    assert found.unknown == {}


def test_whole_nodes_and_preemption_by_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    play("exclusive", monkeypatch)
    regular, preempted = live_cluster.ask().partitions
    assert (regular.is_exclusive, preempted.is_exclusive) == (True, True)
    assert (regular.tier, preempted.tier, preempted.preempt_mode) == (10, 1, "REQUEUE")
    assert (regular.grace_time, preempted.grace_time) == (timedelta(), timedelta(seconds=120))


def test_what_does_not_answer_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for refused in ("sacctmgr", "srun"):
        play("no-gres", monkeypatch, refused)
        found = live_cluster.ask()
        assert not found.has_gpus
        assert {what for what, why in found.unknown.items() if refused in why} == (
            {"mpi"} if refused == "srun" else {"accounts", "all_accounts", "all_qos"}
        )
        assert (bool(found.accounts), bool(found.mpi)) == (refused == "srun", refused == "sacctmgr")


def test_a_cluster_without_accounts_is_not_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    play("no-gres", monkeypatch, "sacctmgr")
    settings = live_cluster.parse_settings
    none = {"AccountingStorageType": "accounting_storage/none"}
    monkeypatch.setattr(live_cluster, "parse_settings", lambda text: {**settings(text), **none})
    assert set(live_cluster.ask().unknown.values()) == {"this cluster keeps no accounts"}


def test_nodes_of_several_kinds_and_partitions_without_any() -> None:
    text = "gpu*\x1f2\x1f64\x1f515000\x1fgpu:a100:4(S:0-1),shard:8\x1fib,a100\x1f400000\n"
    text += "gpu*\x1f1\x1f32\x1f190000\x1fgpu:2\x1f(null)\x1f0\nempty\x1f0\x1f0\x1f0\x1f(null)\x1f(null)\x1f0\n"
    assert live_cluster.parse_nodes(text) == {
        "gpu": (
            NodeKind(2, 64, 515000, (Gpus(4, "a100"),), ("ib", "a100"), 400000),
            NodeKind(1, 32, 190000, (Gpus(2),), (), 0),
        ),
        "empty": (),
    }


@pytest.mark.parametrize(
    ("text", "plugins"),
    [
        ("MPI plugin types are...\n\tnone\n\tpmi2\n", ("none", "pmi2")),
        ("srun: MPI types are...\nsrun: pmi2\nsrun: pmix_v3\n", ("pmi2", "pmix_v3")),
        ("", ()),
    ],
)
def test_plugins_of_mpi(text: str, plugins: tuple[str, ...]) -> None:
    """The second one is of Slurm 20.02."""
    assert live_cluster.parse_mpi(text) == plugins


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Configuration data\nClusterName             = sandbox\nSlurmctld(primary) at ctl is DOWN", "sandbox"),
        ("slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)", ""),
    ],
)
def test_a_slurmctld_that_is_too_busy_for_the_ping_after_its_settings(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SlurmError(f"{text} (scontrol ended with exit code 1)")

    monkeypatch.setattr(client, "run", fail)
    if name:
        assert live_cluster.ask_settings()["ClusterName"] == name
        return
    with pytest.raises(SlurmError, match="Unable to contact"):
        live_cluster.ask_settings()
