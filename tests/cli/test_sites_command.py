"""The verb sites, as a person types it on clusters that were recorded."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_tf import search_path
from slurm_tf.cli.sites_command import sites
from slurm_tf.errors import SlurmError, SlurmTfError, UsageError
from slurm_tf.slurm import client
from tests.conftest import ROOT
from tests.live_clusters import play

Type = Callable[..., Result]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type `slurm-tf sites WORDS` on the cluster "typed"."""
    play("typed", monkeypatch)

    def run(*words: str) -> Result:
        done = CliRunner().invoke(sites, list(words))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def own(name: str) -> Path:
    return search_path.user_config() / "site_configs" / f"{name}.toml"


def test_detect_check_and_what_has_changed_since(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    done = typed("detect")
    path = own("sandbox")
    assert done.stdout == f"{path}\n"
    assert "sites check sandbox " in done.stderr
    assert path.stat().st_mode & 0o777 == 0o644
    assert "hostnames = [" in path.read_text()  # no slurm.conf here says the cluster's name
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "sandbox")
    said = json.loads(typed("detect", "--force", "--json").stdout)
    assert "hostnames" not in path.read_text()
    assert said == {
        "site": "sandbox", "file": str(path), "cluster": "sandbox", "unknown": [], "text": path.read_text(),
    }  # fmt: skip
    done = typed("check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"slurm-tf: 0 differences between {path} and cluster sandbox\n"
    path.write_text(path.read_text().replace("cpus-per-node = 72", "cpus-per-node = 16"))
    done = typed("check")
    assert done.exit_code == 1
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["KEY", "PROFILE", "CLUSTER"],
        ["partitions.cpu.cpus-per-node", "16", "72"],
        ["partitions.gpu.cpus-per-node", "16", "72"],
    ]
    done = typed("check", "sandbox", "--json")
    assert done.exit_code == 1
    row = {"key": "partitions.cpu.cpus-per-node", "profile": "16", "cluster": "72", "file": str(path)}
    assert json.loads(done.stdout)[0] == row


def test_a_profile_is_replaced_only_if_that_is_said(typed: Type, tmp_path: Path) -> None:
    typed("detect", "uni")
    own("uni").write_text("# mine\n")
    with pytest.raises(UsageError, match=r"uni.toml; needed another NAME or --output\nHINT: --force replaces it"):
        typed("detect", "uni")
    assert own("uni").read_text() == "# mine\n"
    assert typed("detect", "uni", "--force").exit_code == 0
    assert 'cluster = "sandbox"' in own("uni").read_text()
    # a link is something, whatever it leads to
    link = tmp_path / "new" / "link.toml"
    link.parent.mkdir()
    link.symlink_to("nowhere")
    with pytest.raises(UsageError, match="there is"):
        typed("detect", "--output", str(link))
    os.umask(mask := os.umask(0o002))
    assert typed("detect", "--output", str(tmp_path / "a" / "b" / "c.toml")).exit_code == 0
    assert [path.stat().st_mode & 0o777 & mask for path in ((tmp_path / "a"), (tmp_path / "a" / "b"))] == [0, 0]
    assert typed("check", str(tmp_path / "a" / "b" / "c.toml")).exit_code == 0


def test_nothing_is_written_where_slurm_does_not_answer(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SlurmError("no slurmctld")

    monkeypatch.setattr(client, "run", refuse)
    for words in (("detect",), ("check", "generic")):
        with pytest.raises(SlurmError, match="no slurmctld"):
            typed(*words)
    assert not own("sandbox").parent.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["detect", "local"], "found the name 'local'; needed letters"),
        (["detect", "../x"], "found the name '../x'; needed letters"),
        (["detect", "--gpus", "gpu=a100:4"], "found --gpus; needed none: GPUs are a gres here"),
        (["detect", "--gpus", "gpus=a100:4"], "found --gpus 'gpus=a100:4'; needed PARTITION=GPUS, .* one of cpu, gpu"),
        (["detect", "--gpus", "gpu=a100:x"], "found 'a100:x'; needed GPUs as sbatch writes them"),
        (["check", "local"], "local.toml is a site without Slurm; needed a site with Slurm"),
        (["check", "genric"], "no site profile 'genric'"),
        (["show", "genric"], "did you mean 'generic'"),
    ],
)
def test_what_cannot_be_done(words: list[str], message: str, typed: Type) -> None:
    with pytest.raises(SlurmTfError, match=f"(?s){message}"):
        typed(*words)


def test_gpus_that_slurm_does_not_know_of_are_said(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    play("no-gres", monkeypatch)
    typed("detect", "--gpus", "gpu-a100=a100:3")
    assert 'gpus-per-node = "a100:3"  # as typed: Slurm does not know\n' in own("sandbox").read_text()
    assert typed("check", "sandbox").exit_code == 0


def test_the_list_has_each_profile_and_where_it_is_from(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    own("uni").parent.mkdir(parents=True)
    own("uni").write_text("description = 'the university'\ninherit = 'generic'")
    own("lab").write_text("port = 1")
    monkeypatch.setenv("SLURM_TF_SITE", "uni")
    found = {row["name"]: row for row in json.loads(typed("list", "--json").stdout)}
    assert found["uni"] == {
        "name": "uni", "file": str(own("uni")), "inherits": "generic", "description": "the university", "is_here": True,
    }  # fmt: skip
    assert found["lab"]["description"] == f"cannot be used: {own('lab')}: port: found the key 'port'"
    assert Path(found["generic"]["file"]) == ROOT / "site_configs" / "generic.toml"
    lines = typed("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SITE", *sorted(found)]
    assert any(line.startswith("uni (this machine)  generic") for line in lines)


def test_show_says_which_file_has_each_value(typed: Type) -> None:
    own("uni").parent.mkdir(parents=True)
    own("uni").write_text(
        "inherit = 'generic'\npartitions.gpu.max-nodes = 4\nmpi = 'a\\u202eb'".replace("'a", '"a')[:-1] + '"'
    )
    rows = {row["key"]: (row["value"], row["file"]) for row in json.loads(typed("show", "uni", "--json").stdout)}
    generic = str(ROOT / "site_configs" / "generic.toml")
    assert rows["partitions.gpu.max-nodes"] == (4, str(own("uni")))
    assert (rows["scratch"], rows["recognise.hostnames"]) == (("/tmp", generic), ([], ""))
    lines = [line.split() for line in typed("show", "uni").stdout.splitlines()]
    assert ["partitions.gpu.max-nodes", "4", str(own("uni"))] in lines
    assert ["mpi", '"a?b"', str(own("uni"))] in lines
    assert ["recognise.hostnames", "[]", "built-in"] in lines
