"""A job of real processes on this machine: coordinator, local step, agents, programs."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import LaunchSettings, RoleSettings, write_settings
from slurm_tf.run.train_settings import TrainSettings

LAUNCH = [sys.executable, "-m", "slurm_tf.launch"]

DEFAULTS = LaunchSettings(
    run="r", local=True, strategy="multi_worker", roles=(RoleSettings("worker", 2),), env={}, cluster_flags=False,
    gpu_sharing="split", max_restarts=0, register_timeout=30.0, wait=10.0, kill_wait=2.0, ports=None,
    coordinator_ports=None, interface="", train=TrainSettings(checkpoint_every=600.0),
)  # fmt: skip


class LocalJob:
    """A started job; what it prints goes to a file."""

    def __init__(
        self,
        folder: Path,
        settings: LaunchSettings,
        command: Sequence[str],
        step: Sequence[str] | None,
        point: int | None,
        cancelled: bool,
        each_role: bool,
    ) -> None:
        self.run = RunFolder(str(folder))
        self.submission = self.run.submission(1)
        for path in (self.run.path, self.submission.path, *self.run.folders):
            os.makedirs(path, mode=0o700, exist_ok=True)
        roles = tuple(
            role if role.command else dataclasses.replace(role, command=tuple(command)) for role in settings.roles
        )
        write_settings(self.submission, dataclasses.replace(settings, roles=roles))
        if cancelled:
            Path(self.run.cancelled).touch()
        tasks = len(settings.tasks)
        launcher = step if step is not None else [*LAUNCH, "local", "--ntasks", str(tasks), "--"]
        of_point = [] if point is None else ["--point", str(point)]
        launchers = _launchers(settings) if each_role else [*launcher, *LAUNCH, "agent"]
        argv = [*LAUNCH, "coordinate", self.submission.path, *of_point, "--", *launchers]
        self.output = folder / "output"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait(self, timeout: float = 60.0) -> int:
        return self.process.wait(timeout)

    def wait_for(self, pattern: str, timeout: float = 60.0) -> "re.Match[str]":
        """Return the first match of `pattern` in what was printed, once it is there."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            match = re.search(pattern, self.text, re.MULTILINE)
            if match:
                return match
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} did not come:\n{self.text}")

    def pid(self, task: str, start: int = 1) -> int:
        """Return the process number of a task's program, at its `start`-th start."""
        numbers = self.wait_for(rf"(?s)(?:.*?^slurm-tf: {task} started on \S+ \(process (\d+)\)){{{start}}}")
        return int(numbers[1])

    def agent(self, task: str, start: int = 1) -> int:
        """Return the process number of the agent that made a task's `start`-th start; its program must live."""
        return parent(self.pid(task, start))

    def cluster(self) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = json.loads(Path(self.run.cluster).read_text())["tasks"]
        return tasks

    def lines(self, task: str) -> list[str]:
        """Return what the task's program printed, as it came through."""
        return re.findall(rf"^\[{task}\] (.*)$", self.text, re.MULTILINE)


def _launchers(settings: LaunchSettings) -> list[str]:
    """Return a launcher for each role, as roles that share nodes have it."""
    words: list[str] = []
    rank = 0
    for role in settings.roles:
        agent = ["agent", "--roles", role.name, "--first-rank", str(rank)]
        words += ["+"] * bool(words) + [*LAUNCH, "local", "--ntasks", str(role.count), "--", *LAUNCH, *agent]
        rank += role.count
    return words


StartJob = Callable[..., LocalJob]


@pytest.fixture
def start_job(tmp_path: Path) -> Iterator[StartJob]:
    """Start a job: a shell program, of roles without one of their own, and what of the settings is not the default.

    `each_role`: with a launcher for each role.
    """
    started: list[LocalJob] = []

    def start(
        program: str,
        *arguments: str,
        step: Sequence[str] | None = None,
        name: str = "",
        point: int | None = None,
        cancelled: bool = False,
        each_role: bool = False,
        **changes: Any,
    ) -> LocalJob:
        folder = tmp_path / (name or f"run-{len(started)}")
        settings = dataclasses.replace(DEFAULTS, **changes)
        command = ["bash", "-c", program, *arguments]
        started.append(LocalJob(folder, settings, command, step, point, cancelled, each_role))
        return started[-1]

    yield start
    for job in started:
        job.process.kill()
        job.process.wait()


def parent(pid: int) -> int:
    """Return the parent of process `pid`, which lives."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    """Whether process `pid` runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone_within(seconds: float, pids: Sequence[int]) -> bool:
    """Whether all of `pids` are gone in that time."""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
