"""Ports for programs of a test."""

import os
import socket

# below those that Linux gives to whoever asks for any port (ip_local_port_range)
_FIRST, _LAST, _OF_A_PROCESS = 10_000, 32_000, 20


def free_range(count: int) -> tuple[int, int]:
    """Return a range of ports that nobody uses now; tests in other processes are given others."""
    start = _FIRST + os.getpid() % ((_LAST - _FIRST) // _OF_A_PROCESS) * _OF_A_PROCESS
    for low in (*range(start, _LAST - count, count), *range(_FIRST, start, count)):
        sockets = []
        try:
            for port in range(low, low + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("", port))
            return low, low + count - 1
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise AssertionError("no free range of ports")
