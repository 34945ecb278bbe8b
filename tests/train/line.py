"""An agent's and a coordinator's part in a conversation with programs that use slurm_tf.train, as a test drives it.

The real ones are in tests/launch and tests/cluster: here a test decides when what is said.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import PYTHONPATH
from tests.free_ports import free_range


class Program:
    """One task's process; `said`: the lines that it wrote to its agent."""

    def __init__(self, argv: Sequence[str], environ: dict[str, str], output: Path) -> None:
        self.said: list[dict[str, Any]] = []
        self._mine, theirs = socket.socketpair()
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *argv],
                env={**os.environ, **environ, "SLURM_TF_CONTROL_FD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        theirs.close()
        self.others: list[Program] = []
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def text(self) -> str:
        return self.output.read_text()

    def tell(self, words: dict[str, Any]) -> None:
        self._mine.sendall(json.dumps(words).encode() + b"\n")

    def wait_for(self, pattern: str, timeout: float = 90.0) -> "re.Match[str]":
        """Wait until it has printed what matches."""
        match: re.Match[str] = self._wait(lambda: re.search(pattern, self.text, re.MULTILINE), pattern, timeout)
        return match

    def wait_said(self, word: str, timeout: float = 60.0) -> Any:
        """Wait until it has said something of that name; return the first."""
        return self._wait(lambda: next((each for each in self.said if word in each), None), word, timeout)[word]

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
            assert self.process.poll() is None or found() is not None, f"no {what!r}:\n{self.text}\n{self.said}"
            time.sleep(0.02)
        raise AssertionError(f"no {what!r} in {timeout} s:\n{self.text}\n{self.said}")

    def _listen(self) -> None:
        with self._mine.makefile("r") as lines:
            for line in lines:
                words = json.loads(line)
                self.said.append(words)
                if "ask" in words:
                    self._pass_on(words)

    def _pass_on(self, words: dict[str, Any]) -> None:
        """Ask the others, as the coordinator does; their answers are all good, or none of them comes."""
        for number, other in enumerate(self.others):
            before = sum("answer" in each for each in other.said)
            other.tell({"asked": number, "message": words["message"]})
            until = time.monotonic() + 30
            while sum("answer" in each for each in other.said) == before:
                assert time.monotonic() < until, f"no answer:\n{other.text}"
                time.sleep(0.005)
        self.tell({"answers": words["ask"], "errors": {str(n): None for n, _ in enumerate(self.others)}})


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
        own = {
            "PYTHONPATH": PYTHONPATH,
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
            "SLURM_TF_CONTRACT": "1",
            "SLURM_TF_STRATEGY": "multi_worker" if tasks > 1 else "single",
            "SLURM_TF_CHECKPOINT_FOLDER": str(checkpoints),
            **({"TF_CONFIG": json.dumps(config)} if tasks > 1 else {}),
            **environ,
        }
        programs.append(Program(argv, own, folder / f"output-{number}-{index}"))
    for each in programs:
        each.others = [other for other in programs if other is not each]
    return programs
