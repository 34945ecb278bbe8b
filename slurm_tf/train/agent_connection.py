"""The connection to this task's agent, and through it to the other tasks; launch/agent/agent.py lists what is said."""

import contextlib
import faulthandler
import functools
import json
import os
import queue
import signal
import socket
import sys
import threading
from typing import Any, Callable, Dict, Mapping, NoReturn, Optional

from slurm_tf.run import env

# Longer than the coordinator waits (launch/coordinator/message_relay.py), which always answers.
_ANSWER_SECONDS = 180.0
# How long a program that is to leave may take to do so by itself: what waits for other tasks never does.
_LEAVE_SECONDS = 2.0
_DIRECT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class AgentConnection:
    """One program's end of the line. What comes is read by a thread of its own: the others may be in a long step."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self._rest = b""
        self._writing = threading.Lock()
        self._asking = threading.Lock()
        self._asked = 0
        self._answers: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue()
        self._leaving = threading.Event()
        self._code = env.INTERRUPTED

    def begin(
        self,
        writes: bool,
        act: Callable[[Dict[str, Any]], Optional[str]],
        interrupt: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Say that this program listens; from now on signals are its agent's affair, and the agent asks for its end.

        `writes`: it is the one that commits checkpoints. `act` does what another task asks for, and returns why it
        could not, in the reading thread. `interrupt`: called with the reason when training is to be saved, in another.
        """
        shield()
        # the agent's, where this program is hung: Python may not run any more
        faulthandler.register(signal.SIGQUIT, all_threads=True)
        self._act, self._interrupt = act, interrupt
        self.tell({"hello": {"writes": writes}})
        threading.Thread(target=self._read_all, name="slurm_tf control", daemon=True).start()

    def ask(self, role: str, message: Dict[str, Any]) -> Dict[str, Optional[str]]:
        """Have every running task of `role` ("*": all others) act on `message`; return the error of each, or None.

        Raises OSError if the agent is gone.
        """
        with self._asking:
            self._asked += 1
            self._write({"ask": self._asked, "to": role, "message": message})
            while True:
                try:
                    words = self._answers.get(timeout=_ANSWER_SECONDS)
                except queue.Empty:
                    raise TimeoutError(f"no answer from the coordinator in {_ANSWER_SECONDS:.0f} s") from None
                if words is None:
                    raise ConnectionError("the agent of this task is gone")
                if words["answers"] == self._asked:
                    errors: Dict[str, Optional[str]] = words["errors"]
                    return errors

    def tell(self, words: Mapping[str, Any]) -> None:
        """Say something that nobody answers; nobody may be there."""
        with contextlib.suppress(OSError):
            self._write(words)

    def progress(self, step: int, steps: int, rate: float, values: Mapping[str, float]) -> None:
        """Say how far training is, for `slurm-tf status`."""
        self.tell({"progress": {"step": step, "steps": steps, "rate": rate, "values": dict(values)}})

    def leave(self) -> NoReturn:
        """Wait until the agent says that this program is to end, then end it."""
        self._leaving.wait()
        raise SystemExit(self._code)

    def is_leaving(self) -> bool:
        """Whether the agent has said so."""
        return self._leaving.is_set()

    def _read_all(self) -> None:
        while True:
            try:
                words = self._read()
            except OSError:
                break
            if "answers" in words:
                self._answers.put(words)
            elif "asked" in words:
                self.tell({"answer": words["asked"], "error": self._act(words["message"])})
            elif "interrupt" in words:
                # it may take long, and need answers that are read here
                threading.Thread(target=self._interrupt, args=(str(words["interrupt"]),), daemon=True).start()
            elif "leave" in words:
                self._code = int(words["leave"])
                self._leaving.set()
                threading.Thread(target=self._insist, daemon=True).start()
        self._answers.put(None)
        self._leaving.set()

    def _insist(self) -> None:
        threading.Event().wait(_LEAVE_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self._code)

    def _write(self, words: Mapping[str, Any]) -> None:
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


def shield() -> None:
    """Let Slurm's signals do nothing here: with proctrack/linuxproc they reach the program as well as its agent.

    Again after TensorFlow has started a strategy for several workers, which takes SIGTERM for itself (2.21). Processes
    that the program forks get the usual ones: a pool of workers is ended by SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _DIRECT:
        if signal.getsignal(number) in (signal.SIG_DFL, None, _nothing):
            signal.signal(number, _nothing)
    _unshield_forks()


@functools.cache
def _unshield_forks() -> None:
    os.register_at_fork(after_in_child=_unshield)


def _nothing(number: int, frame: object) -> None:
    """Do nothing, unlike SIG_IGN not in programs that this one starts either."""


def _unshield() -> None:
    for number in _DIRECT:
        if signal.getsignal(number) is _nothing:
            signal.signal(number, signal.SIG_DFL)
