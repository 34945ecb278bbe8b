"""The agent's end of the socket over which it and the program exchange lines of JSON (train/agent_connection.py)."""

import contextlib
import selectors
import socket
from typing import List

_CHUNK = 1 << 16
# A program that writes more than this without a newline does not speak with its agent.
_LONGEST_LINE = 1 << 24


class ProgramConnection:
    """A socket pair; `program_end` is to be inherited by the program, and closed here once that is started."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._socket, self.program_end = socket.socketpair()
        self._selector = selector
        self._rest = b""
        self._is_open = True
        selector.register(self._socket, selectors.EVENT_READ, self)

    def read(self) -> List[str]:
        """Return the lines that the program has completed; close the connection if the program has closed its end."""
        data = b""
        with contextlib.suppress(OSError):
            data = self._socket.recv(_CHUNK)
        if not data or len(self._rest) > _LONGEST_LINE:
            self.close()
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]

    def write(self, line: str) -> None:
        """Write a line to the program, or nothing if that has closed its end."""
        if self._is_open:
            with contextlib.suppress(OSError):
                self._socket.sendall(line.encode() + b"\n")

    def close(self) -> None:
        """Close this end."""
        if self._is_open:
            self._is_open = False
            self._selector.unregister(self._socket)
            self._socket.close()
