"""Reserves ports for TensorFlow before it starts, and finds the addresses of this node."""

import errno
import fcntl
import random
import socket
import struct
import time
from typing import List, Optional, Tuple

from slurm_tf.errors import AllocationError

_SIOCGIFADDR = 0x8915  # linux/sockios.h
_RETRY_SECONDS = 0.2

# A port on which hardly any host listens, so that a host that runs refuses a connection: discard (RFC 863).
_DISCARD = 9
# Slurm's default of SlurmdPort.
_SLURMD = 6818


def reserve(ports: Optional[Tuple[int, int]], deadline: float) -> socket.socket:
    """Return a socket bound to a free TCP port, not listening, that lets TensorFlow bind and listen on the same port.

    Without a range the kernel chooses a port that no socket has. In a range the port is claimed by a bind
    without SO_REUSEADDR, which only one process can win; the option is set afterwards (Linux compares it at the time of
    the next bind). The port is reserved while the socket is open. Raises AllocationError when none is free by
    `deadline` (time.monotonic); ports of a job that just ended are busy for up to a minute (TIME_WAIT).
    """
    if ports is None:
        return _kernel_port()
    low, high = ports
    while True:
        # from a random start, so that the tasks of a node do not all try the same ports first
        first = random.randint(low, high)
        for port in (*range(first, high + 1), *range(low, first)):
            claimed = _claim(port)
            if claimed is not None:
                return claimed
        if time.monotonic() > deadline:
            raise AllocationError(
                f"every port from {low} to {high} is in use on {socket.gethostname()}",
                "one free port a task",
                "widen `ports` in the site profile",
            )
        time.sleep(_RETRY_SECONDS)


def port_of(sock: socket.socket) -> int:
    """Return the local port of `sock`."""
    return int(sock.getsockname()[1])


def interface_address(name: str) -> str:
    """Return the IPv4 address of network interface `name`; raises AllocationError if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", name.encode()[:15])
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
        except OSError as error:
            found = ", ".join(interface for _, interface in socket.if_nameindex())
            raise AllocationError(
                f"interface {name!r} has no IPv4 address on {socket.gethostname()} ({error.strerror})",
                f"one of its interfaces: {found}",
                "correct `interface` in the site profile",
            ) from error
    return socket.inet_ntoa(answer[20:24])


def fast_address(interface: str, suffix: str, node: str) -> str:
    """Return this node's address in the fast network, "" if the site names none. Raises AllocationError.

    `interface`: of that network; or `suffix`: what it adds to the host name of `node`, before the domain.
    """
    if interface:
        return interface_address(interface)
    return _suffixed_address(suffix, node) if suffix else ""


def _suffixed_address(suffix: str, node: str) -> str:
    host, dot, domain = node.partition(".")
    name = f"{host}{suffix}{dot}{domain}"
    try:
        address = socket.gethostbyname(name)
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise AllocationError(
            f"{name} is no address of {node} ({error.strerror})",
            "the node's host name in the fast network",
            "correct `host-suffix` in the site profile",
        ) from error
    return address


def address_towards(host: str) -> str:
    """Return the address that packets to `host`, a numeric address, leave from; "" if there is none but loopback.

    Connecting a datagram socket sends nothing.
    """
    try:
        family = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if is_loopback(address) else address


def own_addresses(interface: str, suffix: str = "") -> List[str]:
    """Return the addresses at which other nodes may reach this one, likeliest first; loopback only if all else fails.

    Debian maps a host's own name to 127.0.1.1, so a name is asked for its addresses and loopback ones are left out.
    """
    name = socket.gethostname()
    fast = fast_address(interface, suffix, name)
    if fast:
        return [fast]
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except socket.gaierror:
        found = []
    reachable = [text for text in dict.fromkeys(found) if not is_loopback(text)]
    routed = address_towards("192.0.2.1")  # TEST-NET-1, RFC 5737
    return list(dict.fromkeys([*reachable, *([routed] if routed else [])])) or ["127.0.0.1"]


def is_there(host: str, seconds: float) -> bool:
    """Return whether the machine at `host` refuses or accepts one of two connections, each within `seconds`.

    One is to slurmd's port, for nodes whose firewall drops packets to other ports: slurmds connect to each other.
    """
    return any(_answers(host, port, seconds) for port in (_DISCARD, _SLURMD))


def _answers(host: str, port: int, seconds: float) -> bool:
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return True


def is_loopback(address: str) -> bool:
    """Whether a numeric address is a loopback address."""
    return address.startswith("127.") or address == "::1"


def _kernel_port() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", 0))
    return sock


def _claim(port: int) -> Optional[socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind(("", port))
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock
