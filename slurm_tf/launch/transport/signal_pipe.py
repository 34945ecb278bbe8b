"""Signals as something to read, so that nothing is ever done inside a handler."""

import selectors
import signal
import socket
from typing import Sequence, Set

# What srun, Slurm and people send to end a job, or to warn it.
REPORTED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class SignalPipe:
    """Signals of `numbers` as bytes on a socket that `selector` watches; this object is the key's data."""

    def __init__(self, selector: selectors.BaseSelector, numbers: Sequence[int]) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            # a handler, not SIG_IGN: an ignored signal would stay ignored in the programs that we start
            signal.signal(number, lambda *_: None)
        selector.register(self._reader, selectors.EVENT_READ, self)

    def read(self) -> Set[int]:
        """Return the numbers that came since the last call."""
        try:
            return set(self._reader.recv(4096))
        except BlockingIOError:
            return set()
