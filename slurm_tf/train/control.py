"""The line to this task's agent, and through it to the other tasks: see launch/agent.py for what is said on it."""

import contextlib
import json
import os
import socket
import threading
from typing import Any, Callable, Dict, Mapping, Optional

# Longer than the coordinator waits (launch/switchboard.py), which always answers.
_ANSWER_SECONDS = 180.0


class Control:
    """One program's end of the line; questions are asked by one thread at a time."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self._rest = b""
        self._asked = 0
        # progress comes from the training's thread, questions from that of the checkpoint
        self._writing = threading.Lock()

    def ask(self, role: str, message: Dict[str, Any]) -> Dict[str, Optional[str]]:
        """Have every running task of `role` act on `message`; return its error, or None, for each. Raises OSError."""
        self._asked += 1
        self._write({"ask": self._asked, "to": role, "message": message})
        self._socket.settimeout(_ANSWER_SECONDS)
        while True:
            words = self._read()
            if words.get("answers") == self._asked:
                errors: Dict[str, Optional[str]] = words["errors"]
                return errors

    def progress(self, step: int, steps: int, rate: float, values: Mapping[str, float]) -> None:
        """Say how far training is, for `slurm-tf status`; nobody answers, and nobody may be there."""
        with contextlib.suppress(OSError):
            self._write({"progress": {"step": step, "steps": steps, "rate": rate, "values": dict(values)}})

    def serve(self, act: Callable[[Dict[str, Any]], Optional[str]]) -> None:
        """Answer what other tasks ask, with what `act` returns, until the agent is gone."""
        self._socket.settimeout(None)
        while True:
            try:
                words = self._read()
            except OSError:
                return
            if "asked" in words:
                self._write({"answer": words["asked"], "error": act(words["message"])})

    def _write(self, words: Dict[str, Any]) -> None:
        with self._writing:
            self._socket.sendall(json.dumps(words).encode() + b"\n")

    def _read(self) -> Dict[str, Any]:
        while b"\n" not in self._rest:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the agent of this task is gone")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        words: Dict[str, Any] = json.loads(line)
        return words
