"""A research group's user on the cluster: types slurm-tf in a folder of the shared storage."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import PYTHONPATH, ROOT
from tests.forkserver import command_line
from tests.forkserver.command_line import Login
from tests.sandbox.cluster import Sandbox

BIN = str(Path(sys.executable).parent)
SLURM_TF = [sys.executable, "-m", "slurm_tf"]
JOBS = ROOT / "jobs"


class Member:
    """A user in a folder that is empty at first."""

    def __init__(self, sandbox: Sandbox, user: str, folder: Path) -> None:
        self.sandbox, self.user, self.folder = sandbox, user, folder
        sandbox.run("mkdir", "-m", "0700", str(folder), user=user)

    def environ(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        path = self.sandbox.environment(self.user)["PATH"]
        # of its own: runs of other tests are not found
        state = {"XDG_STATE_HOME": str(self.folder / ".state")}
        return {"PATH": f"{BIN}:{path}", "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1", **state, **more}

    def run(self, *argv: str, check: bool = True, timeout: float = 60.0, environ: Mapping[str, str] = {}) -> str:
        """Run a command; return what it printed."""
        return self.sandbox.run(
            *argv, user=self.user, cwd=self.folder, env=self.environ(environ), timeout=timeout, check=check
        ).stdout

    def type(
        self, *words: str, timeout: float = 60.0, environ: Mapping[str, str] = {}
    ) -> "subprocess.CompletedProcess[str]":
        """Type `slurm-tf WORDS` on the login node. Raises TimeoutExpired."""
        variables = self.environ(environ)
        if "PYTHONPATH" in environ:  # what is imported is not what the server of tests/forkserver has imported
            return self.sandbox.run(
                *SLURM_TF, *words, user=self.user, cwd=self.folder, env=variables, timeout=timeout, check=False
            )
        login = Login(*(int(number) for number in self.sandbox.where(self.user)))
        return command_line.slurm_tf(words, self.sandbox.environment(self.user, variables), self.folder, timeout, login)

    def ok(self, *words: str, timeout: float = 60.0, environ: Mapping[str, str] = {}) -> str:
        """Type `slurm-tf WORDS`, which must end well; return its output."""
        done = self.type(*words, timeout=timeout, environ=environ)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, name: str, text: str) -> str:
        """Write a file into the folder; return its name."""
        path = self.folder / name
        path.write_text(text)
        os.chown(path, self.folder.stat().st_uid, self.folder.stat().st_gid)
        return name

    def take_jobs(self) -> None:
        """Copy the repository's jobs and their programs into the folder."""
        for path in JOBS.iterdir():
            if path.suffix in (".py", ".toml"):
                shutil.copyfile(path, self.folder / path.name)
                os.chown(self.folder / path.name, self.folder.stat().st_uid, self.folder.stat().st_gid)

    def submit(self, *words: str, environ: Mapping[str, str] = {}) -> str:
        """Submit; return the job's id."""
        return self.ok("submit", *words, "--parsable", environ=environ).strip().splitlines()[-1]

    def status(self, run: str) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = json.loads(self.ok("status", run, "--json"))
        return points

    def wait_for(self, run: str, what: str, value: object, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until the run's only point has `value` for `what`; return it."""
        deadline = time.monotonic() + timeout
        while True:
            (point,) = self.status(run)
            if point[what] == value:
                return point
            assert time.monotonic() < deadline, point
            time.sleep(0.3)

    def sacct(self, job: str, components: int = 1) -> list[str]:
        """Return the state of each of the job's components from accounting, which hears of their end late."""
        deadline = time.monotonic() + 120
        while True:
            rows = self.run("sacct", "-nPX", "-j", job, "-o", "End,State").split("\n")[:-1]
            if len(rows) >= components and not any(row.startswith("Unknown|") for row in rows):
                return [row.partition("|")[2] for row in rows]
            assert time.monotonic() < deadline, rows
            time.sleep(0.5)

    def wait_for_sacct(self, job: str, ids: set[str]) -> None:
        """Wait until accounting has these tasks of an array, which it hears of late."""
        deadline = time.monotonic() + 120
        while set(self.run("sacct", "-nPX", "-j", job, "-o", "JobID").split()) != ids:
            assert time.monotonic() < deadline, ids
            time.sleep(0.5)
