"""Starts, uses and ends a sandbox: the interface for tests and for the command line."""

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
from tests.sandbox.mounts import ROOT
from tests.sandbox.shape import GROUP_ID, USER_IDS, SandboxError, Shape

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "slurm-tf-sandbox"
# not `-m`: Python takes three times as long to start with it
ENTER = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.sandbox.enter import main; main()"
START_TIMEOUT = 120.0  # seconds; a sandbox of 4 nodes takes 4 s to start on an idle machine


@dataclass(frozen=True)
class Sandbox:
    """A running cluster."""

    folder: Path
    shape: Shape

    @classmethod
    def up(cls, folder: Path, shape: Shape | None = None, bound: bool = False) -> "Sandbox":
        """Start a cluster, or return the one of this shape that runs in `folder`.

        With `bound`, the cluster ends and `folder` is removed when this process ends, even if it is killed. What a
        killed sandbox left in `folder` is removed first. Raises MissingError if this machine cannot run a sandbox,
        SandboxError if the sandbox does not start.
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
        """Return the cluster that runs in `folder`. Raises SandboxError if there is none."""
        folder = folder.resolve()
        if not _is_up(folder):
            raise SandboxError(f"no sandbox is up in {folder}", "one", "make sandbox")
        return cls(folder, Shape.read(folder))

    @property
    def shared(self) -> Path:
        """The shared storage: the same path on this machine, the login node and all nodes; all users may write."""
        return self.folder / "shared"

    def home(self, user: str) -> Path:
        """Return the user's home folder; the same path on all hosts."""
        return Path("/root") if user == "root" else self.folder / "home" / user

    def environment(self, user: str = "alice", more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of the user's login shell, with `more` added."""
        return {
            "HOME": str(self.home(user)), "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "PATH": needs.PATH,
            "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb"),
        } | dict(more or {})  # fmt: skip

    def command(self, *argv: str, user: str = "alice", node: str | None = None, cwd: Path | None = None) -> list[str]:
        """Return the command line that runs `argv` on the login node, or on `node`. Raises SandboxError."""
        return [sys.executable, "-IS", "-c", ENTER, *self.where(user, node), str(cwd or self.shared), *argv]

    def where(self, user: str, node: str | None = None) -> tuple[str, str, str]:
        """Return the process id of a host, a user's id and its group's. Raises SandboxError."""
        process = linux.Process.read(self.folder / "pids" / (node or "login"))
        if user not in USER_IDS:
            raise SandboxError(f"user {user!r}", f"one of {', '.join(USER_IDS)}")
        if not process or not process.alive:
            raise SandboxError(f"{node or 'the login node'} is not up", "a host of the sandbox")
        return str(process.pid), str(USER_IDS[user]), str(0 if user == "root" else GROUP_ID)

    def popen(
        self, *argv: str, user: str = "alice", node: str | None = None, env: Mapping[str, str] | None = None,
        cwd: Path | None = None, **more: Any,
    ) -> "subprocess.Popen[Any]":  # fmt: skip
        """Start a command on the login node, or on a compute node outside of any job.

        Signals sent to the returned process are forwarded to the command. If it is killed, so is the command.
        """
        command = self.command(*argv, user=user, node=node, cwd=cwd)
        return subprocess.Popen(command, cwd=ROOT, env=self.environment(user, env), **more)

    def run(
        self, *argv: str, user: str = "alice", node: str | None = None, env: Mapping[str, str] | None = None,
        cwd: Path | None = None, timeout: float = 60.0, check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        """Run a command where `popen` would, and return what it printed.

        Raises TimeoutExpired; with `check`, raises SandboxError if the command fails. No signal is forwarded, so tools
        of util-linux do it, which start twenty times as fast as a Python: tests wait for Slurm with this.
        """
        pid, user_id, group_id = self.where(user, node)
        enter = ["nsenter", "--target", pid, "--mount", "--cgroup", "--uts", "--ipc", "--pid", "--net", "--"]
        become = ["setpriv", "--reuid", user_id, "--regid", group_id, "--clear-groups", "--pdeathsig", "KILL", "--"]
        with subprocess.Popen(
            [*enter, *become, "env", f"--chdir={cwd or self.shared}", *argv], cwd=ROOT, text=True, errors="replace",
            env=self.environment(user, env), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:  # its child processes too: they may hold the pipes open
                os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(argv, process.returncode, out, err)
        if check and done.returncode:
            raise SandboxError(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def stop_node(self, name: str) -> None:
        """Kill all processes of a compute node, as a power failure would."""
        process = linux.Process.read(self.folder / "pids" / name)
        if process:
            process.kill()

    def start_node(self, name: str) -> None:
        """Start a node that was stopped; slurmctld notices it with a delay. Raises SandboxError if the node is up."""
        process = linux.Process.read(self.folder / "pids" / name)
        if name not in self.shape.names or (process and process.alive):
            raise SandboxError(f"{name} is up, or none of {', '.join(self.shape.names)}", "a node that was stopped")
        self.run(sys.executable, "-ES", "-m", "tests.sandbox.node", name, user="root", cwd=ROOT)

    def down(self, keep: bool = False) -> None:
        """End the sandbox and remove its files; with `keep`, its folder stays (logs, home folders, shared storage)."""
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
    """End the sandbox in `folder`, or remove what a killed one left there. Return whether there was one."""
    folder = folder.resolve()
    if not (folder / "etc" / "shape.json").exists():
        return False
    keeper.clean(folder, keep)
    return True


def _is_up(folder: Path) -> bool:
    process = linux.Process.read(folder / "pids" / "login")
    return process is not None and process.alive and (folder / "pids" / "ready").exists()


def _prepare(folder: Path) -> None:
    """Make an empty folder with mode 0700. Raises SandboxError if it holds other files than those of a dead sandbox."""
    take_down(folder)
    try:
        whole.own_folder(str(folder))
    except RunError as error:
        raise SandboxError(str(error)) from None
    if any(folder.iterdir()):
        raise SandboxError(f"{folder} holds something else", "an empty folder, or none")
    folder.chmod(0o700)


def _tails(log: Path) -> str:
    """Return the last lines of each log file."""
    texts = {path.name: path.read_text(errors="replace").splitlines()[-8:] for path in sorted(log.iterdir())}
    return "\n".join(f"{name}: {line}" for name, lines in texts.items() for line in lines)
