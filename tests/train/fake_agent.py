"""Starts programs that use slurm_tf.train, and plays their agents and coordinator, so that a test decides what is sent.

tests/launch and tests/cluster have real agents.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from slurm_tf.run import program_messages
from slurm_tf.run.program_messages import ProgramMessage, RelayedRequest, Request, RequestAnswer, RequestResult
from tests import forkserver
from tests.free_ports import free_range

Kind = TypeVar("Kind", bound=ProgramMessage)


class Program:
    """The process of one task. `sent`: the messages that it sent to its agent."""

    def __init__(self, argv: Sequence[str], environ: dict[str, str], output: Path) -> None:
        self.sent: list[ProgramMessage] = []
        self._socket, its_end = socket.socketpair()
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [forkserver.python(), *argv],
                env={**os.environ, **environ, "SLURM_TF_CONTROL_FD": str(its_end.fileno())},
                pass_fds=[its_end.fileno()],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        its_end.close()
        self.others: list[Program] = []
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def text(self) -> str:
        return self.output.read_text()

    def send(self, message: ProgramMessage) -> None:
        self._socket.sendall(program_messages.encode(message).encode() + b"\n")

    def wait_for(self, pattern: str, timeout: float = 90.0) -> "re.Match[str]":
        """Wait until its output matches; return the match."""
        match: re.Match[str] = self._wait(lambda: re.search(pattern, self.text, re.MULTILINE), pattern, timeout)
        return match

    def messages(self, kind: type[Kind]) -> list[Kind]:
        """Return the messages of type `kind` that it has sent so far."""
        return [each for each in self.sent if isinstance(each, kind)]

    def wait_for_message(self, kind: type[Kind], timeout: float = 60.0) -> Kind:
        """Wait until it has sent a message of type `kind`; return the first one."""
        first: Kind = self._wait(lambda: next(iter(self.messages(kind)), None), kind.__name__, timeout)
        return first

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)

    def _wait(self, found: Any, what: str, timeout: float) -> Any:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            match = found()
            if match is not None:
                return match
            assert self.process.poll() is None or found() is not None, f"no {what!r}:\n{self.text}\n{self.sent}"
            time.sleep(0.02)
        raise AssertionError(f"no {what!r} in {timeout} s:\n{self.text}\n{self.sent}")

    def _listen(self) -> None:
        with self._socket.makefile("r") as lines:
            for line in lines:
                message = program_messages.decode_from_program(line)
                assert message is not None, line
                self.sent.append(message)
                if isinstance(message, Request):
                    self._relay(message)

    def _relay(self, request: Request) -> None:
        """Send a request to the other programs, as the coordinator does, and answer it without errors."""
        for number, other in enumerate(self.others):
            before = len(other.messages(RequestAnswer))
            other.send(RelayedRequest(number, request.content))
            until = time.monotonic() + 30
            while len(other.messages(RequestAnswer)) == before:
                assert time.monotonic() < until, f"no answer:\n{other.text}"
                time.sleep(0.005)
        self.send(RequestResult(request.number, {str(n): None for n, _ in enumerate(self.others)}))


def start(folder: Path, argv: Sequence[str], tasks: int = 1, **environ: str) -> list[Program]:
    """Start a program as `tasks` workers of one run in `folder`."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True, mode=0o700)
    low, high = free_range(tasks)
    hosts = [f"127.0.0.1:{port}" for port in range(low, high + 1)]
    number = len(list(folder.glob("output-*")))
    programs = []
    for index in range(tasks):
        config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        task_environ = {
            "PYTHONUNBUFFERED": "1",
            **forkserver.VARIABLES,
            "CUDA_VISIBLE_DEVICES": "-1",
            "SLURM_TF_CONTRACT": "1",
            "SLURM_TF_STRATEGY": "multi_worker" if tasks > 1 else "single",
            "SLURM_TF_CHECKPOINT_FOLDER": str(checkpoints),
            **({"TF_CONFIG": json.dumps(config)} if tasks > 1 else {}),
            **environ,
        }
        programs.append(Program(argv, task_environ, folder / f"output-{number}-{index}"))
    for each in programs:
        each.others = [other for other in programs if other is not each]
    return programs
