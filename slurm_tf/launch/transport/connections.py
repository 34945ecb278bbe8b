"""Where agents and their coordinator meet: many connections in one selectors loop, one connection in an agent.

Ends of connections are messages too, so that whoever listens has one place to look: {"lost": reason}.
"""

import contextlib
import errno
import random
import resource
import selectors
import socket
import time
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Sequence, Tuple

from slurm_tf.errors import AuthenticationError, RegistrationError, SlurmTfError
from slurm_tf.launch.transport import authentication, ports

_BACKLOG = 4096
_CHUNK = 1 << 16
# How long somebody may stay connected without having proved anything.
_HANDSHAKE_SECONDS = 20.0
# Agents of one step start within milliseconds: they spread their first tries over this time for each thousand of them.
_JITTER_SECONDS = 1.0


class Connection:
    """The coordinator's end of one connection. `name` is for messages; `peer` is the other side's address and port."""

    def __init__(self, sock: socket.socket, peer: str, secret: bytes) -> None:
        self.sock, self.peer, self.name = sock, peer, peer
        self.host = peer.rpartition(":")[0]
        self.talk = authentication.Conversation(secret, authentication.COORDINATOR)
        self.opened = time.monotonic()


class Server:
    """The coordinator's door. `log` gets one line about each stranger."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        secret: bytes,
        log: Callable[[str], None],
        port_range: Optional[Tuple[int, int]] = None,
        local: bool = False,
    ) -> None:
        """Listen on a port of `port_range`, or one that the kernel chooses; on the loopback address only if `local`."""
        self._selector, self._secret, self._log = selector, secret, log
        self._connections: Dict[Connection, None] = {}
        self._lost: Deque[Tuple[Connection, str]] = deque()
        self._listener = _listen(port_range, local)
        self._selector.register(self._listener, selectors.EVENT_READ, self)
        self.port = ports.port_of(self._listener)

    def renew(self, secret: bytes) -> None:
        """Close every connection; from now on `secret` is what to prove."""
        self._secret = secret
        self._lost.clear()
        for connection in list(self._connections):
            self.close(connection)

    def accept(self) -> None:
        """Take in every connection that waits."""
        while True:
            try:
                sock, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # the other side left already, or we are out of files: the rest can wait
                self._log(f"could not accept a connection: {error.strerror}")
                return
            sock.setblocking(False)
            _tune(sock)
            connection = Connection(sock, f"{peer[0]}:{peer[1]}", self._secret)
            self._connections[connection] = None
            self._selector.register(sock, selectors.EVENT_READ, connection)
            self.flush(connection)

    def read(self, connection: Connection) -> List[authentication.Message]:
        """Return the messages that came on `connection`."""
        try:
            data = connection.sock.recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            self._lose(connection, str(error.strerror))
            return []
        if not data:
            self._lose(connection, "its connection ended")
            return []
        try:
            messages = connection.talk.receive(data)
        except SlurmTfError as error:
            self._log(f"refused a connection from {connection.peer}: {error.found}")
            self._lose(connection, error.found)
            return []
        self.flush(connection)
        return messages

    def send_packed(self, connection: Connection, body: bytes) -> None:
        """Send what `authentication.pack` made, later if the connection is full."""
        if connection in self._connections:
            connection.talk.send_packed(body)
            self.flush(connection)

    def flush(self, connection: Connection) -> None:
        """Write what waits for `connection`."""
        waiting = connection.talk.outgoing
        try:
            while waiting:
                del waiting[: connection.sock.send(waiting)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(connection, str(error.strerror))
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0)
        self._selector.modify(connection.sock, events, connection)

    def next_lost(self) -> Optional[Tuple[Connection, str]]:
        """Return an authenticated connection that has ended, each once, and why; None if there is none.

        Sending never calls whoever handles lost connections: what that decides could reach other tasks before the
        rest of what was being sent to them.
        """
        return self._lost.popleft() if self._lost else None

    @property
    def has_lost(self) -> bool:
        """Whether `next_lost` returns a connection."""
        return bool(self._lost)

    def expire(self) -> None:
        """End connections that have not proved themselves in time."""
        for connection in list(self._connections):
            late = time.monotonic() - connection.opened > _HANDSHAKE_SECONDS
            if late and not connection.talk.authenticated:
                self._log(f"refused a connection from {connection.peer}: no proof in {_HANDSHAKE_SECONDS:.0f} s")
                self.close(connection)

    def close(self, connection: Connection) -> None:
        """Forget `connection`."""
        if connection in self._connections:
            del self._connections[connection]
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def close_all(self) -> None:
        """Close the door and every connection."""
        self._selector.unregister(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            self.close(connection)

    def _lose(self, connection: Connection, reason: str) -> None:
        self.close(connection)
        if connection.talk.authenticated:
            self._lost.append((connection, reason))


class Client:
    """An agent's connection to its coordinator. `early`: messages that came with the one that `next` waited for."""

    def __init__(
        self, sock: socket.socket, talk: authentication.Conversation, early: List[authentication.Message]
    ) -> None:
        self.sock, self._talk, self.early = sock, talk, early

    def receive(self) -> List[authentication.Message]:
        """Wait for the socket to bring something; return the messages, {"lost": reason} last if the end came.

        "cut": the coordinator may live.
        """
        try:
            data = self.sock.recv(_CHUNK)
        except OSError as error:
            return [{"lost": error.strerror or str(error), "cut": error.errno != errno.ECONNRESET}]
        if not data:
            return [{"lost": "the coordinator closed the connection"}]
        try:
            return self._talk.receive(data)
        except AuthenticationError as error:
            return [{"lost": error.found}]

    def next(self, deadline: float) -> authentication.Message:
        """Wait for one message; raises RegistrationError if none comes by `deadline` (time.monotonic)."""
        while not self.early:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            self.early = self.receive()
        message = self.early.pop(0)
        if "lost" in message:
            found = f"no answer from the coordinator: {message['lost']}"
            raise RegistrationError(found, "its answer", "see what the coordinator printed", ())
        return message

    def send(self, message: authentication.Message) -> None:
        """Send `message`; an ended connection shows at the next `receive`."""
        self._talk.send_packed(authentication.pack(message))
        with contextlib.suppress(OSError):
            self.sock.settimeout(None)
            self.sock.sendall(self._talk.outgoing)
        self._talk.outgoing.clear()


def connect(places: Sequence[Tuple[str, int]], secret: bytes, tasks: int, deadline: float) -> Client:
    """Return a connection to the coordinator at the first of `places` that answers and proves itself.

    Tries until `deadline` (time.monotonic). Raises RegistrationError.
    """
    time.sleep(random.uniform(0, _JITTER_SECONDS * tasks / 1000))
    problems: Dict[str, str] = {}
    while True:
        for host, port in places:
            try:
                return _try(host, port, secret, deadline)
            except OSError as error:
                problems[f"{host}:{port}"] = error.strerror or str(error)
            except AuthenticationError as error:
                problems[f"{host}:{port}"] = error.found
        if time.monotonic() > deadline:
            tried = "; ".join(f"{place}: {problem}" for place, problem in problems.items())
            raise RegistrationError(
                f"no connection to the coordinator from {socket.gethostname()} ({tried})",
                "a route to the batch host, and this job's coordinator there",
                "for a second network or a firewall: `interface` and `coordinator-ports` in the site profile",
                (),
            )
        time.sleep(random.uniform(0.05, 0.5))


def _try(host: str, port: int, secret: bytes, deadline: float) -> Client:
    sock = socket.create_connection((host, port), timeout=min(10.0, max(0.1, deadline - time.monotonic())))
    talk = authentication.Conversation(secret, authentication.AGENT)
    early: List[authentication.Message] = []
    try:
        _tune(sock)
        while not talk.authenticated:
            data = sock.recv(_CHUNK)
            if not data:
                raise AuthenticationError("it ended the connection during the proof of the secret", "this coordinator")
            early += talk.receive(data)
            sock.sendall(talk.outgoing)
            talk.outgoing.clear()
    except BaseException:
        sock.close()
        raise
    return Client(sock, talk, early)


def _listen(port_range: Optional[Tuple[int, int]], local: bool) -> socket.socket:
    if port_range is None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1" if local else "", 0))
    else:
        listener = ports.reserve(port_range, time.monotonic())
    listener.setblocking(False)
    listener.listen(_BACKLOG)
    return listener


def _tune(sock: socket.socket) -> None:
    """Messages leave at once; a node that died or was cut off ends the connection within a minute.

    The kernel asks, not we: an agent whose output nobody reads for a while, or that was stopped, is not lost.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 45_000)


def raise_file_limit() -> None:
    """Allow one connection an agent: thousands of them are more than the usual soft limit of 1024 files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
