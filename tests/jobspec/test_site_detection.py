"""The profile that is written from what a cluster says, and what differs once one of the two has changed."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import site_comparison, site_detection, sites
from slurm_tf.jobspec.plan import Plan
from slurm_tf.slurm import live_cluster
from slurm_tf.slurm.live_cluster import LiveCluster
from tests.conftest import ROOT
from tests.live_clusters import NAMES, play

GOLDEN = ROOT / "tests" / "golden" / "sites"
GPUS = {"gpu-a100": "a100:3"}
JOB = """
name = "a"
strategy = "single"
command = ["x"]
time = 60
[roles.worker]
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LiveCluster]:
    """Return what a recorded cluster says of itself."""

    def ask(name: str, refused: str = "") -> LiveCluster:
        play(name, monkeypatch, refused)
        return live_cluster.ask()

    return ask


@pytest.fixture
def detected(cluster: Callable[..., LiveCluster], tmp_path: Path) -> Callable[..., str]:
    """Write the profile of a recorded cluster, with lines of it replaced; return its path."""

    def write(name: str, *changes: tuple[str, str]) -> str:
        path = tmp_path / "detected.toml"
        text = site_detection.profile(cluster(name), GPUS if name == "no-gres" else {})
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", NAMES)
def test_golden_profiles(name: str, detected: Callable[..., str], request: pytest.FixtureRequest) -> None:
    text, golden = Path(detected(name)).read_text(), GOLDEN / f"{name}.toml"
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), "if it is meant: pytest --update-golden, and read the difference"
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_a_detected_profile_is_as_its_cluster(
    name: str, detected: Callable[..., str], cluster: Callable[..., LiveCluster]
) -> None:
    assert site_comparison.compare(sites.read(detected(name)), cluster(name)) == []


@pytest.mark.parametrize(
    ("name", "role", "message"),
    [
        ("no-gres", "partition = 'gpu-a100'\ngpus-per-task = 'a100:3'", ""),
        ("no-gres", "partition = 'gpu-a100'\ngpus-per-task = 'a100:4'", "at most 3, the limit of partition 'gpu-a100'"),
        ("no-gres", "gpus-per-task = 1", "needed a partition with gpus-per-node in the profile of site"),
        ("typed", "partition = 'gpu'\ngpus-per-task = '1g.5gb:4'\nconstraint = 'a100-80g'", ""),
        ("typed", "partition = 'gpu'\ngpus-per-task = '2g.10gb:1'", "needed of type a100 or 1g.5gb"),
        ("typed", "partition = 'gpu'\nconstraint = 'vram80'", "needed a100 or a100-80g or intel, the features of"),
        (
            "exclusive",
            "partition = 'qgpu_preempt'\nmem = '193G'",
            "at most 196608, the limit of partition 'qgpu_preempt'",
        ),
    ],
)
def test_a_detected_profile_checks_jobs(
    name: str, role: str, message: str, detected: Callable[..., str], fit: Callable[..., Plan]
) -> None:
    if not message:
        assert fit(JOB + role, site=detected(name)).components
        return
    with pytest.raises(ConfigError, match=message):
        fit(JOB + role, site=detected(name))


def test_what_does_not_answer_stands_there_as_a_comment(cluster: Callable[..., LiveCluster]) -> None:
    text = site_detection.profile(cluster("typed", "sacctmgr"), {})
    why = "sacctmgr: error: no (sacctmgr ended with exit code 1)"
    assert f"\n# accounts: {why}\n# qos: {why}\n" in text
    assert "\n# mpi: srun --mpi=list: srun: error: no (srun" in site_detection.profile(cluster("typed", "srun"), {})


def test_preemption_by_qos_is_not_compared_without_accounting(
    cluster: Callable[..., LiveCluster], detected: Callable[..., str]
) -> None:
    profile = sites.read(detected("typed"))
    assert site_comparison.compare(profile, cluster("typed", "sacctmgr")) == []


def test_a_host_by_which_the_profile_is_recognised(
    cluster: Callable[..., LiveCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site_configs"
    folder.mkdir()
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
    (folder / "uni.toml").write_text(site_detection.profile(cluster("typed"), {}, "login1.uni+x.edu"))
    for host, name in (("login1.uni+x.edu", "uni"), ("login1.uniix.edu", "generic")):
        monkeypatch.setattr(socket, "getfqdn", lambda host=host: host)
        assert sites.recognise({"SLURM_CONF": "/nowhere"}) == name


def test_a_partition_without_gpus_beside_others(cluster: Callable[..., LiveCluster]) -> None:
    found = cluster("typed")
    cpu, gpu = found.partitions
    bare = replace(cpu, name="c p\u00fc", kinds=tuple(replace(kind, gpus=(), disk=1000) for kind in cpu.kinds))
    larger = tuple(replace(gpu.kinds[0], cpus=cpus, disk=2048) for cpus in (8, 64))
    mixed = replace(gpu, kinds=larger, state="DOWN")
    site = site_detection.site(replace(found, partitions=(bare, mixed)), {})
    assert (site.partitions["c p\u00fc"].gpus_per_node, site.scratch_size) == (0, "1000M")
    assert site.partitions["gpu"].cpus_per_node == 64
    text = site_detection.profile(replace(found, partitions=(bare, mixed)), {})
    assert '\n[partitions."c p\u00fc"]\n' in text
    assert "# a job that states no memory gets DefMemPerNode=4000; its state is DOWN\n" in text
    assert "cpus-per-node = 64  # the most that a node has: it has nodes of 2 kinds\n" in text


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({"PreemptType": "preempt/none", "PreemptMode": "OFF"}, "OFF"),
        ({"PreemptMode": "GANG,SUSPEND"}, "SUSPEND"),
        ({"PreemptMode": "REQUEUE"}, "REQUEUE"),
        ({"PreemptMode": "WITHIN"}, "UNKNOWN"),
    ],
)
def test_the_mode_of_preemption(settings: dict[str, str], mode: str, cluster: Callable[..., LiveCluster]) -> None:
    found = cluster("typed")  # whose QOS differ, so that slurm.conf's mode is the answer
    preemption = site_detection.preemption_of(replace(found, settings={**found.settings, **settings}))
    assert preemption.mode == mode
    assert (preemption.grace_time is None) == (mode == "OFF")


CHANGES = (
    ('cluster = "sandbox"', 'cluster = "other"'),
    ('default-partition = "cpu"', 'default-partition = "gpu"'),
    ('gpu-spelling = "as-asked"', 'gpu-spelling = "none"'),
    ('preempt-mode = "REQUEUE"', 'preempt-mode = "OFF"'),
    ('grace-time = "00:00:05"', 'grace-time = "1"'),
    ('mpi = "pmix"', 'mpi = "pmix_v5"'),
    ('accounts = ["vision"]\n# those', 'accounts = ["gone", "nlp"]\n# those'),
    ('"gpuq", "normal"', '"gone", "normal"'),
    ("[partitions.cpu]", "[partitions.old]"),
    ('max-time = "1-00:00:00"', 'max-time = "2-00:00:00"\nmax-nodes = 4'),
    ("cpus-per-node = 72", "cpus-per-node = 16"),
    ('mem-per-node = "512G"', 'mem-per-node = "524287"'),
    ('"a100-80g", "intel"', '"intel"'),
    ('qos = ["normal", "urgent"]', 'qos = ["normal"]'),
)
DIFFERENT = [
    ("recognise.cluster", "other", "sandbox"),
    ("default-partition", "gpu", "cpu"),
    ("gpu-spelling", "none", "GPUs are a gres"),
    ("preempt-mode", "OFF", "REQUEUE"),
    ("grace-time", "00:01:00", "00:00:05"),
    ("mpi", "pmix_v5", "pmix, none, cray_shasta, pmi2, pmix_v4"),
    ("accounts", "gone, nlp", "vision"),
    (
        "qos",
        "evictable, gone, normal, scavenge, slow-scavenge, strict, urgent",
        "evictable, gpuq, normal, scavenge, slow-scavenge, strict, urgent",
    ),
    ("partitions.old", "is there", "none"),
    ("partitions.gpu.max-time", "2-00:00:00", "1-00:00:00"),
    ("partitions.gpu.max-nodes", "4", "no limit"),
    ("partitions.gpu.cpus-per-node", "16", "72"),
    ("partitions.gpu.mem-per-node", "524287M", "512G"),
    ("partitions.gpu.features", "a100, intel", "a100, a100-80g, intel"),
    ("partitions.gpu.accounts", "nlp", "vision"),
    ("partitions.gpu.qos", "normal", "normal, urgent"),
    ("partitions.cpu", "none", "is there"),
]


def test_each_difference_is_named_with_both_values(
    detected: Callable[..., str], cluster: Callable[..., LiveCluster]
) -> None:
    path = detected("typed", *CHANGES, ('accounts = ["vision"]', 'accounts = ["nlp"]'))
    found = site_comparison.compare(sites.read(path), cluster("typed"))
    assert [(each.key, each.profile, each.cluster) for each in found] == DIFFERENT
    assert {each.where for each in found} == {path}


@pytest.mark.parametrize(
    ("name", "change", "difference"),
    [
        ("exclusive", ("exclusive = true", "exclusive = false"), ("exclusive", "false", "true")),
        ("no-gres", ('gpu-spelling = "none"', 'gpu-spelling = "gres"'), ("gpu-spelling", "gres", "no gres named gpu")),
        (
            "exclusive",
            ('gpus-per-node = "v100:4"', 'gpus-per-node = "v100:2,v100:1"'),
            ("partitions.qgpu.gpus-per-node", "v100:3", "v100:4"),
        ),
    ],
)
def test_one_difference(
    name: str,
    change: tuple[str, str],
    difference: tuple[str, str, str],
    detected: Callable[..., str],
    cluster: Callable[..., LiveCluster],
) -> None:
    found = site_comparison.compare(sites.read(detected(name, change)), cluster(name))
    assert (found[0].key, found[0].profile, found[0].cluster) == difference


def test_what_a_profile_does_not_say_is_no_difference(cluster: Callable[..., LiveCluster], tmp_path: Path) -> None:
    for name in NAMES:
        differences = site_comparison.compare(sites.read("generic"), cluster(name))
        assert [each.key for each in differences] == (["exclusive"] if name == "exclusive" else [])
    path = tmp_path / "uni.toml"
    path.write_text(
        "[gpu-types.volta]\nname = 'v100'\n"
        "[partitions.qgpu]\ngpus-per-node = 'volta:4'\n[partitions.qgpu_preempt]\nmax-time = 1440\n"
    )
    differences = site_comparison.compare(sites.read(str(path)), cluster("exclusive"))
    assert [each.key for each in differences] == ["exclusive"]
