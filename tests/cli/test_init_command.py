"""The verb init: a folder from a job template, a job file for a program."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from slurm_tf import files, search_path
from slurm_tf.cli import commands
from slurm_tf.errors import SlurmTfError
from slurm_tf.jobspec import configuration, layers, plan
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import new_run
from tests.conftest import ROOT
from tests.live_clusters import play

Type = Callable[..., click.testing.Result]
PROGRAM = """\
import argparse

from tensorflow import keras

parser = argparse.ArgumentParser()
parser.add_argument("-e", type=int, default=3, help='said "epochs"')
parser.add_argument("--data", required=True, help="folder of the data")
parser.add_argument("--units", type=int, choices=[32, 64], default=32)
parser.add_argument("--fast", action="store_true")
options = parser.parse_args()
model = keras.Sequential()
model.fit(x, y, epochs=options.e)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(PROGRAM)
    return tmp_path


def typed(*words: str) -> click.testing.Result:
    done = click.testing.CliRunner().invoke(commands.cli, ["init", *words], prog_name="slurm-tf")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("cluster", ["typed", "no-gres", "exclusive", ""])
def test_a_job_file_for_a_program(
    cluster: str, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cluster says of itself is in it, and it fits the cluster."""
    if cluster:
        play(cluster, monkeypatch)
    else:
        play("typed", monkeypatch, refused="scontrol")
    done = typed("train.py")
    text = Path("train.toml").read_text()
    golden(f"init/{cluster or 'no-slurm'}.toml", text)
    if cluster == "typed":
        golden("init/typed.txt", f"{done.stdout}---\n{done.stderr.partition('Next:')[0]}")
        assert " run train.toml data=VALUE " in done.stderr
    job = configuration.load(Path("train.toml"), {}, "generic", values=("data=/d",))
    (role,) = new_run.preview(job, "").settings.roles
    assert role.command == (
        "python",
        "train.py",
        "-e",
        "3",
        "--data=/d",
        "--units=32",
    )


def test_keys_that_are_stated_for_all_jobs_are_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    play("typed", monkeypatch)
    search_path.user_config().mkdir(exist_ok=True)
    search_path.user_file().write_text('[job]\naccount = "chem"\npartition = "gpu"\n')
    typed("train.py")
    job = configuration.load(Path("train.toml"), {}, "generic")
    assert (job.spec.account, job.spec.partition) == ("chem", "gpu")
    assert {"account", "partition"}.isdisjoint(layers.read_toml(Path("train.toml")))


def test_a_job_file_in_another_folder_says_where_the_program_is(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    play("typed", monkeypatch)
    done = json.loads(typed("train.py", "jobs/a", "--json").stdout)
    assert done["files"] == ["jobs/a/train.toml"]
    assert done["program"] == "it calls model.fit of Keras, and does not distribute it"
    assert done["diff"].startswith("--- a/train.py\n+++ b/train.py\n@@ ")
    assert done["left"] == []
    assert layers.read_toml(Path("jobs/a/train.toml"))["chdir"] == str(folder)


@pytest.mark.parametrize("name", ["cnn", "cnn_horovod"])
def test_a_folder_from_a_template_is_ones_own(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """It holds what is extended as well: no later change of a template reaches it."""
    done = typed("-t", name)
    assert done.stdout == f"{name}/{name}.toml\n{name}/cnn.py\n"
    text = Path(name, f"{name}.toml").read_text()
    assert "extends =" not in text
    # without an extension, as it is, with its comments
    assert (text == (ROOT / "jobs" / f"{name}.toml").read_text()) == (name == "cnn")
    expected = configuration.load(ROOT / "jobs" / f"{name}.toml", {}, "generic").spec
    shutil.copytree(folder / name, folder / "copy")
    monkeypatch.setattr(search_path, "packaged", lambda kind: folder / "nothing" / kind)
    (folder / "nothing" / "site_configs").mkdir(parents=True)
    shutil.copy(ROOT / "site_configs" / "generic.toml", folder / "nothing" / "site_configs")
    job = configuration.load(folder / "copy" / f"{name}.toml", {}, "generic")
    for field in expected.__struct_fields__:
        assert field == "extends" or getattr(job.spec, field) == getattr(expected, field), field
    assert job.template is None


def test_programs_are_copied_with_the_modules_that_they_import(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    files = {
        "own.toml": 'name = "own"\nstrategy = "ps"\ncommand = ["python", "-m", "pkg.main", "--config=conf/a.yaml"]\n'
        '[roles.chief]\ncommand = ["bash", "chief.sh", "/etc/passwd", "../outside", "{x}"]\n[roles.worker]\n'
        "[roles.ps]\n[params.x]\ndefault = 'a \"b\" \\u00e9'\n",
        "pkg/main.py": "import helper\nfrom other import name\nimport os\n", "pkg/sub/x.py": "",
        "helper.py": "import pkg.main\n", "other/__init__.py": "", "unused.py": "", "chief.sh": "", "conf/a.yaml": "",
        "conf/b.yaml": "", "../outside": "",
    }  # fmt: skip
    group = folder / "group" / "jobs"
    for name, text in files.items():
        (group / name).parent.mkdir(parents=True, exist_ok=True)
        (group / name).write_text(text)
    monkeypatch.setenv("SLURM_TF_PATH", str(folder / "group"))
    found = json.loads(typed("-t", "own", "mine", "--json").stdout)["files"]
    names = "own.toml chief.sh conf/a.yaml helper.py other/__init__.py pkg/main.py pkg/sub/x.py"
    assert found == [f"mine/{name}" for name in names.split()]
    # others can change one of them
    (group / "helper.py").chmod(0o666)
    with pytest.raises(SlurmTfError, match=r"helper.py: it has mode 666: others can change it"):
        typed("-t", "own", "again")
    assert not Path("again").exists()


def test_a_template_whose_programs_are_elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "group" / "jobs").mkdir(parents=True)
    text = 'name = "far"\nstrategy = "single"\nchdir = "code"\ncommand = ["python", "far.py"]\n[roles.worker]\n'
    (folder / "group" / "jobs" / "far.toml").write_text(text)
    monkeypatch.setenv("SLURM_TF_PATH", str(folder / "group"))
    done = typed("-t", "far")
    assert f"its programs stay in {folder}/group/jobs/code, as its chdir says" in done.stderr
    assert layers.read_toml(Path("far/far.toml"))["chdir"] == f"{folder}/group/jobs/code"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "found nothing; needed a program, or a job template\nHINT: slurm-tf init train.py, or slurm-tf init -t"),
        (("train.py", "a", "b"), "found train.py a b; needed a program"),
        (("-t", "cnn", "a", "b"), "found a b; needed a program"),
        (("-t", "cn"), "no job template 'cn'; .*HINT: did you mean 'cnn'"),
        (("train.toml",), "found train.toml; needed a program in Python, such as train.py"),
        (("none.py",), "none.py: cannot be read"),
    ],
)
def test_what_cannot_be_meant(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SlurmTfError, match=f"(?s){message}"):
        typed(*words)


def test_no_file_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    play("typed", monkeypatch)
    Path("train.toml").symlink_to("nowhere")
    with pytest.raises(SlurmTfError, match=r"^\. has train.toml; needed a folder without files of these names$"):
        typed("train.py")
    Path("cnn").mkdir()
    Path("cnn/cnn.py").touch()
    with pytest.raises(SlurmTfError, match=r"^cnn has cnn.py; needed"):
        typed("-t", "cnn")
    assert [path.name for path in Path("cnn").iterdir()] == ["cnn.py"]


def test_all_files_are_written_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.write_whole

    def full(path: str, *more: Any) -> None:
        if path.endswith(".py"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *more)

    monkeypatch.setattr(files, "write_whole", full)
    with pytest.raises(SlurmTfError, match="cannot write the files: cnn: No space left on device"):
        typed("-t", "cnn")
    assert list(Path("cnn").iterdir()) == []


def test_a_program_whose_name_looks_like_a_param(monkeypatch: pytest.MonkeyPatch) -> None:
    play("typed", monkeypatch)
    Path("{x} $y.py").write_text("import tensorflow\n")
    typed("{x} $y.py")
    job = configuration.load(Path("{x} $y.toml"), {}, "generic")
    assert (job.spec.name, job.spec.strategy) == ("x-y", "single")
    (role,) = new_run.preview(job, "").settings.roles
    assert role.command == ("python", "{x} $y.py")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("cnn", ["cnn/cnn.toml"]),
        ("cnn_sweep", ["cnn_sweep/cnn_sweep.toml batch-size=32 learning-rate=0.005"]),
        ("cnn_horovod_mpi", []),
    ],
)
def test_what_to_run_next_is_a_job_that_runs_on_this_machine(name: str, run: list[str]) -> None:
    done = typed("-t", name)
    said = [line.split("  #")[0] for line in done.stderr.splitlines()]
    assert [line.partition(" run ")[2].strip() for line in said if " run " in line] == run
    for each in run:
        path, *values = each.split()
        job = configuration.load(Path(path), {}, "local", values=tuple(values))
        ErrorList(job.errors).raise_all()
        plan.fit(job, RunFolder("/runs/x"))
