"""Starts, uses and ends a sandbox, for tests and for the command line."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_tf import files as whole
from slurm_tf.errors import RunError
from tests.sandbox import files, keeper, linux, needs
from tests.sandbox.reach import ROOT
from tests.sandbox.shape import GROUP_ID, USER_IDS, SandboxError, Shape

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "slurm-tf-sandbox"
# not `-m`, which takes three times as long to start
ENTER = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.sandbox.enter import main; main()"
START_TIMEOUT = 120.0  # seconds; 4 nodes take 4 on an idle machine


@dataclass(frozen=True)
class Sandbox:
    """A running cluster."""

    folder: Path
    shape: Shape

    @classmethod
    def up(cls, folder: Path, shape: Shape | None = None, bound: bool = False) -> "Sandbox":
        """Start a cluster, or return the one of this shape that runs in `folder`.

        With `bound`, it goes when this process ends, however it ends, and `folder` with it. What a killed one left is
        cleaned first. Raises MissingError if this machine cannot have one, SandboxError if it does not come up.
        """
        shape = shape or Shape()
        needs.check(shape)
        folder = folder.resolve()
        if _is_up(folder):
            if Shape.read(folder) != shape:
                raise SandboxError(f"a sandbox of another shape is up in {folder}", "another folder, or it down first")
            return cls(folder, shape)
        _prepare(folder)
        files.write(folder, shape)
        sandbox = cls(folder, shape)
        sandbox._start(os.getpid() if bound else 0)
        return sandbox

    @classmethod
    def find(cls, folder: Path) -> "Sandbox":
        """Return the cluster that is up in `folder`; raises SandboxError if none is."""
        folder = folder.resolve()
        if not _is_up(folder):
            raise SandboxError(f"no sandbox is up in {folder}", "one", "make sandbox")
        return cls(folder, Shape.read(folder))

    @property
    def shared(self) -> Path:
        """The shared storage: one path on this machine, the login node and all nodes; everybody may write."""
        return self.folder / "shared"

    def home(self, user: str) -> Path:
        """Return the user's home, on all hosts."""
        return Path("/root") if user == "root" else self.folder / "home" / user

    def environment(self, user: str = "alice", more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables that a login gives the user, and `more`."""
        return {
            "HOME": str(self.home(user)), "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "PATH": needs.PATH,
            "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb"),
        } | dict(more or {})  # fmt: skip

    def command(self, *argv: str, user: str = "alice", node: str | None = None, cwd: Path | None = None) -> list[str]:
        """Return the command line that runs `argv` inside; raises SandboxError."""
        process = linux.Process.read(self.folder / "pids" / (node or "login"))
        if user not in USER_IDS:
            raise SandboxError(f"user {user!r}", f"one of {', '.join(USER_IDS)}")
        if not process or not process.alive:
            raise SandboxError(f"{node or 'the login node'} is not up", "a host of the sandbox")
        group = 0 if user == "root" else GROUP_ID
        who = (str(process.pid), str(USER_IDS[user]), str(group), str(cwd or self.shared))
        return [sys.executable, "-IS", "-c", ENTER, *who, *argv]

    def popen(
        self, *argv: str, user: str = "alice", node: str | None = None, env: Mapping[str, str] | None = None,
        cwd: Path | None = None, **more: Any,
    ) -> "subprocess.Popen[Any]":  # fmt: skip
        """Start a command on the login node, or on a compute node outside of any job.

        Signals sent to what this returns reach the command; when that is killed, so is the command.
        """
        command = self.command(*argv, user=user, node=node, cwd=cwd)
        return subprocess.Popen(command, cwd=ROOT, env=self.environment(user, env), **more)

    def run(
        self, *argv: str, user: str = "alice", node: str | None = None, env: Mapping[str, str] | None = None,
        cwd: Path | None = None, timeout: float = 60.0, check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        """Run a command there and return what it printed; raises TimeoutExpired, and SandboxError if it failed."""
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(
            *argv, user=user, node=node, env=env, cwd=cwd, text=True, errors="replace", start_new_session=True, **more
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:  # with what it started: that may hold the pipes open
                os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(argv, process.returncode, out, err)
        if check and done.returncode:
            raise SandboxError(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def stop_node(self, name: str) -> None:
        """Kill a compute node and all in it, as a power cut does."""
        process = linux.Process.read(self.folder / "pids" / name)
        if process:
            process.kill()

    def start_node(self, name: str) -> None:
        """Start a node that was stopped; Slurm sees it a moment later. Raises SandboxError if it is up."""
        process = linux.Process.read(self.folder / "pids" / name)
        if name not in self.shape.names or (process and process.alive):
            raise SandboxError(f"{name} is up, or none of {', '.join(self.shape.names)}", "a node that was stopped")
        self.run(sys.executable, "-ES", "-m", "tests.sandbox.node", name, user="root", cwd=ROOT)

    def down(self, keep: bool = False) -> None:
        """End it and remove everything, but for its folder (logs, homes, shared) if `keep`."""
        take_down(self.folder, keep)

    def _start(self, owner: int) -> None:
        pids, log = self.folder / "pids", self.folder / "log"
        end = time.monotonic() + START_TIMEOUT
        try:
            with (log / "start.out").open("wb") as output:
                subprocess.run(
                    [sys.executable, "-ES", "-m", "tests.sandbox.keeper", str(self.folder), str(owner)],
                    cwd=ROOT, env=self.environment("root"), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True, timeout=30, check=True,
                )  # fmt: skip
            while not (pids / "ready").exists():
                process = linux.Process.read(pids / "keeper")
                if not process or not process.alive or time.monotonic() > end:
                    raise SandboxError(f"the sandbox did not come up\n{_tails(log)}")
                time.sleep(0.02)
        except BaseException:
            self.down()
            raise


def take_down(folder: Path, keep: bool = False) -> bool:
    """End the sandbox in `folder` or clean up what a killed one left; return whether there was one."""
    folder = folder.resolve()
    if not (folder / "etc" / "shape.json").exists():
        return False
    keeper.clean(folder, keep)
    return True


def _is_up(folder: Path) -> bool:
    process = linux.Process.read(folder / "pids" / "login")
    return process is not None and process.alive and (folder / "pids" / "ready").exists()


def _prepare(folder: Path) -> None:
    """Make an empty, private folder; raises SandboxError for one that holds something else than a dead sandbox."""
    take_down(folder)
    try:
        whole.own_folder(str(folder))
    except RunError as error:
        raise SandboxError(str(error)) from None
    if any(folder.iterdir()):
        raise SandboxError(f"{folder} holds something else", "an empty folder, or none")
    folder.chmod(0o700)


def _tails(log: Path) -> str:
    """Return the last lines of every log."""
    texts = {path.name: path.read_text(errors="replace").splitlines()[-8:] for path in sorted(log.iterdir())}
    return "\n".join(f"{name}: {line}" for name, lines in texts.items() for line in lines)
