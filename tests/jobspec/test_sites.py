"""Site profiles: those that come with slurm-tf, and what a wrong one gives."""

import os
from pathlib import Path

import msgspec
import pytest

from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import layers, sites
from tests.conftest import ROOT

PACKAGED = sorted(path.stem for path in (ROOT / "site_configs").glob("*.toml"))
# keys whose absence means "unknown", which TOML cannot say: they stand in comments
OPTIONAL = {"grace-time", "node-mtbf", "prices.cpu-hour", "prices.gpu-hour"}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_profiles_say_every_key(name: str) -> None:
    path = ROOT / "site_configs" / f"{name}.toml"
    said = layers.read_toml(path)
    fields = {each.encode_name for each in msgspec.structs.fields(sites.Site)}
    assert fields - set(said) <= OPTIONAL
    assert sites.load(name).description


def test_generic_shows_the_optional_keys_in_comments() -> None:
    text = (ROOT / "site_configs" / "generic.toml").read_text()
    for key in OPTIONAL:
        assert f"# {key.rpartition('.')[2]} = " in text


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
