"""Ctrl-C ends every verb that waits, also where slurm-tf was started with SIGINT ignored, and ends what it started.

A shell without job control ignores SIGINT in its background jobs (POSIX, "Signals and Error Handling"); so do some CI
systems. Python then installs no handler, and a program that it starts inherits "ignored".
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_tf.cli import commands as commands_module
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder
from tests.cli.test_cli import SLURM_TF
from tests.conftest import ROOT, write_manifest

pytestmark = pytest.mark.slow

# The shell itself reads its status: one that waits for `cat` meanwhile takes a SIGINT which `cat` survives as handled.
JOB = """\
name = "a"
strategy = "single"
command = ["true"]
setup = '''mapfile lines < /proc/self/status; printf %s "${lines[@]}" > status; sleep 120'''
[roles.worker]
"""
# What each stand-in on PATH does: Slurm takes a job and does not answer afterwards, and TensorBoard does not come up.
DOWN = "touch asked; echo Unable to contact slurm controller >&2; exit 1"
PROGRAMS = {
    "sbatch": "echo 7",
    "squeue": DOWN,
    "sacct": DOWN,
    "scontrol": DOWN,
    "tensorboard": "cat /proc/self/status > status; exec sleep 120",
    "srun": "cat /proc/self/status > status; exec sleep 120",
}
# Starts its arguments as the background job of a shell without job control is started.
IGNORED = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    """Start `slurm-tf WORDS` with SIGINT ignored, in a process group of its own; the run r-1 is there."""
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "bin").mkdir()
    for name, line in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    run = RunFolder(str(tmp_path / "runs" / "r-1"))
    Path(run.path).mkdir(mode=0o700, parents=True)
    write_manifest(run, "r")
    job_chain.add(run, "7", "", (), False, submission=1)
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> "subprocess.Popen[str]":
        environ = {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        processes.append(
            subprocess.Popen(
                [*IGNORED, *SLURM_TF, *words], cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def signals(status: Path, field: str) -> int:
    """Return a set of signals in a file like /proc/PID/status; proc(5)."""
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1], 16) for line in lines if line.startswith(field)), 0)


def commands(group: int) -> list[str]:
    """Return the names of the programs of a process group; proc(5)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            found += [name] if int(rest.split()[2]) == group else []
    return found


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def exit_code(process: "subprocess.Popen[str]") -> int:
    """Return the exit code that a shell shows.

    Python ends by SIGINT itself, after all has been cleaned up, if that came while it executed a text, as dataclasses
    do when a module is imported (run_eval_code_obj in pythonrun.c, 3.11).
    """
    code = process.wait(20)
    return 128 - code if code < 0 else code


@pytest.mark.parametrize(
    "words",
    [
        ["wait", "r-1"],
        ["status", "r-1", "--watch"],
        ["logs", "r-1", "--follow"],
        ["submit", "job.toml", "--site", "generic", "--wait"],
        ["preflight", "job.toml", "--site", "generic"],
    ],
    ids=" ".join,
)
def test_a_verb_that_waits_for_slurm_ends(words: list[str], started: Start, tmp_path: Path) -> None:
    process = started(*words)
    wait_until((tmp_path / "asked").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert exit_code(process) == 130


@pytest.mark.parametrize(
    "words",
    [
        ["run", "job.toml"],
        ["preflight", "job.toml", "--site", "local"],
        ["tensorboard", "r-1"],
        ["tensorboard", "r-1", "--node"],
    ],
    ids=" ".join,
)
def test_a_verb_that_has_started_a_program_ends_with_it(words: list[str], started: Start, tmp_path: Path) -> None:
    process = started(*words)
    status = tmp_path / "status"
    wait_until(lambda: status.exists() and status.read_text().endswith("\n"))
    assert not signals(status, "SigIgn") & 1 << (signal.SIGINT - 1)
    if words[0] == "run":
        # a shell that SIGINT meets while it starts a command waits for that command, which did not get it
        wait_until(lambda: "sleep" in commands(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    assert exit_code(process) == 130


def test_one_that_comes_while_a_class_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 makes a RuntimeError of it."""

    class Interrupted:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    def imports_an_enum(**_: object) -> None:
        type("Enum", (), {"member": Interrupted()})

    monkeypatch.setattr(commands_module.cli, "main", imports_an_enum)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        commands_module.run_commands()
    assert end.value.code == 130
