"""`slurm-tf interrupt`: faults injected into a run on this machine."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import SLURM_TF, slurm_tf
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SPEAKS = ROOT / "tests/launch/programs/speaks.py"
JOB = f"""
name = "a"
strategy = "multi_worker"
join = "optional"
command = ["{sys.executable}", "{SPEAKS}", "1000000", "0.05", "20"]
[launch]
max-restarts = {{budget}}
kill-wait = "0:01"
[roles.worker]
count = 2
"""


class Running:
    """A run in a folder of its own; what it prints goes to a file."""

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.output = folder, folder / "output"
        (folder / "a.toml").write_text(JOB.format(budget=budget))
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [*SLURM_TF, "run", "a.toml"], cwd=folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state")},
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_for(self, pattern: str, count: int = 1) -> None:
        until = time.monotonic() + 60
        while len(re.findall(pattern, self.output.read_text(), re.MULTILINE)) < count:
            assert time.monotonic() < until, self.output.read_text()
            time.sleep(0.05)

    def interrupt(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return slurm_tf("interrupt", "a-1", *words, cwd=self.folder)

    def attempts(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.folder / "runs/a-1/attempts.json").read_text())["attempts"]
        return rows


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Any]:
    started: list[Running] = []

    def start(budget: int = 0) -> Running:
        started.append(Running(tmp_path, budget))
        started[-1].wait_for(r"^\[worker:[01]\] trains", 2)
        return started[-1]

    yield start
    for each in started:
        each.process.terminate()
        each.process.wait(30)


@pytest.mark.parametrize("kind", ["preemption", "timeout"])
def test_an_injected_interruption_saves_and_ends_the_attempt(kind: str, running: Any) -> None:
    run = running()
    done = run.interrupt("--as", kind)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{kind} injected into attempt local-")
    assert run.process.wait(30) == 75
    run.wait_for(rf"worker:0\] interrupted at \d+: {kind}: injected by slurm-tf interrupt")
    (row,) = run.attempts()
    assert row["code"] == 75
    assert row["last"] > 0
    assert not (run.folder / "runs/a-1/fault_request.json").exists()


def test_a_kill_and_a_node_failure_are_injected(running: Any) -> None:
    run = running(budget=1)
    done = run.interrupt("--as", "kill", "--role", "worker", "--index", "1")
    assert done.returncode == 0, done.stderr
    run.wait_for("worker:1 on .* was ended by signal 9 .*; all tasks are started again in place")
    run.wait_for(r"^\[worker:[01]\] begins at", 4)
    done = run.interrupt("--as", "node-failure")
    assert done.returncode == 0, done.stderr
    assert run.process.wait(60) != 0
    run.wait_for("injected: node-failure of worker:0, worker:1")
    run.wait_for("the job failed: worker:[01] on .* is lost")


def test_what_cannot_be_injected_is_said(running: Any) -> None:
    run = running()
    done = run.interrupt("--as", "kill", "--role", "ps")
    assert (done.returncode, done.stdout) == (2, "")
    assert "run a-1 has no task ps:0; needed one of worker:0, worker:1" in done.stderr
    run.process.terminate()
    run.process.wait(30)
    done = run.interrupt()
    assert done.returncode == 2
    assert "run a-1 is ended; needed a run whose tasks are running" in done.stderr
