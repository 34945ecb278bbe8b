"""The verb templates, and -t and --ask of other verbs, as a person types them."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from slurm_tf import search_path
from slurm_tf.cli import commands
from slurm_tf.errors import SlurmTfError, UsageError
from tests.conftest import ROOT

Type = Callable[..., click.testing.Result]

CNN = """
description = "A CNN on our data."
name = "cnn"
strategy = "multi_worker"
command = ["python", "cnn.py", "--data={data}", "--epochs={epochs}", "--rate={rate}", "{optimizer}"]
[params]
data = {help = "folder of the data"}
epochs = {default = 10, min = 1, max = 100, help = "passes over the data"}
optimizer = {default = "adam", choices = ["adam", "sgd"]}
[sweep]
rate = [0.1, 0.01]
[roles.worker]
count = 2
"""
# by scope and name
FILES = {
    "package/cnn": CNN,
    "package/single": 'name = "s"\nstrategy = "single"\ncommand = ["true"]\n[roles.worker]\n',
    "group/cnn": 'extends = "cnn"\nroles.worker.count = 4\n',
    "group/broken": 'extends = "cnn"\nepoch = 3\n',
    "group/30": CNN,
    "group/torn": "[params",
    "user/shell": 'extends = "single"\ndescription = "setup that is torn"\nsetup = "if true; then"\n',
    "user/lost": 'extends = "single"\ncommand = ["python", "lost.py"]\n',
}


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type `slurm-tf WORDS` where there are these templates; `answers` are those to its questions, on a terminal."""
    folders = {"package": tmp_path / "package", "group": tmp_path / "group", "user": search_path.user_config()}
    packaged = search_path.packaged
    monkeypatch.setattr(
        search_path, "packaged", lambda kind: folders["package"] / "jobs" if kind == "jobs" else packaged(kind)
    )
    monkeypatch.setenv("SLURM_TF_PATH", f"{tmp_path / 'nothing'}:{tmp_path / 'group'}")
    for where, text in FILES.items():
        scope, _, name = where.partition("/")
        path = folders[scope] / "jobs" / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folders["package"] / "jobs" / "cnn.py").touch()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")

    def run(*words: str, answers: tuple[str, ...] | None = None) -> click.testing.Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(click.testing._NamedTextIOWrapper, "isatty", lambda _: answers is not None)
            text = "".join(f"{each}\n" for each in answers or ())
            done = click.testing.CliRunner().invoke(commands.cli, words, input=text, prog_name="slurm-tf")
        if isinstance(done.exception, SlurmTfError):
            raise done.exception
        return done

    return run


def plain(text: str, tmp_path: Path) -> str:
    """Return what was printed without the folders of this test, and the commands to type next."""
    user = str(search_path.user_config())
    return text.partition("Next:\n")[0].replace(str(tmp_path), "~").replace(user, "~/user")


def test_list_show_check(typed: Type, golden: Callable[[str, str], None], tmp_path: Path) -> None:
    """One bad file does not break the others, and each says what is wrong with it."""
    shown = []
    for words in ("templates list", "templates show cnn", "templates check --site generic"):
        done = typed(*words.split())
        shown.append(f"$ slurm-tf {words}\n{plain(done.output, tmp_path)}(exit code {done.exit_code})\n")
    golden("job_templates.txt", "\n".join(shown))
    assert typed("templates", "check", "cnn", "single", "--site", "generic").exit_code == 0


def test_the_same_in_json(typed: Type, tmp_path: Path) -> None:
    rows = {(row["name"], row["scope"]): row for row in json.loads(typed("templates", "list", "--json").output)}
    assert rows["cnn", "group"]["params"] == ["data", "epochs", "optimizer", "rate"]
    assert rows["cnn", "package"]["shadowed_by"] == rows["cnn", "group"]["file"]
    assert rows["cnn", "group"]["shadowed_by"] is rows["cnn", "group"]["refused"] is None
    assert "found the key 'epoch'" in rows["broken", "group"]["refused"]
    found = json.loads(typed("templates", "show", "cnn", "--json").output)
    assert found["files"] == [str(tmp_path / scope / "jobs" / "cnn.toml") for scope in ("group", "package")]
    assert found["shadows"] == found["files"][1:]
    # what a form needs
    assert found["params"][1] == {
        "name": "epochs", "type": "int", "default": 10, "swept": [], "min": 1, "max": 100, "choices": [],
        "help": "passes over the data", "required": False,
    }  # fmt: skip
    assert [each["required"] for each in found["params"]] == [True, False, False, False]
    assert {"key": "roles.worker.count", "value": 4, "file": found["files"][0]} in found["values"]
    (row,) = json.loads(typed("templates", "check", "cnn", "--site", "generic", "--json").output)
    assert (row["name"], row["site"], row["error"]) == ("cnn", "generic", None)


def test_a_folder_that_cannot_be_used_does_not_hide_the_others(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "project" / "jobs").mkdir(mode=0o777)
    (tmp_path / "project" / "jobs").chmod(0o777)
    done = typed("templates", "list")
    assert f"a folder is left out: {tmp_path}/project/jobs: it has mode 777" in done.stderr
    assert "A CNN on our data." in done.stdout


def test_a_template_in_place_of_a_job_file(typed: Type, tmp_path: Path) -> None:
    script = typed("render", "-t", "cnn", "data=/d", "rate=0.5", "--site", "generic").stdout
    assert "python cnn.py --data=/d --epochs=10 --rate=0.5 adam" in script
    assert "template=cnn" in script
    long = typed("render", "data=/d", "rate=0.5", "--template=cnn", "--site", "generic").stdout
    assert long == script
    rows = json.loads(typed("explain", "-t", "cnn", "data=/d", "--site", "generic", "--json").output)
    origins = {row["key"]: row["from"] for row in rows}
    assert origins["roles.worker.count"] == f"{tmp_path}/group/jobs/cnn.toml"
    assert origins["strategy"] == f"{tmp_path}/package/jobs/cnn.toml"
    assert origins["params.data"] == "command line: data="


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("render", "found no job file; needed one, or a job template\nHINT: slurm-tf render JOB.toml"),
        ("render cnn", "there is no job file cnn; .*\nHINT: the job template cnn: slurm-tf render -t cnn$"),
        ("render -t cn", "no job template 'cn'; needed one of 30, broken, cnn, .*\nHINT: did you mean 'cnn'?"),
        ("render -t cnn job.toml", "found the job file job.toml and the job template 'cnn'; needed a job file or"),
        # a time that is none, as somebody who knows sbatch types it
        ("submit job.toml -t 4h", "found the job file job.toml and the job template '4h'; .*; a time as sbatch"),
        ("submit -t cnn -t 4h", "no job template '4h'"),
        ("submit -t cnn --time=4h --dry-run", "command line: --time: time: found '4h'; needed a time as sbatch"),
        ("submit -t", "option -t has no value"),
        ("render -t cnn --ask", "found --ask, and nobody can be asked here; needed NAME=VALUE for each param"),
        ("render -t cnn rate=1", "cnn.toml: params: data: it has no value; needed data=VALUE, .*folder of the data"),
    ],
)
def test_what_cannot_be_meant(words: str, message: str, typed: Type) -> None:
    with pytest.raises(SlurmTfError, match=f"(?s){message.replace('?', '[?]')}"):
        typed(*words.split())


def test_t_of_submit_is_a_time_where_it_is_one(typed: Type, tmp_path: Path) -> None:
    for words in (("-t", "cnn", "-t", "30"), ("-t30", "-tcnn"), ("--time=0:30:00", "--template", "cnn")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(tmp_path))  # without sbatch
            script = typed("submit", *words, "data=/d", "rate=1", "--dry-run", "--site", "generic").stdout
        assert "#SBATCH --time=00:30:00\n" in script
        assert "template=cnn" in script


def test_each_param_is_asked_for_and_checked_at_once(
    typed: Type, golden: Callable[[str, str], None], tmp_path: Path
) -> None:
    words = ("render", "-t", "cnn", "--ask", "--site", "generic", "--set", "account=my group", "--", "--fast")
    done = typed(*words, answers=("/my data", "1000", "7", "", "0.5"))
    golden("ask_params.txt", plain(done.stderr, tmp_path))
    assert "python cnn.py '--data=/my data' --epochs=7 --rate=0.5 adam --fast" in done.stdout
    # what it says to type next time gives the same
    line = next(each for each in done.stderr.splitlines() if "next time: " in each)
    again = typed(*shlex.split(line.partition("next time: slurm-tf ")[2]))
    assert again.stdout == done.stdout


def test_an_answer_that_ends_the_input_ends_the_verb(typed: Type) -> None:
    done = typed("render", "-t", "cnn", "--ask", answers=())
    assert done.exit_code == 1
    assert "Aborted" in done.output


def test_without_params_nothing_is_asked(typed: Type) -> None:
    assert typed("render", "-t", "single", "--ask", "--site", "generic", answers=()).exit_code == 0
    with pytest.raises(UsageError, match="nobody can be asked"):
        typed("render", "-t", "single", "--ask")


def test_every_template_that_comes_with_slurm_tf_is_sound_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = click.testing.CliRunner().invoke(commands.cli, ["templates", "check", "--site", "generic", "--json"])
    rows = json.loads(done.stdout)
    assert {row["name"]: row["error"] for row in rows if row["error"]} == {}
    assert done.exit_code == 0
    assert {row["name"] for row in rows} == {path.stem for path in (ROOT / "jobs").glob("*.toml")}
    listed = json.loads(click.testing.CliRunner().invoke(commands.cli, ["templates", "list", "--json"]).stdout)
    own = {row["name"]: row["description"] for row in listed}
    assert all(own.values())
    assert len({*own.values()}) == len(own), "one that extends another says how it differs"
