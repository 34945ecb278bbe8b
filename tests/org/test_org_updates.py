"""Changes of organizations before any is made: what sacctmgr is to do, and what is refused.

On a real Slurm: tests/cluster.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, OrganizationError, UsageError
from slurm_tf.org import org_file, org_updates
from slurm_tf.org.org_updates import Site
from slurm_tf.slurm import associations, live_cluster
from tests.org.recorded_cluster import RecordedCluster

SAFE = "AccountingStorageEnforce = associations,limits,qos,safe"


@pytest.fixture
def admin(cluster: RecordedCluster, monkeypatch: pytest.MonkeyPatch) -> RecordedCluster:
    """Return the cluster, for an administrator."""
    monkeypatch.setattr(associations, "me", lambda: "root")
    return cluster


def argvs(update: org_updates.Update) -> list[str]:
    return [" ".join(each.argv) for each in update.changes]


@pytest.mark.usefixtures("admin")
def test_what_sacctmgr_is_told() -> None:
    site = org_updates.ask()
    options: dict[str, str | bool] = {"gpus": "a100:8", "gpu-hours": "1000", "no-decay": True, "max-time": "1-0"}
    assert argvs(org_updates.create(site, "chemistry", "root", options)) == [
        "add qos name=chemistry Flags=NoDecay GrpTRESMins=gres/gpu=60000",
        "add account name=chemistry cluster=sandbox parent=root Description=chemistry Organization=chemistry "
        "GrpTRES=gres/gpu=8,gres/gpu:a100=8 MaxWall=1-00:00:00 QOS=chemistry DefaultQOS=chemistry",
    ]
    assert argvs(org_updates.set_limits(site, "physics", "", {"gpus": "UNLIMITED", "mem": "1T"})) == [
        "modify account where name=physics cluster=sandbox set GrpTRES=gres/gpu=-1,mem=1T"
    ]
    assert argvs(org_updates.set_limits(site, "physics", "", {"gpus": "4"})) == []
    assert argvs(org_updates.set_limits(site, "physics", "alice", {"gpus": "3"})) == [
        "modify user where name=alice account=physics cluster=sandbox set GrpTRES=gres/gpu=3"
    ]
    assert argvs(org_updates.set_limits(site, "speech", "", {"gpus-per-user": "UNLIMITED", "no-decay": False})) == [
        "modify qos where name=speech set Flags-=NoDecay GrpTRESMins=gres/gpu=-1 MaxTRESPerUser=gres/gpu=-1",
        "modify account where name=speech cluster=sandbox set GrpTRESMins=gres/gpu=60",
    ]


@pytest.mark.usefixtures("admin")
def test_who_loses_the_default_account_gets_another() -> None:
    assert argvs(org_updates.remove(org_updates.ask(), "vision", "alice")) == [
        "modify user where name=alice cluster=sandbox set DefaultAccount=physics",
        "delete user where name=alice account=vision cluster=sandbox",
    ]


@pytest.mark.usefixtures("admin")
def test_an_organization_of_an_organization() -> None:
    site = org_updates.ask()
    with pytest.raises(UsageError, match="organization physics has others below it: lasers"):
        org_updates.remove(site, "physics")
    with pytest.raises(UsageError, match="found no organization 'x', the parent of y"):
        org_updates.create(site, "y", "x", {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Physics", "small letters"),
        ("a,b", "small letters"),
        ("a b", "small letters"),
        ("-i", "small letters"),
        ("a\nb", "small letters"),
        ("", "small letters"),
        ("a" * 65, "at most 64"),
        ("root", "root is the account above all others"),
        ("physics", "there is an organization physics"),
    ],
)
@pytest.mark.usefixtures("admin")
def test_names_that_are_none(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        org_updates.create(org_updates.ask(), name, "root", {})


@pytest.mark.usefixtures("admin")
def test_users_that_are_none() -> None:
    site = org_updates.ask()
    with pytest.raises(UsageError, match="found no user 'nobody-here' on this machine"):
        org_updates.add_user(site, "nobody-here", "physics", {})
    with pytest.raises(UsageError, match="user alice is in organization physics"):
        org_updates.add_user(site, "alice", "physics", {})
    with pytest.raises(UsageError, match="user bob is not in organization physics"):
        org_updates.remove(site, "physics", "bob")


@pytest.mark.parametrize(
    ("line", "changed", "words"),
    [
        (SAFE, "AccountingStorageEnforce = associations,limits", "needed limits and safe"),
        (SAFE, "AccountingStorageEnforce = none", "needed limits and safe"),
        (",gres/gpu,gres/gpu:a100", "", "without gres/gpu and gres/gpu:a100"),
        (",gres/gpu:a100", "", "without gres/gpu:a100; needed every TRES that is limited"),
        ("accounting_storage/slurmdbd", "accounting_storage/none", "AccountingStorageType is accounting_storage/none"),
    ],
)
def test_a_cluster_that_would_not_hold_jobs_to_limits(
    admin: RecordedCluster, line: str, changed: str, words: str
) -> None:
    site = org_updates.ask()
    admin.changes[line] = changed
    site = replace(site, settings=live_cluster.ask_settings())
    with pytest.raises(OrganizationError, match=words):
        org_updates.create(site, "chemistry", "root", {"gpus": "a100:2"})
    org_updates.create(site, "chemistry", "root", {})  # without limits


def test_who_may_not(cluster: RecordedCluster) -> None:
    site = org_updates.ask()
    with pytest.raises(OrganizationError, match=r"alice may not do it: add organization x.*an operator of Slurm"):
        org_updates.create(site, "x", "root", {})
    # she is the coordinator of physics
    assert org_updates.set_limits(site, "physics", "alice", {"gpus": "3"}).changes
    with pytest.raises(OrganizationError, match="an operator of Slurm or coordinator of speech"):
        org_updates.set_limits(site, "speech", "bob", {"gpus": "3"})
    cluster.changes["alice|vision|None|"] = "alice|vision|Operator|"
    site = org_updates.ask()
    assert org_updates.create(site, "x", "root", {}).changes
    with pytest.raises(OrganizationError, match="an administrator of Slurm"):
        org_updates.create(site, "x", "root", {"deny-on-limit": True})


def test_the_qos_of_others_is_not_taken(admin: RecordedCluster) -> None:
    admin.changes["speech|DenyOnLimit,NoDecay"] = "chemistry|DenyOnLimit"
    with pytest.raises(OrganizationError, match="there is a QOS chemistry that is not the organization's"):
        org_updates.create(org_updates.ask(), "chemistry", "root", {"deny-on-limit": True})


@pytest.mark.usefixtures("admin")
def test_jobs_in_the_queue_of_who_goes() -> None:
    update = org_updates.remove(org_updates.ask(), "physics", "alice")
    assert update.jobs == ("1", "3", "5")
    with pytest.raises(OrganizationError, match="jobs are in the queue of who is to be removed: 1, 3, 5"):
        org_updates.make(update, False, print)


def read(site: Site, path: Path, text: str) -> list[str]:
    path.write_text(text)
    return argvs(org_updates.plan(site, org_file.read(path, site.found)))


@pytest.mark.usefixtures("admin")
def test_a_file_says_all_limits(tmp_path: Path) -> None:
    site, file = org_updates.ask(), tmp_path / "tree.toml"
    same = '[organizations.physics]\ngpus = 4\ncpus = 8\nmem = "8G"\ngpu-hours = 100\nmax-time = "1-0"\n'
    assert read(site, file, f"{same}users.alice.gpus = 2\n") == []
    assert read(site, file, f"{same}users.alice = {{}}\n") == [
        "modify user where name=alice account=physics cluster=sandbox set GrpTRES=gres/gpu=-1"
    ]
    # a child before its parent
    assert read(site, file, '[organizations.b]\nparent = "a"\n[organizations.a]\n') == [
        "add account name=a cluster=sandbox parent=root Description=a Organization=a",
        "add account name=b cluster=sandbox parent=a Description=b Organization=b",
    ]
    gone = org_file.not_in_file(site.found, org_file.read(file, site.found))
    assert gone.organizations == ("nlp", "physics", "lasers", "speech", "vision")
    assert gone.users == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found no organization"),
        ("[organizations]\n", "found no organization"),
        ("[organizations.a]\ngpu = 4\n", "did you mean 'gpus'"),
        ("[organizations.a]\ngpus = true\n", "organizations.a.gpus: found True"),
        ('[organizations.a]\ngpus = "4x:"\n', "organizations.a: gpus: found '4x:'"),
        ("[organizations.a]\nno-decay = 1\n", "needed true or false"),
        ("[organizations.a.users.daemon]\nno-decay = true\n", "found the key 'no-decay'"),
        ('[organizations."A B"]\n', "small letters"),
        ('[organizations.a]\nparent = "a"\n', "organization a would be below itself"),
        ("[organizations", "TOML"),
    ],
)
@pytest.mark.usefixtures("admin")
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=words.replace("[", r"\[")):
        read(org_updates.ask(), tmp_path / "tree.toml", text)
