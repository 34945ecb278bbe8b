"""Organizations and quotas on a real Slurm: an admin makes them with the verbs, and users' jobs meet each limit."""

import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import snippets
from tests.cluster.conftest import require
from tests.cluster.group import Member
from tests.cluster.mix import Mix, iso, move
from tests.cluster.organization_tree import add_members, tree
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import PARTITIONS, QOS, Shape

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

SHAPE = Shape(
    nodes=2,
    partitions=(*PARTITIONS, "wide MaxTime=1-0 QOS=wide"),
    qos=(*QOS, "hour MaxWall=01:00:00", "wide GrpTRES=gres/gpu=6"),
    slurm_conf=("PriorityDecayHalfLife=0", "PriorityUsageResetPeriod=YEARLY", "PrivateData=jobs"),
)
GPU = "gres/gpu"
JOB = """\
name = "digits"
strategy = "single"
command = ["sleep", "600"]
time = "5"
[roles.worker]
gpus = 1
mem = "100M"
"""


@pytest.fixture(scope="module")
def quotas() -> Iterator[Sandbox]:
    """Return a cluster that forgets nothing of what was used."""
    require(SHAPE)
    running = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), SHAPE, bound=True)
    yield running
    running.down()


@pytest.fixture
def user(quotas: Sandbox, tmp_path: Path) -> Iterator[Callable[[str], Member]]:
    """Return a user at work; all jobs are cancelled at the end, and gone."""
    yield lambda name: Member(quotas, name, quotas.shared / f"{tmp_path.name}-{name}")
    for name in ("alice", "bob", "carol"):
        quotas.run("scancel", f"--user={name}", user="root")
    deadline = time.monotonic() + 60
    while quotas.run("squeue", "--noheader", user="root").stdout.strip():
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.fixture
def admin(user: Callable[[str], Member]) -> Member:
    return user("root")


@pytest.fixture
def alice(user: Callable[[str], Member]) -> Member:
    member = user("alice")
    member.write("digits.toml", JOB)
    return member


def sbatch(member: Member, *options: str) -> str:
    """Submit a job of ten minutes without slurm-tf; return its id."""
    argv = ("sbatch", "--parsable", "-n1", "--mem=100M", "--output=/dev/null", "--wrap=sleep 600", "--time=5")
    return member.run(*argv, *options).strip()


def reason(member: Member, job: str) -> str:
    """Return the state of a job, for one that is pending the reason, once Slurm has one."""
    deadline = time.monotonic() + 30
    while True:
        state, _, why = member.run("squeue", "--noheader", f"--jobs={job}", "--format=%T %r").strip().partition(" ")
        if state != "PENDING" or why not in ("None", "Priority", ""):
            return why if state == "PENDING" else state
        assert time.monotonic() < deadline, (state, why)
        time.sleep(0.3)


def refused(member: Member, *words: str) -> str:
    """Submit what is to be refused before sbatch is called; return the message."""
    done = member.type("submit", "digits.toml", *words)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert not list((member.folder / "runs").glob("*")), "a folder of a run that was refused"
    return done.stderr


def shown(member: Member, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = json.loads(member.ok("org", "show", name, "--json"))["organizations"]
    return found


def test_an_admin_gives_two_gpus_and_a_user_asks_for_more(
    admin: Member, alice: Member, user: Callable[[str], Member]
) -> None:
    bob = user("bob")
    admin.ok("org", "create", "physics", "--gpus", "4", "--cpus", "8", "--mem", "4G", "--max-time", "1-0")
    admin.ok("org", "add-user", "alice", "--org", "physics", "--gpus", "2")
    admin.ok("org", "add-user", "bob", "--org", "physics")
    said = refused(alice, "--account=physics", "--set", "roles.worker.gpus=3")
    assert "it asks for 3 GPUs, and you have 2 GPUs in physics at a time (GrpTRES gres/gpu=2): it can never" in said
    assert "it asks for 5 GPUs, and your organization physics has 4 GPUs" in refused_as(bob, 5)
    # two run, the third one waits
    first, second = (alice.submit("digits.toml", "--account=physics", "--name", name) for name in ("one", "two"))
    assert (reason(alice, first), reason(alice, second)) == ("RUNNING", "RUNNING")
    done = alice.type("submit", "digits.toml", "--account=physics", "--name", "three")
    words = "you have 2 GPUs in physics, 2 are in use by run one and run two until about"
    assert done.returncode == 0
    assert words in done.stderr
    assert words in " ".join(alice.ok("status", "three").split())
    assert words in alice.status("three")[0]["waits_for_limit"]
    assert alice.status("one")[0]["waits_for_limit"] is None
    assert "You have 2 GPUs in physics, 2 are in use" in alice.ok("quota")
    # the organization's GPUs: two of alice and two of bob, who waits with another one
    assert reason(bob, sbatch(bob, "--account=physics", "--gpus=2")) == "RUNNING"
    said = bob.type("submit", "digits.toml", "--account=physics", "--name", "four", "--dry-run").stderr
    assert "it would wait: your organization physics has 4 GPUs, 4 are in use by job" in said
    assert "and others" in said  # PrivateData hides who else
    waits = sbatch(bob, "--account=physics", "--gpus=1")
    assert reason(bob, waits) == "AssocGrpGRES"
    assert "unknown" in bob.ok("org", "show", "physics")
    found = shown(admin, "physics")
    assert (found["allocated"][GPU], found["left"][GPU], found["waiting"][GPU], found["waiting_jobs"]) == (4, 0, 2, 2)
    assert {each["name"]: each["allocated"][GPU] for each in found["users"]} == {"alice": 2, "bob": 2}
    # while jobs run nobody goes
    done = admin.type("org", "remove-user", "bob", "--org", "physics")
    assert (done.returncode, "--cancel cancels them first" in done.stderr) == (77, True)
    admin.ok("org", "remove-user", "bob", "--org", "physics", "--cancel", timeout=120)
    assert [each["name"] for each in shown(admin, "physics")["users"]] == ["alice"]
    assert admin.type("org", "remove", "physics").returncode == 77
    admin.ok("org", "remove", "physics", "--cancel", timeout=120)
    assert "physics" not in admin.ok("org", "show")
    # another default account takes the place of one that is gone
    assert alice.run("sacctmgr", "-nP", "show", "user", "alice", "format=DefaultAccount").strip() == "vision"


def refused_as(member: Member, gpus: int) -> str:
    member.write("digits.toml", JOB)
    return refused(member, "--account=physics", "--set", f"roles.worker.gpus={gpus}")


def test_the_most_gpus_of_one_job(admin: Member, alice: Member) -> None:
    admin.ok("org", "create", "perjob", "--gpus-per-job", "2")
    admin.ok("org", "add-user", "alice", "--org", "perjob")
    assert reason(alice, sbatch(alice, "--account=perjob", "--gpus=3")) == "AssocMaxGRESPerJob"
    said = refused(alice, "--account=perjob", "--set", "roles.worker.gpus=3")
    assert "(MaxTRESPJ gres/gpu=2): it can never start" in said


def test_the_longest_job(admin: Member, alice: Member) -> None:
    admin.ok("org", "create", "brief", "--max-time", "1:00:00")
    admin.ok("org", "add-user", "alice", "--org", "brief")
    assert reason(alice, sbatch(alice, "--account=brief", "--time=120")) == "AssocMaxWallDurationPerJobLimit"
    said = refused(alice, "--account=brief", "--time=2:00:00")
    assert "you have 1.0 hours in brief for one job (MaxWallPJ=60): it can never start" in said
    assert reason(alice, sbatch(alice, "--account=brief", "--time=60")) == "RUNNING"


def test_a_limit_on_a_type_of_gpu_cannot_be_passed_without_the_type(admin: Member, alice: Member) -> None:
    admin.ok("org", "create", "typed", "--gpus-per-job", "a100:1")
    admin.ok("org", "add-user", "alice", "--org", "typed")
    for option in ("--gres=gpu:2", "--gpus=2", "--gres=gpu:a100:2"):
        assert reason(alice, sbatch(alice, "--account=typed", option)) == "AssocMaxGRESPerJob", option
    # why: Slurm itself lets the first two pass a limit on the type alone
    admin.run("sacctmgr", "--immediate", "modify", "account", "typed", "set", f"MaxTRES={GPU}=-1")
    assert reason(alice, sbatch(alice, "--account=typed", "--gres=gpu:2")) == "RUNNING"


def test_gpu_hours(admin: Member, alice: Member) -> None:
    said = admin.ok("org", "create", "hours", "--gpu-hours", "0.0167")
    assert "counts from 0 again each year (PriorityUsageResetPeriod)" in said
    admin.ok("org", "add-user", "alice", "--org", "hours")
    assert reason(alice, sbatch(alice, "--account=hours", "--gpus=1")) == "AssocGrpGRESMinutes"
    assert reason(alice, sbatch(alice, "--account=hours", "--gpus=1", "--time=1")) == "RUNNING"
    assert "(GrpTRESMins gres/gpu=1): it can never start" in refused(alice, "--account=hours")


def test_the_gpus_of_each_user_in_the_qos_of_an_organization(admin: Member, alice: Member) -> None:
    admin.ok("org", "create", "fair", "--gpus-per-user", "2")
    admin.ok("org", "add-user", "alice", "--org", "fair")
    assert reason(alice, sbatch(alice, "--account=fair", "--gpus=2")) == "RUNNING"
    assert reason(alice, sbatch(alice, "--account=fair", "--gpus=1")) == "QOSMaxGRESPerUser"
    said = refused(alice, "--account=fair", "--set", "roles.worker.gpus=3")
    assert "you have 2 GPUs in QOS fair at a time (MaxTRESPU gres/gpu=2): it can never start" in said
    # the QOS goes with what only it has
    admin.ok("org", "set", "fair", "--gpus-per-user", "UNLIMITED")
    assert shown(admin, "fair")["qos"] is None
    assert "fair" not in admin.run("sacctmgr", "-nP", "show", "qos", "format=Name").split()


def test_the_longest_job_of_a_qos(alice: Member) -> None:
    job = sbatch(alice, "--account=vision", "--qos=hour", "--time=120")
    assert reason(alice, job) == "QOSMaxWallDurationPerJobLimit"
    said = refused(alice, "--account=vision", "--qos=hour", "--time=2:00:00")
    assert "it asks for 2.0 hours, and QOS hour has 1.0 hours for one job (MaxWallPJ=60): it can never start" in said


def test_users_with_qos_of_their_own_get_that_of_the_organization(admin: Member) -> None:
    # sacctmgr itself would end with 0, and leave the account without the QOS
    admin.ok("org", "set", "nlp", "--deny-on-limit")
    assert shown(admin, "nlp")["flags"] == ["DenyOnLimit"]
    argv = ("sacctmgr", "-nP", "show", "assoc", "where", "account=nlp", "user=bob", "format=QOS,DefaultQOS")
    assert admin.run(*argv).strip() == "nlp|nlp"
    admin.ok("org", "set", "nlp", "--wait-on-limit")
    assert shown(admin, "nlp")["qos"] is None
    assert admin.run(*argv).strip() == "normal|"


def test_the_qos_of_a_partition_may_allow_more(admin: Member, alice: Member) -> None:
    admin.ok("org", "create", "small", "--gpus", "2")
    admin.ok("org", "add-user", "alice", "--org", "small")
    refused(alice, "--account=small", "--set", "roles.worker.gpus=3")
    job = alice.submit("digits.toml", "--account=small", "--set", "roles.worker.gpus=3", "--partition=wide")
    assert reason(alice, job) == "RUNNING"


def test_a_job_that_slurm_itself_denies(admin: Member, alice: Member) -> None:
    admin.ok("org", "create", "strictly", "--gpus", "4", "--deny-on-limit")
    admin.ok("org", "add-user", "alice", "--org", "strictly")
    argv = ("sbatch", "-n1", "--output=/dev/null", "--wrap=true", "--account=strictly", "--gpus=5")
    done = alice.sandbox.run(*argv, user="alice", check=False)
    assert (done.returncode, "Job violates accounting/QOS policy" in done.stderr) == (1, True)
    assert "(GrpTRES gres/gpu=4): it can never start" in refused(
        alice, "--account=strictly", "--set", "roles.worker.gpus=5"
    )


def test_who_may_not_change_organizations(admin: Member, alice: Member) -> None:
    done = alice.type("org", "create", "mine", "--gpus", "99")
    assert done.returncode == 77
    assert "alice may not do it: add organization mine" in done.stderr
    assert "an operator of Slurm" in done.stderr
    admin.ok("org", "create", "team")
    admin.run("sacctmgr", "--immediate", "add", "coordinator", "account=team", "names=alice")
    # a coordinator may add users, and no more
    alice.ok("org", "add-user", "bob", "--org", "team", "--gpus", "1")
    alice.ok("org", "set", "team", "--user", "bob", "--gpus", "2")
    assert shown(alice, "team")["users"][0]["limits"] == {GPU: 2}
    assert alice.type("org", "set", "team", "--gpus", "9").returncode == 77
    alice.ok("org", "remove-user", "bob", "--org", "team")
    # an operator may make organizations, but no QOS
    admin.run("sacctmgr", "--immediate", "modify", "user", "alice", "set", "AdminLevel=Operator")
    alice.ok("org", "create", "second", "--gpus", "1", "--parent", "team")
    done = alice.type("org", "create", "third", "--deny-on-limit")
    assert (done.returncode, "an administrator of Slurm" in done.stderr) == (77, True)
    admin.run("sacctmgr", "--immediate", "modify", "user", "alice", "set", "AdminLevel=None")


def test_a_cluster_that_holds_nobody_to_limits(start: Callable[[Shape], Sandbox]) -> None:
    sandbox = start(Shape(nodes=1, slurm_conf=("AccountingStorageEnforce=associations",)))
    admin = Member(sandbox, "root", sandbox.shared / "admin")
    done = admin.type("org", "create", "physics", "--gpus", "4")
    assert done.returncode == 77
    assert "AccountingStorageEnforce is associations" in done.stderr
    assert "limits and safe" in done.stderr
    assert "physics" not in admin.ok("org", "show")
    done = admin.type("org", "create", "physics")  # an account without limits
    assert done.returncode == 0


def test_what_the_page_types(admin: Member) -> None:
    for snippet in snippets.of("sh admin"):
        for line in snippet.text.splitlines():
            program, *words = shlex.split(line)
            assert program == "slurm-tf"
            admin.ok(*words, timeout=120)
    for snippet in snippets.of("toml organizations"):
        admin.write("page.toml", snippet.text)
        admin.ok("org", "apply", "page.toml")
        assert admin.ok("org", "apply", "page.toml").strip() == "nothing to change"
    for name in ("lasers", "physics"):
        admin.ok("org", "remove", name)


def test_a_tree_of_five_organizations_and_forty_users_is_made_changed_and_removed(admin: Member) -> None:
    organizations, users = 5, 40
    add_members(admin.sandbox, users)
    admin.write("tree.toml", tree(organizations, users, 8))
    others = [each for each in organizations_of(admin) if each not in ("nlp", "vision")]
    planned = admin.ok("org", "apply", "tree.toml", "--dry-run")
    assert planned.count("will add organization group") == organizations
    assert planned.count("will add user member") == users
    assert not [each for each in organizations_of(admin) if each.startswith("group")]
    done = admin.ok("org", "apply", "tree.toml", timeout=300)
    assert done.count("done: add user member") == users
    assert admin.ok("org", "apply", "tree.toml").strip() == "nothing to change"
    found = {each["name"]: each for each in json.loads(admin.ok("org", "show", "--json"))["organizations"]}
    assert sum(len(found[f"group{number}"]["users"]) for number in range(organizations)) == users
    for number in range(organizations):
        group = found[f"group{number}"]
        assert group["limits"] == {GPU: 8, "mem": 65536}
        assert (group["gpu_hours_limit"], group["max_time_hours"]) == (100.0, 48.0)
        assert {str(each["limits"]) for each in group["users"]} == {str({GPU: 2})}
    assert (found["group0"]["flags"], found["group1"]["flags"]) == (["NoDecay"], [])
    # other limits, a user less, and what the file does not have stays
    text = tree(organizations, users, 6).replace(f"member{users - 1} = {{ gpus = 2 }}\n", "")
    admin.write("tree.toml", text)
    changed = admin.type("org", "apply", "tree.toml", timeout=300)
    assert changed.stdout.count("done: change organization group") == organizations
    assert f"stays: member{users - 1} of group{organizations - 1}" in changed.stderr
    for name in others:
        assert f"stays: {name}\n" in changed.stderr
    done = admin.ok("org", "apply", "tree.toml", "--remove", timeout=300)
    assert f"done: remove user member{users - 1} from group{organizations - 1}" in done
    # all is removed that the file does not have
    admin.write("tree.toml", tree(0, 0, 0))
    admin.ok("org", "apply", "tree.toml", "--remove", timeout=300)
    assert sorted(organizations_of(admin)) == ["nlp", "vision"]
    assert admin.run("sacctmgr", "-nP", "show", "user", "format=User").split() == ["alice", "bob", "carol", "root"]
    assert "group0" not in admin.run("sacctmgr", "-nP", "show", "qos", "format=Name").split()


def organizations_of(admin: Member) -> list[str]:
    return [each["name"] for each in json.loads(admin.ok("org", "show", "--json"))["organizations"]]


@pytest.mark.long
def test_sreport_and_org_show_agree(admin: Member, user: Callable[[str], Member]) -> None:
    admin.ok("org", "create", "counted", "--gpu-hours", "100")
    members = {name: user(name) for name in ("alice", "bob")}
    for name, member in members.items():
        admin.ok("org", "add-user", name, "--org", "counted")
        # eight GPUs together, and so more than a minute after the first seconds
        options = ("--account=counted", "--nodes=1", "--gpus-per-node=4", "--wrap=sleep 32", "--output=/dev/null")
        member.run("sbatch", "--ntasks=1", "--mem=100M", "--time=5", *options)
    mix = Mix(admin.sandbox)
    argv = ("sacct", "--allusers", "-nPX", "--accounts=counted", "--format=State")
    mix.wait(lambda: admin.run(*argv).split() == ["COMPLETED"] * 2, "two jobs")
    found = shown(admin, "counted")
    # into hours that are over, which slurmdbd sums up
    ((end,),) = mix.sql("select max(time_end) from sandbox_job_table")
    border = int(end) // 3600 * 3600 - 3600
    move(mix, int(end) - border + 600)
    hours = (iso(border - 2 * 3600), iso(border + 3600))
    admin.sandbox.run("sacctmgr", "--immediate", "roll", *hours, user="root", env={"TZ": "UTC"})
    report = ("sreport", "--noheader", "--parsable2", "-t", "Seconds", "--tres=gres/gpu", "cluster")
    window = (f"start={hours[0]}", f"end={hours[1]}", "accounts=counted")
    text = admin.sandbox.run(*report, "AccountUtilizationByUser", *window, user="root", env={"TZ": "UTC"}).stdout
    seconds = {row[2]: int(row[5]) for row in (line.split("|") for line in text.splitlines())}
    assert min(seconds["alice"], seconds["bob"]) >= 120
    # slurmctld says whole minutes
    assert found["gpu_hours_used"] * 60 == seconds[""] // 60
    assert {each["name"]: each["gpu_hours_used"] * 60 for each in found["users"]} == {
        name: seconds[name] // 60 for name in ("alice", "bob")
    }
    assert found["gpu_hours_left"] == 100 - found["gpu_hours_used"]
    admin.ok("org", "remove", "counted")


def test_a_failure_half_way_says_what_was_done(admin: Member) -> None:
    admin.write("two.toml", "[organizations.aa]\ngpus = 1\n[organizations.bb]\ngpus = 2\n")
    # a sacctmgr that fails once: the site's slurmdbd goes away after the first change
    shim = admin.folder / "bin"
    real = admin.run("sh", "-c", "command -v sacctmgr").strip()
    admin.run("mkdir", str(shim))
    admin.write("bin/sacctmgr", f'#!/bin/sh\ncase "$*" in *add*name=bb*) echo "Connection refused" >&2; exit 1;; esac\n'
                f'exec {real} "$@"\n')  # fmt: skip
    (shim / "sacctmgr").chmod(0o755)
    path = f"{shim}:{admin.environ()['PATH']}"
    done = admin.type("org", "apply", "two.toml", environ={"PATH": path})
    assert done.returncode == 69
    assert "done before it: add organization aa" in done.stderr
    assert "Connection refused" in done.stderr
    assert "done: add organization bb" in admin.ok("org", "apply", "two.toml")
    assert "add organization aa" not in admin.ok("org", "apply", "two.toml")
    for name in ("aa", "bb"):
        admin.ok("org", "remove", name)
