"""Receives signals through a socket, so that no work is done inside a signal handler."""

import selectors
import signal
import socket
from typing import Sequence, Set

# Signals that srun, Slurm and users send to end a job, or to warn it.
REPORTED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class SignalPipe:
    """Writes each signal of `numbers` as a byte to a socket that `selector` watches, with this object as data."""

    def __init__(self, selector: selectors.BaseSelector, numbers: Sequence[int]) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            # a handler, not SIG_IGN: an ignored signal would stay ignored in the programs that are started
            signal.signal(number, lambda *_: None)
        selector.register(self._reader, selectors.EVENT_READ, self)

    def read(self) -> Set[int]:
        """Return the signals that were received since the last call."""
        try:
            return set(self._reader.recv(4096))
        except BlockingIOError:
            return set()
