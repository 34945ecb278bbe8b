"""Starts TensorBoard for a run, on this machine or as a job of one task on a node, and ends it.

TensorBoard has no authentication, so it listens only on the loopback address; users reach it through ssh.
"""

import collections
import contextlib
import getpass
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from slurm_tf import files
from slurm_tf.errors import RunError, UnreachableError, UsageError
from slurm_tf.watch.find_run import SelectedRun

_LOOPBACK = "127.0.0.1"
# the address that TensorBoard 2.21 prints when it is up
_URL = re.compile(rf"http://{re.escape(_LOOPBACK)}:(\d+)/")
_NODE_LINE = "slurm-tf: tensorboard on "
# TensorBoard imports TensorFlow, from a file system that may be slow.
_UP_SECONDS = 120.0
# srun ends its job first, and the task may take Slurm's KillWait, 30 s by default.
_END_SECONDS = 40.0
# The signal is repeated: a pending srun on a busy machine did not end after one (22.05.8, seen once, not explained).
_RESEND_SECONDS = 5.0
_LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Address:
    """Where TensorBoard listens; `node` is "" for this machine."""

    node: str
    port: int

    @property
    def url(self) -> str:
        """The address for a browser, on the node itself or behind `ssh`."""
        return f"http://localhost:{self.port}/"

    @property
    def host(self) -> str:
        """The node, or the name by which other machines may know this one."""
        return self.node or host_name()

    def ssh(self) -> str:
        """Return the ssh command that makes it reachable at localhost of the user's own machine."""
        tunnel, user = f"ssh -L {self.port}:localhost:{self.port}", getpass.getuser()
        login = f"{user}@{host_name()}"
        return f"{tunnel} -J {login} {user}@{self.node}" if self.node else f"{tunnel} {login}"


def log_folder(selected: SelectedRun) -> str:
    """Return the folder that TensorBoard reads; for a run with sweep points it has a link to the folder of each."""
    run = selected.folder
    for each in (run.path, run.tensorboard):
        files.own_folder(each)
    for point in selected.job_ids if selected.point is None else ():
        if point is not None:
            to = os.path.relpath(run.point(point).tensorboard, run.tensorboard)
            with contextlib.suppress(FileExistsError):
                os.symlink(to, os.path.join(run.tensorboard, str(point)))
    return run.tensorboard


def command(logdir: str, port: int) -> list[str]:
    """Return the command line of TensorBoard; port 0: any free port. Raises UsageError if it is not installed."""
    beside = Path(sys.executable).parent
    program = shutil.which("tensorboard") or shutil.which("tensorboard", path=str(beside))
    if program is None:
        raise UsageError(f"no tensorboard in PATH or in {beside}", "TensorBoard", "pip install tensorboard")
    return [program, "--logdir", logdir, "--host", _LOOPBACK, "--port", str(port)]


def srun_command(job: Mapping[str, Any], typed: Mapping[str, str | bool], argv: Sequence[str]) -> list[str]:
    """Return the srun command that runs `argv` on a node.

    `job`: the job of the run's manifest, which gives partition, account and QOS; `typed`: options that the user gave.
    """
    roles = [role for role in (job.get("roles") or {}).values() if role]
    partition = job.get("partition") or next((role["partition"] for role in roles if role.get("partition")), None)
    options: dict[str, str | bool | None] = {
        "job-name": "tensorboard", "partition": partition, "account": job.get("account"), "qos": job.get("qos"),
        "nodes": "1", "ntasks": "1", "export": "ALL", **typed,
    }  # fmt: skip
    words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items() if value]
    # srun does not print the node of its task: a shell prints it, and is then replaced by `argv`
    return ["srun", *words, "/bin/sh", "-c", f'echo "{_NODE_LINE}$(uname -n)" && exec "$@"', "sh", *argv]


class TensorBoardServer:
    """A TensorBoard process, or the srun that runs one on a node; leaving the context ends it."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it. Raises UnreachableError if there is no srun."""
        try:
            # a session of its own, since srun does not end at the first Ctrl-C of its terminal
            self._process = subprocess.Popen(
                list(argv), env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True, text=True, errors="replace",
            )  # fmt: skip
        except FileNotFoundError as error:
            raise UnreachableError(f"no {argv[0]} here", "Slurm's commands in PATH", "do it on a login node") from error
        self._on_node = argv[0] == "srun"
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()  # "" is the end
        self._last: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "TensorBoardServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._terminate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _terminate(self) -> None:
        """Send SIGTERM until it has ended. Raises RunError if it does not end in time."""
        until = time.monotonic() + _END_SECONDS
        while time.monotonic() < until:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_RESEND_SECONDS)
                return
        name = "srun" if self._on_node else "tensorboard"
        do = "scancel its job if squeue shows it" if self._on_node else ""
        raise RunError(f"{name} did not end in {_END_SECONDS:.0f} s, and was killed", do=do)

    def wait_until_up(self, say: Callable[[str], None]) -> Address:
        """Return the address once TensorBoard is up; `say` gets the messages of srun.

        A pending job is waited for without limit. Raises RunError if TensorBoard ends, or if it is not up two minutes
        after it has started.
        """
        node, until = "", None if self._on_node else time.monotonic() + _UP_SECONDS
        while True:
            line = self._read_line(until)
            if line.startswith(_NODE_LINE):
                node, until = line.removeprefix(_NODE_LINE), time.monotonic() + _UP_SECONDS
            elif line.startswith("srun: "):
                say(line)
            elif match := _URL.search(line):
                return Address(node, int(match[1]))

    @property
    def pid(self) -> int:
        """The process on this machine that a signal ends: TensorBoard, or its srun."""
        return self._process.pid

    def wait(self) -> None:
        """Wait until TensorBoard ends. Raises RunError then, since it should run until it is ended."""
        while True:
            self._read_line(None)

    def _read(self) -> None:
        if self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def _read_line(self, until: float | None) -> str:
        try:
            line = self._lines.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise RunError(f"tensorboard is not up after {_UP_SECONDS:.0f} s{self._last_output()}") from None
        if not line:
            code = self._process.wait(_END_SECONDS)
            raise RunError(f"tensorboard ended with exit code {code}{self._last_output()}")
        if line.strip():
            self._last.append(line.strip())
        return line.rstrip("\n")

    def _last_output(self) -> str:
        return "".join(f"\n  {line}" for line in self._last)


def host_name() -> str:
    """Return the name by which other machines may know this one."""
    full = socket.getfqdn()
    return socket.gethostname() if full.startswith(("localhost", "ip6-")) else full
