"""Connects a program to the agent of its task, and through it to the programs of the other tasks.

Both sides send messages over an inherited socket (run/program_messages.py).
"""

import contextlib
import faulthandler
import functools
import os
import queue
import signal
import socket
import sys
import threading
from typing import Any, Callable, Mapping, NoReturn, Optional

from slurm_tf.run import env, program_messages
from slurm_tf.run.program_messages import (
    ExitRequest,
    Listening,
    ProgramMessage,
    RelayedRequest,
    Request,
    RequestAnswer,
    RequestResult,
    SaveRequest,
)

# Longer than the coordinator's own timeout (launch/coordinator/message_relay.py), after which it answers in any case.
_ANSWER_SECONDS = 180.0
# How long a program that was told to exit may take to do so by itself; one that waits for other tasks never would.
_EXIT_SECONDS = 2.0
_SLURM_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class AgentConnection:
    """The program's end of the connection. A thread reads it, as the main thread may be in a long training step."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self._received = b""
        self._write_lock = threading.Lock()
        self._request_lock = threading.Lock()
        self._requests = 0
        self._results: queue.Queue[Optional[RequestResult]] = queue.Queue()
        self._exit_requested = threading.Event()
        self._exit_code = env.INTERRUPTED

    def start(
        self,
        is_writer: bool,
        on_request: Callable[[Mapping[str, Any]], Optional[str]],
        on_interrupt: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Tell the agent that this program listens. From now on only the agent reacts to Slurm's signals.

        `is_writer`: this program commits the checkpoints. `on_request` handles a request of another task in the reading
        thread, and returns an error text or None. `on_interrupt` is called in a thread of its own, with the reason,
        when training is to be saved.
        """
        ignore_slurm_signals()
        # The agent sends SIGQUIT to a program that hangs, in which Python code may not run any more.
        faulthandler.register(signal.SIGQUIT, all_threads=True)
        self._on_request, self._on_interrupt = on_request, on_interrupt
        self.send(Listening(is_writer))
        threading.Thread(target=self._read_all, name="slurm_tf agent connection", daemon=True).start()

    def request(self, role: str, content: Mapping[str, Any]) -> Mapping[str, Optional[str]]:
        """Send `content` to every running task of `role`, or to all others for "*"; return each task's error, or None.

        Raises OSError if the agent is gone or does not answer.
        """
        with self._request_lock:
            self._requests += 1
            self._write(Request(self._requests, role, content))
            while True:
                try:
                    result = self._results.get(timeout=_ANSWER_SECONDS)
                except queue.Empty:
                    raise TimeoutError(f"no answer from the coordinator in {_ANSWER_SECONDS:.0f} s") from None
                if result is None:
                    raise ConnectionError("the agent of this task is gone")
                if result.number == self._requests:
                    return result.errors

    def send(self, message: ProgramMessage) -> None:
        """Send a message that needs no answer; do nothing if the agent is gone."""
        with contextlib.suppress(OSError):
            self._write(message)

    def wait_and_exit(self) -> NoReturn:
        """Wait until the agent tells this program to exit, then raise SystemExit with the agent's exit code."""
        self._exit_requested.wait()
        raise SystemExit(self._exit_code)

    def is_exit_requested(self) -> bool:
        """Return whether the agent has told this program to exit, or is gone."""
        return self._exit_requested.is_set()

    def _read_all(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._handle(program_messages.decode_to_program(self._read_line()))
        self._results.put(None)
        self._exit_requested.set()

    def _handle(self, message: Optional[ProgramMessage]) -> None:
        """Act on a message of the agent; None, a line that is none, is ignored."""
        if isinstance(message, RequestResult):
            self._results.put(message)
        elif isinstance(message, RelayedRequest):
            self.send(RequestAnswer(message.number, self._on_request(message.content)))
        elif isinstance(message, SaveRequest):
            # It may take long, and wait for answers that this thread reads.
            threading.Thread(target=self._on_interrupt, args=(message.reason,), daemon=True).start()
        elif isinstance(message, ExitRequest):
            self._exit_code = message.code
            self._exit_requested.set()
            threading.Thread(target=self._exit_after_timeout, daemon=True).start()

    def _exit_after_timeout(self) -> None:
        threading.Event().wait(_EXIT_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self._exit_code)

    def _write(self, message: ProgramMessage) -> None:
        with self._write_lock:
            self._socket.sendall(program_messages.encode(message).encode() + b"\n")

    def _read_line(self) -> bytes:
        while b"\n" not in self._received:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the agent of this task is gone")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line


def ignore_slurm_signals() -> None:
    """Have SIGTERM, SIGUSR1 and SIGUSR2 do nothing, unless the program has handlers of its own for them.

    With proctrack/linuxproc Slurm sends them to the program as well as to its agent. Call this again after TensorFlow
    has created a strategy for several workers, which installs a handler for SIGTERM (2.21). Forked processes get the
    default handlers back, as a multiprocessing pool ends its workers by SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SLURM_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, None, _ignore):
            signal.signal(number, _ignore)
    _restore_handlers_in_forks()


@functools.cache
def _restore_handlers_in_forks() -> None:
    os.register_at_fork(after_in_child=_restore_handlers)


def _ignore(number: int, frame: object) -> None:
    """Do nothing. Unlike SIG_IGN, a handler is not inherited by the programs that this one starts."""


def _restore_handlers() -> None:
    for number in _SLURM_SIGNALS:
        if signal.getsignal(number) is _ignore:
            signal.signal(number, signal.SIG_DFL)
