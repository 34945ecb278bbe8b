"""Runs job files as a user does: `slurm-tf run`, with real TensorFlow processes."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT

JOBS = ROOT / "jobs"
SLURM_TF = [sys.executable, "-m", "slurm_tf"]


class RunningJob:
    """A process `slurm-tf run` in a folder of its own, whose output goes to a file."""

    def __init__(self, folder: Path, arguments: list[str], environ: dict[str, str]) -> None:
        self.folder = folder
        self.output = folder / f"output-{len(list(folder.glob('output-*')))}"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [*SLURM_TF, "run", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": PYTHONPATH, **environ},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait(self, timeout: float = 240.0) -> int:
        return self.process.wait(timeout)

    def wait_for(self, pattern: str, timeout: float = 120.0) -> "re.Match[str]":
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            match = re.search(pattern, self.text, re.MULTILINE)
            if match:
                return match
            assert self.process.poll() is None, self.text
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in the output:\n{self.text}")

    def pid(self, task: str, start: int = 1) -> int:
        return int(self.wait_for(rf"(?s)(?:.*?^slurm-tf: {task} started on \S+ \(process (\d+)\)){{{start}}}")[1])

    def stop(self) -> None:
        """Terminate the process if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def find(self, pattern: str) -> list[Any]:
        """Return the groups of each match in the output."""
        return re.findall(pattern, self.text, re.MULTILINE)


RunJob = Callable[..., RunningJob]


def through(*programs: str, job: str = "cnn.toml") -> tuple[str, str]:
    """Return the option that has `programs` run the program of a shipped job, each the next one."""
    python, *command = tomllib.loads((JOBS / job).read_text())["command"]
    return "--set", f"command={json.dumps([python, *programs, *command])}"


def _run(folder: Path, variables: dict[str, str]) -> Iterator[RunJob]:
    started: list[RunningJob] = []

    def start(*arguments: str, **environ: str) -> RunningJob:
        started.append(RunningJob(folder, list(arguments), {**variables, **environ}))
        return started[-1]

    yield start
    for job in started:
        job.stop()


@pytest.fixture
def run_job(tmp_path: Path, venv_path: str) -> Iterator[RunJob]:
    """Return a function that starts `slurm-tf run` with these arguments and variables."""
    yield from _run(tmp_path, {"PATH": venv_path})


@pytest.fixture
def run_forked(tmp_path: Path) -> Iterator[RunJob]:
    """Return what `run_job` returns, for programs whose processes no test looks at: see tests/forkserver."""
    yield from _run(tmp_path, forkserver.environ(os.environ.get("TF_USE_LEGACY_KERAS") == "1"))
