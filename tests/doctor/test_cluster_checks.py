"""What is said of a cluster: of those that were recorded, and with one thing wrong each."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slurm_tf.doctor import cluster_checks
from slurm_tf.doctor.findings import Finding, State
from slurm_tf.jobspec.sites import Profile, Site
from slurm_tf.slurm import live_cluster
from slurm_tf.slurm.live_cluster import LiveCluster
from tests.doctor.shown import shown
from tests.live_clusters import NAMES, play

SITE = Site(mpi="pmix")
# what is wrong: settings of slurm.conf, fields of the cluster, of the site
WRONG: dict[str, tuple[dict[str, str], dict[str, object], dict[str, object]]] = {
    "an old release": ({"SLURM_VERSION": "20.11.2"}, {}, {}),
    "a release of one's own": ({"SLURM_VERSION": "site-1"}, {}, {}),
    "no accounts kept": ({"AccountingStorageType": "accounting_storage/none"}, {}, {}),
    "GPUs not tracked": ({"AccountingStorageTRES": "cpu,mem,gres/gpu:a100"}, {}, {}),
    "nothing measured": ({"JobAcctGatherType": "jobacct_gather/none"}, {}, {}),
    "no account": ({}, {"accounts": ()}, {}),
    "no account, and none needed": ({"AccountingStorageEnforce": "none"}, {"accounts": ()}, {}),
    "accounts that cannot be asked": ({}, {"accounts": (), "unknown": {"accounts": "slurmdbd is down"}}, {}),
    "little time to end": ({"KillWait": "2 sec"}, {}, {}),
    "KillWait unknown": ({"KillWait": ""}, {}, {}),
    "preemption at once": ({"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}, {"tiers": (1, 2)}, {}),
    "QOS that cannot be asked": ({"PreemptType": "preempt/qos"}, {"unknown": {"all_qos": "slurmdbd is down"}}, {}),
    "no MPI": ({}, {"mpi": ("none", "pmi2")}, {}),
    "MPI that cannot be asked": ({}, {"mpi": (), "unknown": {"mpi": "found no srun in PATH"}}, {}),
    "ports of srun": ({"SrunPortRange": "60001-63000"}, {}, {"ports": "62000-64000"}),
    "ports of the kernel": ({}, {}, {"ports": "20000-20999", "coordinator_ports": "40000-40010"}),
    "good ports": ({}, {}, {"ports": "20000-20999"}),
    "a partition that is down": ({}, {"state": "DOWN"}, {}),
    "no such partition": ({}, {}, {"default_partition": "gone"}),
    "no default partition": ({}, {"default": False}, {}),
    "a partition without nodes": ({}, {"kinds": ()}, {}),
}


def checked(cluster: LiveCluster, site: Site, problem: str = "") -> list[Finding]:
    profile = Profile(Path("/sites/hpc1.toml"), site, {}, ())
    return [
        *cluster_checks.check_release(cluster),
        cluster_checks.check_profile(profile, cluster),
        cluster_checks.check_partition(cluster, site, ""),
        cluster_checks.check_account(cluster),
        *cluster_checks.check_accounting(cluster, problem),
        *cluster_checks.check_settings(cluster, site, (32768, 60999)),
    ]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LiveCluster]:
    def ask(name: str) -> LiveCluster:
        play(name, monkeypatch)
        cluster = live_cluster.ask()
        # what was recorded of slurm.conf does not have all
        return replace(cluster, settings={"KillWait": "30 sec", **cluster.settings})

    return ask


def changed(cluster: LiveCluster, settings: dict[str, str], fields: dict[str, Any]) -> LiveCluster:
    """Return a cluster with other settings; `fields`: of the cluster, or of its default partition."""
    partitions = list(cluster.partitions)
    first = next(number for number, each in enumerate(partitions) if each.is_default)
    if "tiers" in fields:
        partitions = [replace(each, tier=1 + (number > 0)) for number, each in enumerate(partitions)]
    names = {"state": "state", "default": "is_default", "kinds": "kinds"}
    of_partition = {name: fields[key] for key, name in names.items() if key in fields}
    partitions[first] = replace(partitions[first], **of_partition)
    more = {key: value for key, value in fields.items() if key in ("accounts", "unknown", "mpi")}
    return replace(
        cluster, settings={**cluster.settings, **settings}, partitions=tuple(partitions), **more
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_recorded_clusters(
    name: str, recorded: Callable[[str], LiveCluster], golden: Callable[[str, str], None]
) -> None:
    golden(f"doctor/{name}.txt", shown(checked(recorded(name), SITE)))


def test_each_thing_that_is_wrong_is_named_and_nothing_else(
    recorded: Callable[[str], LiveCluster], golden: Callable[[str, str], None]
) -> None:
    good = recorded("typed")
    good = replace(good, settings={**good.settings, "PreemptType": "preempt/none"})
    assert {each.state for each in checked(good, SITE)} == {State.OK}
    text = ""
    for title, (settings, fields, of_site) in WRONG.items():
        found = checked(changed(good, settings, fields), msgspec.structs.replace(SITE, **of_site))
        bad = [each for each in found if each.state is not State.OK]
        text += f"# {title}\n{shown(bad)}"
    down = [each for each in checked(good, SITE, "Connection refused") if each.state is not State.OK]
    text += f"# slurmdbd is down\n{shown(down)}"
    golden("doctor/cluster.txt", text)


def test_a_profile_that_differs(recorded: Callable[[str], LiveCluster]) -> None:
    site = msgspec.structs.replace(SITE, mpi="pmix_v9", default_partition="gone", gpu_spelling="none")
    found = cluster_checks.check_profile(Profile(Path("/sites/hpc1.toml"), site, {}, ()), recorded("typed"))
    assert found.state is State.WARNING
    assert found.found == (
        "/sites/hpc1.toml: default-partition: gone, cluster: cpu; gpu-spelling: none, cluster: GPUs are a gres"
    )
    assert found.do == "slurm-tf sites check hpc1"
