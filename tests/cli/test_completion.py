"""What shells complete: click's answers to their scripts, and the scripts in real shells on a terminal."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click.testing
import pytest

from slurm_tf import search_path
from slurm_tf.cli import commands, completion_shells
from slurm_tf.errors import SlurmTfError
from slurm_tf.jobspec import configuration
from slurm_tf.submit import new_run, run_index
from tests.conftest import ROOT

PROGRAM = Path(sys.executable).parent / "slurm-tf"
JOB = """\
name = "cnn"
strategy = "multi_worker"
snapshot = false
command = ["python", "train.py", "{epochs}", "{optimizer}", "{bars}", "{rate}"]
[roles.chief]
[roles.worker]
count = 2
[params]
epochs = {default = 20, help = "how many times: all data"}
optimizer = {choices = ["adam", "sgd"]}
bars = false
[sweep]
rate = [0.1, 0.2]
"""
# A value that a shell would run, split or replace.
HOSTILE = "a b,$(touch hacked);*'.toml"
LINES = (
    "", "s", "sub", "docs s", "completion ", "schema ", "sites ", "sites show ex", "plugin h", "status ", "status c",
    "status other/", "status --", "wait cnn-1 --time", "rm cnn-1 ", "results d", "tensorboard ", "tensorboard cnn-1 ",
    "usage --run c", "attach ", "attach cnn-1 ", "attach cnn-1 worker:", "attach cnn-1 -- ", "attach gone ",
    "logs cnn-1 --role ", "logs cnn-1 --role=w", "logs cnn-1 --role worker --index ", "interrupt cnn-1 --as n",
    "checkpoints cnn-1 ", "run ", "run sub/", "run .h", "run gone/", "run ~/", "run 'a ", "run cnn.toml ",
    "render cnn.toml epochs=1 ", "render cnn.toml optimizer=", "explain cnn.toml bars=f", "explain broken.toml ",
    "explain cnn.toml --site=ex", "explain cnn.toml --site ./", "submit ", "submit cnn.toml e",
    "submit --partition gpu cnn.toml rate=0.1 ", "submit --partition ", "submit - ", "submit cnn.toml --no",
    "submit cnn.toml --name c", "preflight cnn.toml -- --",
    "submit -t gr", "submit -tgr", "submit -t grouped e", "submit --template ", "run --template gr", "run -t grouped ",
    "render -t grouped optimizer=", "explain --template=grouped bars=f", "submit -t gone e", "submit -t 30 cn",
    "preflight -t grouped -t 30 epochs=1 o", "templates ", "templates show ", "templates check grouped b", "init tr",
    "init -t b",
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with job files and two runs, a third one elsewhere."""
    monkeypatch.chdir(tmp_path)
    for name in ("cnn.toml", HOSTILE, "sub/other.toml", ".hidden.toml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(JOB)
    # job templates of a group; no other one
    for name, text in {
        "grouped": 'extends = "base"\nparams.epochs = 9\n',
        "base": JOB,
        "torn": "[params\n",
        "$(touch hacked)": JOB,
        "30": JOB,
    }.items():
        (tmp_path / "group" / "jobs").mkdir(parents=True, exist_ok=True)
        (tmp_path / "group" / "jobs" / f"{name}.toml").write_text(text)
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path / "group"))
    packaged = search_path.packaged
    monkeypatch.setattr(search_path, "packaged", lambda kind: packaged(kind) if kind != "jobs" else tmp_path / "none")
    Path("train.py").touch()
    Path("notes.txt").touch()
    Path("broken.toml").write_text("[params\n")
    job = configuration.load(Path("cnn.toml"), {}, "generic", (), values=["optimizer=sgd", "rate=1"], arguments=())
    run_index.add([new_run.prepare(job, name).run.path for name in ("cnn-1", "digits-1")])
    return tmp_path


def answer(line: str, shell: str = "bash") -> list[str]:
    """Return what slurm-tf answers to a shell's script."""
    kind = completion_shells.SHELLS[shell]
    environ = {"COMP_WORDS": f"slurm-tf {line}", completion_shells.VARIABLE: f"{shell}_complete"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        try:
            return kind(commands.cli, {}, completion_shells.PROGRAM, completion_shells.VARIABLE).complete().split("\n")
        except (SlurmTfError, OSError) as error:
            return [f"({type(error).__name__})"]


def test_what_is_completed(golden: Callable[[str, str], None]) -> None:
    golden("completion.txt", "".join(f"slurm-tf {line}|\n  {'  '.join(answer(line))}\n" for line in LINES))


def test_each_shell_has_the_help_of_what_it_completes() -> None:
    assert answer("log", "zsh") == ["plain", "logs", "Print the output of RUN."]
    assert answer("log", "fish") == ["plain,logs\tPrint the output of RUN."]
    assert answer("run cnn.toml ep", "zsh") == ["plain", "epochs=", "how many times: all data"]
    Path("other.toml").write_text('[params]\na = {help = "two\\nlines"}')
    assert answer("run other.toml ", "fish") == ["plain,a=\ttwo?lines"]


def test_runs_of_one_name_are_completed_by_path(folder: Path) -> None:
    other = folder / "elsewhere" / "cnn-1"
    shutil.copytree(folder / "runs" / "cnn-1", other, symlinks=True)
    run_index.add([str(other)])
    assert answer("status ") == [f"plain,{other}", "plain,digits-1", f"plain,{folder}/runs/cnn-1"]
    assert answer(f"attach {other} c") == ["plain,chief:0"]


def test_what_has_a_control_character_is_left_out() -> None:
    Path("line\nbreak.toml").write_text(JOB)
    assert answer("run li") == [""]


def test_an_unreadable_index_completes_nothing() -> None:
    run_index.path().write_text("{")
    assert answer("status ") == [""]


def typed(line: str, variable: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run slurm-tf as a shell's script does, with `code` before it."""
    program = f"{code}\nimport sys; sys.argv[0] = 'slurm-tf'; from slurm_tf.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, completion_shells.VARIABLE: variable, "COMP_WORDS": line},
    )  # fmt: skip


@pytest.mark.slow
def test_an_error_does_not_get_into_the_prompt() -> None:
    done = typed("slurm-tf run broken.toml ", "bash_complete")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_only_the_verb_that_is_typed_is_imported() -> None:
    said = "import atexit, sys; atexit.register(lambda: print([m for m in sys.modules if m.endswith('_commands')]))"
    for line, verb in (("slurm-tf ", "wait"), ("slurm-tf sub", "submit"), ("slurm-tf docs sub", "submit")):
        *found, modules = typed(line, "bash_complete", said).stdout.splitlines()
        assert f"plain,{verb}" in found
        assert "storage_commands" not in modules


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, argv: list[str], environ: Mapping[str, str]) -> None:
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.execvpe(argv[0], argv, {**os.environ, **environ})  # noqa: S606

    def type(self, text: str, until: str) -> str:
        """Type keys, and return what the screen shows once it shows `until`."""
        os.write(self._terminal, text.encode())
        shown, end = "", time.monotonic() + 120
        while until not in shown:
            ready, _, _ = select.select([self._terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"found {shown!r}; needed {until!r}"
            # without what moves the cursor, colours text or rings the bell
            shown += re.sub(r"\x1b(\[[0-9;?>=]*[A-Za-z]|[()][B0]|[=>]|\][^\x07]*\x07)|\x07", "", self._read())
        return shown

    def _read(self) -> str:
        return os.read(self._terminal, 65536).decode(errors="replace")

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._process, 0)


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ""),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -D; "),
    "fish": (["fish", "--no-config", "-i"], ""),
}


def of_page(shell: str) -> str:
    """Return the line that the page has one put into a shell's own file."""
    page = (ROOT / "docs" / "install.md").read_text()
    lines: list[str] = re.findall(rf"^.*completion {shell}(?:\)\"| \| source)$", page, re.MULTILINE)
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    name = request.param
    argv, before = SHELLS[name]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    environ = {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "dumb" if name != "fish" else "xterm"}
    opened = Shell(argv, {**environ, "COLUMNS": "200", "HISTFILE": "/dev/null", "INPUTRC": "/dev/null"})
    try:
        opened.type(f"{before}{of_page(name)}; echo read''y\n", "ready\r")
        yield opened
    finally:
        opened.close()


def others(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.long)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", others("zsh"), others("fish")], indirect=True)
def test_a_shell_completes_what_it_cannot_misread(shell: Shell, folder: Path) -> None:
    clear = "\x15"
    shell.type("slurm-tf render cnn.toml ep\t", "epochs=")
    shell.type("7 opt\t", "7 optimizer=")
    shell.type(f"{clear}slurm-tf attach cnn-1 worker:1\t", "worker:1 ")
    shell.type(f"{clear}slurm-tf explain cnn.toml --site=gen\t", "--site=generic ")
    shell.type(f"{clear}slurm-tf render a\t", "toml ")
    shown = shell.type("nosuch=1\n", "nosuch=1: ")
    assert f"{HOSTILE}: " in shown
    assert not (folder / "hacked").exists()


def test_the_verb_prints_the_script() -> None:
    printed = click.testing.CliRunner().invoke(commands.cli, ["completion", "bash"], prog_name="slurm-tf").output
    assert printed.startswith("_slurm_tf_completion() {\n")
    subprocess.run(["bash", "-n"], input=printed, text=True, timeout=60, check=True)
