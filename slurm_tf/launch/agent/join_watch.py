"""Sees whether a program joins TensorFlow's cluster: it listens for other tasks, or is connected to one.

A plain program that TensorFlow was not told to distribute does neither: it trains a model of its own. Once a program
has joined nothing more is looked at. Source of the tables of sockets: proc(5), and the kernel's proc_net_tcp.rst.
"""

import contextlib
import os
import time
from typing import Callable, Collection, Iterator, List, NamedTuple, Optional, Set, Tuple

from slurm_tf.launch.agent import process_tree
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.launch.transport.messages import Joined

# How often it is looked: a program that joins at once and ends soon is seen as well; later only now and then.
_SOON, _LATER = 0.25, 5.0
_SOON_SECONDS = 120.0
# Looks take at most this part of a processor's time: a node may have very many sockets.
_SHARE = 0.02
# So long after its first output a program that has not joined trains alone: TensorFlow starts, and data are read.
_FIRST_MINUTES = 120.0
_ESTABLISHED, _LISTEN = "01", "0A"


class _Socket(NamedTuple):
    """A line of /proc/PID/net/tcp."""

    port: int
    peer_port: int
    state: str
    inode: str


class JoinWatch:
    """Watches one program, if its task has others to join. `joined`: None where that cannot be seen, or is not judged.

    `wakes_at`: when `look` is to be called (time.monotonic), None for not any more.
    """

    def __init__(self, assignment: Assignment, tell: Callable[[Joined], None]) -> None:
        """`tell` tells the coordinator."""
        self._tell = tell
        hosts = assignment.hosts or {}
        self._is_judged = assignment.joins
        own = hosts[assignment.role][assignment.index] if assignment.joins else ""
        every = {_port(address) for addresses in hosts.values() for address in addresses}
        self._port = _port(own) if own else 0
        self._peers = every - {self._port}
        self._pid, self._began, self._is_told, self._is_blind = 0, 0.0, False, False
        self._printed_at: Optional[float] = None
        self.joined: Optional[bool] = None
        self.wakes_at: Optional[float] = None

    def begin(self, pid: int, now: float) -> None:
        """Watch the program that was started as process `pid`."""
        self._pid, self._began, self._is_told, self._is_blind = pid, now, False, False
        self._printed_at = None
        if self._is_judged:
            self.joined, self.wakes_at = False, now

    def printed(self, now: float) -> None:
        """Record that the program prints."""
        self._printed_at = now if self._printed_at is None else self._printed_at

    def told(self) -> None:
        """Record that the program uses slurm_tf.train, which joins."""
        if self._is_judged and not self.joined:
            self._has_joined()

    def look(self, now: float) -> None:
        """Look, if it is time, and tell that the program has joined, or once that it has not for long."""
        if self.wakes_at is None or now < self.wakes_at:
            return
        begun = time.process_time()
        seen = has_joined(self._pid, self._port, self._peers)
        if seen:
            self._has_joined()
            return
        self._is_blind = self._is_blind or (seen is None and not process_tree.is_over(self._pid))
        self.joined = None if self._is_blind else False
        pause = _SOON if now - self._began < _SOON_SECONDS else _LATER
        self.wakes_at = now + max(pause, (time.process_time() - begun) / _SHARE)
        is_late = self._printed_at is not None and now - self._printed_at >= _FIRST_MINUTES
        if is_late and not self._is_told and self.joined is False:
            self._is_told = True
            self._tell(Joined(False))

    def ended(self) -> Optional[bool]:
        """Record that the program has ended; return whether it had joined, None where that is not known."""
        if self._is_judged and not self.joined and was_met(self._port):
            self._has_joined()
        self.wakes_at = None
        return self.joined

    def _has_joined(self) -> None:
        self.joined, self.wakes_at = True, None
        self._tell(Joined(True))


def has_joined(pid: int, port: int, peers: Collection[int]) -> Optional[bool]:
    """Return whether a process of the tree of `pid` listens, or is connected to one of the ports `peers`.

    `port`: that of its task, on which it alone can listen. None where that cannot be seen.
    """
    table = _sockets(str(pid), str(os.getuid()))
    if table is None:
        return None
    if any(each.state == _LISTEN and each.port == port for each in table):
        return True
    wanted = {
        each.inode
        for each in table
        if each.state == _LISTEN or (each.state == _ESTABLISHED and each.peer_port in peers)
    }
    if not wanted:
        return False
    owned, is_whole = _owned(pid, wanted)
    return owned if owned or is_whole else None


def was_met(port: int) -> bool:
    """Return whether another task was connected to `port` of this node a moment ago: TCP remembers it for a minute.

    It is seen of programs that join and end between two looks.
    """
    return any(port in (each.port, each.peer_port) for each in _sockets("self", "") or ())


def _sockets(process: str, user: str) -> Optional[List[_Socket]]:
    """Return the TCP sockets of a process's network that are of `user`, "" for all; None if they cannot be read."""
    found: List[_Socket] = []
    try:
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{process}/net/{name}", encoding="ascii") as file:
                found += [each for line in file for each in _parsed(line.split(), user)]
    except OSError:
        return None
    return found


def _parsed(fields: List[str], user: str) -> Iterator[_Socket]:
    """Yield the socket of one line, unless it is the head, or a socket of another user."""
    if len(fields) > 9 and fields[0] != "sl" and user in ("", fields[7]):
        ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
        yield _Socket(ports[0], ports[1], fields[3], fields[9])


def _owned(pid: int, inodes: Set[str]) -> Tuple[bool, bool]:
    """Return whether the tree of `pid` has one of the sockets, and whether all of its open files could be seen."""
    is_whole = process_tree.is_known()
    for each in process_tree.tree(pid):
        try:
            for descriptor in os.listdir(f"/proc/{each}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(f"/proc/{each}/fd/{descriptor}")[8:-1] in inodes:  # "socket:[INODE]"
                        return True, is_whole
        except OSError:
            is_whole = is_whole and process_tree.is_over(each)
    return False, is_whole


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
