"""Site profiles: those that come with slurm-tf, and what a wrong one gives."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import sites
from slurm_tf.jobspec.configuration import Job
from slurm_tf.slurm import slurm_conf
from tests.conftest import ROOT

PACKAGED = sorted(path.stem for path in (ROOT / "site_configs").glob("*.toml"))
# keys whose absence means "unknown", which TOML cannot say: they stand in comments
OPTIONAL = {"grace-time", "inherit", "node-mtbf", "prices.cpu-hour", "prices.gpu-hour", "scratch-size"}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_profiles_say_every_key(name: str) -> None:
    fields = {each.encode_name for each in msgspec.structs.fields(sites.Site)}
    assert fields - set(sites.read(name).origins) <= {*OPTIONAL, "recognise"}
    assert sites.load(name).description


def test_generic_shows_the_optional_keys_in_comments() -> None:
    text = (ROOT / "site_configs" / "generic.toml").read_text()
    for key in OPTIONAL:
        assert f"{key.rpartition('.')[2]} = " in text


def test_local_and_generic_are_there() -> None:
    assert {"local", "generic"} <= set(PACKAGED)
    assert sites.load("local").scheduler == "local"
    assert sites.load("generic").scheduler == "slurm"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("port = ''", "port", "did you mean 'ports'?"),
        ("ports = '1-2'", "ports", ""),
        ("ports = '20000-20010'\ncoordinator-ports = '20010-20020'", "coordinator-ports", ""),
        ("[partitions.gpu]\nmax-tim = 1", "partitions.gpu.max-tim", "did you mean 'max-time'?"),
        ("[partitions.gpu]\nmax-time = 'x'", "partitions.gpu.max-time", ""),
        ("[partitions.gpu]\nmem-per-node = 1.5", "partitions.gpu.mem-per-node", ""),
        ("[recognise]\nhostnames = ['(']", "recognise.hostnames", ""),
        ("modules = ['a\\nb']".replace("'", '"'), "modules[0]", ""),
        ("preempt-mode = 'requeue'", "preempt-mode", ""),
        ("scratch-size = '1.5T'", "scratch-size", ""),
        ("interface = 'ib0'\nhost-suffix = '-ib0'", "host-suffix", ""),
        ("env = { 'A B' = 'x' }", "env.A B", ""),
        ("[env]\nSLURM_JOB_ID = '1'", "env.SLURM_JOB_ID", ""),
        ("thread-variables = ['OMP NUM']", "thread-variables", ""),
        ("required = ['acount']", "required[0]", "did you mean 'account'?"),
        ("inherit = 3", "inherit", ""),
        ("inherit = 'genric'", "inherit", "did you mean 'generic'?"),
        ("inherit = '../generic'", "inherit", ""),
    ],
)
def test_a_wrong_profile(text: str, key: str, hint: str, tmp_path: Path) -> None:
    name = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        sites.load(name)
    assert error.value.where == f"{name}: {key}"
    assert hint in error.value.do


def test_an_unknown_profile_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no site profile 'genric'.*\nHINT: did you mean 'generic'"):
        sites.load("genric")


def test_a_profile_that_others_write_is_refused(tmp_path: Path) -> None:
    name = write(tmp_path, "")
    os.chmod(name, 0o666)
    with pytest.raises(ConfigError, match="others can change it"):
        sites.load(name)


def test_a_site_is_recognised_by_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site_configs"
    folder.mkdir()
    (folder / "uni.toml").write_text("[recognise]\ncluster = 'hpc1'")
    (folder / "lab.toml").write_text("[recognise]\nhostnames = ['never[0-9]', '.*']")
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
    conf = tmp_path / "slurm.conf"
    conf.write_text("# x\nclustername=hpc1 # y\n")
    assert sites.recognise({"SLURM_CLUSTER_NAME": "hpc1"}) == "uni"
    assert sites.recognise({"SLURM_CONF": str(conf)}) == "uni"
    # where slurmctld hands slurm.conf out, it is not in /etc
    monkeypatch.setattr(slurm_conf, "_PATHS", (tmp_path / "etc" / "slurm.conf", conf))
    assert sites.recognise({}) == "uni"
    assert sites.recognise({"SLURM_CONF": "/nowhere"}) == "lab"
    (folder / "lab.toml").unlink()
    assert sites.recognise({"SLURM_CONF": "/nowhere"}) == "generic"


def test_a_profile_that_cannot_be_used_hides_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site_configs"
    folder.mkdir()
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path))
    (folder / "uni.toml").write_text("[recognise]\ncluster = 'hpc1'")
    (folder / "lab.toml").write_text("[recognise")
    assert sites.recognise({"SLURM_CLUSTER_NAME": "hpc1"}) == "uni"
    with pytest.raises(ConfigError, match=f"{folder}/lab.toml: "):
        sites.recognise({"SLURM_CLUSTER_NAME": "hpc2"})


def test_paths_are_expanded_as_a_shell_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does so in --site FILE, not in --site=FILE nor within quotes."""
    (tmp_path / "own" / "site_configs").mkdir(parents=True)
    for path in (tmp_path / "a.toml", tmp_path / "own" / "site_configs" / "uni.toml"):
        path.write_text(f"description = '{path.stem}'")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OWN", str(tmp_path / "own"))
    monkeypatch.delenv("NOT_SET", raising=False)
    for listed in ("~/own", "/nowhere:$OWN"):
        monkeypatch.setenv("SLURM_TF_PATH", listed)
        assert (sites.load("~/a.toml").description, sites.load("uni").description) == ("a", "uni")
    monkeypatch.setenv("SLURM_TF_PATH", "$NOT_SET/own")
    with pytest.raises(UsageError, match=r"found '.NOT_SET/own'; needed the variable NOT_SET, which is not set here"):
        sites.load("uni")


def test_a_later_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "site_configs").mkdir(parents=True)
        (tmp_path / name / "site_configs" / "generic.toml").write_text(f"description = '{name}'")
    monkeypatch.setenv("SLURM_TF_PATH", f"{tmp_path}/a:{tmp_path}/b")
    assert sites.load("generic").description == "b"


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write profiles, each as FOLDER_NAME="text"; return the folder that holds the folders of the search path."""

    def write(**texts: str) -> Path:
        folders = sorted({each.partition("_")[0] for each in texts})
        monkeypatch.setenv("SLURM_TF_PATH", ":".join(str(tmp_path / each) for each in folders))
        for each, text in texts.items():
            folder, _, name = each.partition("_")
            path = tmp_path / folder / "site_configs" / f"{name}.toml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


UNI = """
description = "the university"
exclusive = true
modules = ["cuda"]
recognise.cluster = "hpc1"
[partitions.gpu]
max-time = "1-0"
max-nodes = 16
[env]
A = "1"
[job]
account = "all"
time = "1:00:00"
"""
GROUP = """
inherit = "uni"
modules = ["cuda", "nccl"]
partitions.gpu.max-nodes = 4
env.B = "2"
job.account = "vision"
"""


def test_a_profile_inherits_another_key_by_key(profiles: Callable[..., Path], load: Callable[..., Job]) -> None:
    folder = profiles(a_uni=UNI, b_group=GROUP, b_student="inherit = 'group'\nexclusive = false\njob.time = 5")
    uni, group, student = (
        folder / file
        for file in ("a/site_configs/uni.toml", "b/site_configs/group.toml", "b/site_configs/student.toml")
    )
    profile = sites.read("student")
    assert (profile.site.description, profile.site.exclusive) == ("the university", False)
    assert (profile.site.modules, profile.site.env) == (("cuda", "nccl"), {"A": "1", "B": "2"})
    assert profile.site.partitions == {"gpu": sites.Partition(max_time="1-0", max_nodes=4)}
    # what it is recognised by is not inherited: it would be the machine's as well
    assert profile.site.recognise == sites.Recognise()
    assert sites.recognise({"SLURM_CLUSTER_NAME": "hpc1"}) == "uni"
    origins = {key: Path(profile.origins[key]) for key in ("description", "partitions.gpu.max-nodes", "exclusive")}
    assert origins == {"description": uni, "partitions.gpu.max-nodes": group, "exclusive": student}
    text = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n'
    job = load(text, site="student")
    assert (job.spec.account, job.origins["account"]) == ("vision", "site group: job")
    assert (job.spec.time, job.origins["time"]) == (5, "site student: job")


def test_an_error_names_the_file_that_has_the_value(profiles: Callable[..., Path]) -> None:
    folder = profiles(a_uni="ports = '1-2'\nmodules = ['a']\n", b_group="inherit = 'uni'\nmpi = 'pmi2'")
    with pytest.raises(ConfigError) as error:
        sites.load("group")
    assert error.value.where == f"{folder}/a/site_configs/uni.toml: ports"


def test_of_its_own_name_a_profile_inherits_that_of_an_earlier_folder(
    profiles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = profiles(a_uni=UNI, b_uni="inherit = 'uni'\nexclusive = false")
    monkeypatch.chdir(folder / "b" / "site_configs")
    for name in ("uni", "uni.toml"):
        assert (sites.load(name).exclusive, sites.load(name).modules) == (False, ("cuda",))
    (folder / "a" / "site_configs" / "uni.toml").unlink()
    with pytest.raises(ConfigError, match=r"b/site_configs/uni.toml: inherit: no site profile 'uni'; needed one of "):
        sites.load("uni")


def test_profiles_that_inherit_each_other(profiles: Callable[..., Path]) -> None:
    profiles(a_one="inherit = 'two'", a_two="inherit = 'three'", a_three="inherit = 'one'")
    with pytest.raises(ConfigError, match=r"three.toml: inherit: it inherits itself: .*one.*-> .*two.*-> .*-> .*one"):
        sites.load("one")


def test_a_later_folders_profile_is_the_machines(profiles: Callable[..., Path]) -> None:
    profiles(a_alpha="recognise.cluster = 'hpc1'", b_omega="recognise.cluster = 'hpc1'")
    assert sites.recognise({"SLURM_CLUSTER_NAME": "hpc1"}) == "omega"
