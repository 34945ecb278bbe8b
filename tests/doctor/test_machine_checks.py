"""What is said of a machine: a good one, and with one thing wrong each."""

from collections.abc import Callable
from dataclasses import replace

from slurm_tf.doctor import findings, machine_checks
from slurm_tf.doctor.findings import Finding, State
from slurm_tf.errors import ConfigError, ConfigGroupError, SlurmError
from slurm_tf.run.machine_facts import FolderFacts, MachineFacts, Quota, ResourceLimit
from tests.doctor.shown import shown

GIB = 1 << 30
LIMIT = ResourceLimit(1 << 20, 1 << 20)
UNLIMITED = ResourceLimit(None, None)
HOME = FolderFacts("/home/alice", writable=True, size=100 * GIB, free=50 * GIB, files_free=10**6, kind="nfs4")
GOOD = MachineFacts(
    host="login1",
    user=20001,
    python=(3, 11, 2),
    limits={"NOFILE": LIMIT, "NPROC": LIMIT, "MEMLOCK": UNLIMITED, "STACK": LIMIT, "AS": UNLIMITED},
    proxies={},
    folders={"home": HOME},
    quota=Quota(10 * GIB, 20 * GIB, 1000, 0),
    quota_problem="",
    memory_limit=None,
    has_avx=True,
    fabrics=("mlx5_0",),
    local_ports=(32768, 60999),
)


def limits(**changed: int) -> MachineFacts:
    return replace(GOOD, limits={**GOOD.limits, **{name: ResourceLimit(n, n) for name, n in changed.items()}})


def home(**changed: object) -> MachineFacts:
    return replace(GOOD, folders={"home": replace(HOME, **changed)})  # type: ignore[arg-type]


MACHINES = {
    "good": GOOD,
    "few open files": limits(NOFILE=1023),
    "very few open files": limits(NOFILE=200),
    "few processes": limits(NPROC=1000),
    "locked memory, with InfiniBand": limits(MEMLOCK=8 << 20),
    "locked memory, without": replace(limits(MEMLOCK=8 << 20), fabrics=()),
    "a small stack": limits(STACK=512 << 10),
    "a small address space": limits(AS=8 * GIB),
    "a proxy": replace(GOOD, proxies={"http_proxy": "http://proxy:3128"}),
    "a proxy that is not for the nodes": replace(GOOD, proxies={"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}),
    "no home": home(error="No such file or directory"),
    "a home that cannot be written": home(writable=False),
    "little room": home(free=30 << 20),
    "no room": home(free=0),
    "few files": home(files_free=12),
    "no files": home(files_free=0),
    "a file system without a number of files": home(files_free=None),
    "a quota that is nearly used up": replace(GOOD, quota=Quota(0, 0, 96, 100)),
    "a quota that is used up": replace(GOOD, quota=Quota(21 * GIB, 20 * GIB, 96, 100)),
    "no quota": replace(GOOD, quota=None, quota_problem="there is no program quota or lfs to ask"),
    "an old processor": replace(GOOD, has_avx=False),
    "no x86": replace(GOOD, has_avx=None),
    "an old Python": replace(GOOD, python=(3, 8, 10)),
}


def checked(facts: MachineFacts) -> list[Finding]:
    return [
        *machine_checks.check_limits(facts),
        machine_checks.check_proxies(facts),
        machine_checks.check_folder("home", facts.folders["home"], "ask your administrators"),
        machine_checks.check_quota(facts),
        machine_checks.check_processor(facts),
        machine_checks.check_python("python3", facts.python),
    ]


def test_each_thing_that_is_wrong_is_named_and_nothing_else(golden: Callable[[str, str], None]) -> None:
    text = ""
    good = {each.check: each for each in checked(GOOD)}
    for title, facts in MACHINES.items():
        different = [each for each in checked(facts) if facts is GOOD or each != good[each.check]]
        text += f"# {title}\n{shown(different)}"
    golden("doctor/machine.txt", text)
    assert {each.state for each in good.values()} == {State.OK}


def test_findings_of_nodes_that_found_the_same_are_one() -> None:
    bad = findings.error("home", "not there", "one", "ask")
    other = findings.unknown("home", "nobody knows")
    by_node = [
        ("node10", findings.ok("home", "50 GiB free")),
        ("node2", findings.ok("home", "49 GiB free")),
        ("node1", bad),
        ("node3", other),
        ("node1", findings.ok("quota", "little used")),
        ("node11", bad),
    ]
    found = findings.of_nodes(by_node)
    assert [(each.check, each.state, each.where, each.found) for each in found] == [
        ("home", State.ERROR, "node[1,11]", "not there"),
        ("home", State.UNKNOWN, "node3", "nobody knows"),
        ("home", State.OK, "node[2,10]", "50 GiB free"),
        ("quota", State.OK, "node1", "little used"),
    ]
    assert findings.has_errors(found)
    assert not findings.has_errors([other])


def test_errors_of_a_job_file_are_named_with_their_keys() -> None:
    first = ConfigError("there is none", "one of a, b", where="/tmp/x/doctor.toml: partition")
    second = ConfigError("found 4", "at most 2", "use two", where="a.toml: roles.worker.gpus-per-task")
    plain = SlurmError("Invalid qos")
    assert findings.failed("x", first, "choose") == Finding(
        "x", State.ERROR, "partition: there is none", "one of a, b", "choose"
    )
    assert findings.failed("x", ConfigGroupError([first, second]), "choose") == Finding(
        "x", State.ERROR, "partition: there is none; roles.worker.gpus-per-task: found 4", "one of a, b; at most 2",
        "use two",
    )  # fmt: skip
    assert findings.failed("x", plain) == Finding("x", State.ERROR, "Invalid qos")
