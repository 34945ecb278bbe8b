"""Carries messages between the coordinator, with many connections in one selectors loop, and its agents."""

import contextlib
import errno
import random
import resource
import selectors
import socket
import time
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Sequence, Tuple

from slurm_tf.errors import AuthenticationError, MessageError, RegistrationError, SlurmTfError
from slurm_tf.launch.transport import messages, ports
from slurm_tf.launch.transport.authentication import AGENT, COORDINATOR, Conversation
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    ConnectionLost,
)

_BACKLOG = 4096
_CHUNK = 1 << 16
# How long a connection may stay open without a proof of the secret.
_HANDSHAKE_SECONDS = 20.0
# Agents of one step start within milliseconds: they spread their first tries over this time for each thousand of them.
_JITTER_SECONDS = 1.0
# Connections without a proof that are open at the same time, and their share of the files that may be open.
_MOST_UNPROVEN, _UNPROVEN_SHARE = 1024, 4
# Connections that are accepted before those that are open are served again.
_ACCEPTED_AT_ONCE = 64
# How long no connection is accepted after an error that would come again at once, such as no free file descriptor.
_PAUSE_SECONDS = 1.0
# accept(2), "Error handling": what befell the connection that was to be accepted, which is gone then.
_ERRORS_OF_ONE = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EPERM,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EOPNOTSUPP,
    errno.EINTR,
)
# How many refused connections are reported, each in one line.
_MOST_REPORTED = 100


class Connection:
    """The coordinator's end of one connection. `peer`: the other side's address and port, `host`: its address.

    `name`: its task, "" until that has registered.
    """

    def __init__(self, sock: socket.socket, host: str, port: int, secret: bytes) -> None:
        self.sock, self.host, self.peer, self.name = sock, host, f"{host}:{port}", ""
        self.conversation = Conversation(secret, COORDINATOR)
        self.opened = time.monotonic()


class Server:
    """The coordinator's listening port and its open connections.

    Sending never handles a connection that turns out to be lost: what is decided then could reach other tasks before
    the rest of what was being sent to them. `next_lost` returns each later.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        secret: bytes,
        log: Callable[[str], None],
        port_range: Optional[Tuple[int, int]] = None,
        local: bool = False,
    ) -> None:
        """Listen on a port of `port_range`, or one that the kernel chooses; on the loopback address only if `local`.

        `log`: gets a line about a refused connection.
        """
        self._selector, self._secret, self._log = selector, secret, log
        self._connections: Dict[Connection, None] = {}
        self._unproven: Dict[str, Dict[Connection, None]] = {}
        self._lost: Deque[Tuple[Connection, str]] = deque()
        self._reported = 0
        self._resumes_at: Optional[float] = None
        self._is_short_of_files = False
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
        """Accept connections that wait."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, (host, port) = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _ERRORS_OF_ONE:
                    continue
                self._pause(error)
                return
            self._is_short_of_files = False
            self._add(sock, host, port)

    def read(self, connection: Connection) -> List[Message]:
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
            bodies = connection.conversation.receive(data)
            came = [messages.decode(body, messages.FROM_AGENT) for body in bodies]
        except SlurmTfError as error:
            self._report(connection, error.found)
            self._lose(connection, error.found)
            return []
        if connection.conversation.authenticated:
            self._forget_unproven(connection)
        self.flush(connection)
        return came

    def send(self, connection: Connection, message: Message) -> None:
        """Send a message."""
        self.send_encoded(connection, messages.encode(message))

    def send_encoded(self, connection: Connection, body: bytes) -> None:
        """Send what `messages.encode` made, later if the connection is full; nothing to one that is closed."""
        if connection in self._connections:
            connection.conversation.send(body)
            self.flush(connection)

    def flush(self, connection: Connection) -> None:
        """Write what waits for `connection`."""
        waiting = connection.conversation.outgoing
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
        """Return an authenticated connection that has ended, each once, and why; None if there is none."""
        return self._lost.popleft() if self._lost else None

    def tick(self, now: float) -> None:
        """End connections that have not proved the secret in time; accept again after a pause."""
        if self._resumes_at is not None and now >= self._resumes_at:
            self._resumes_at = None
            self._selector.register(self._listener, selectors.EVENT_READ, self)
        for connection in [each for host in self._unproven.values() for each in host]:
            if now - connection.opened > _HANDSHAKE_SECONDS:
                self._report(connection, f"no proof in {_HANDSHAKE_SECONDS:.0f} s")
                self.close(connection)

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` or `next_lost` has something to do; late connections are ended without a wake-up of their own."""
        return 0.0 if self._lost else self._resumes_at

    def close(self, connection: Connection) -> None:
        """Close one connection, which then does not count as lost."""
        if connection in self._connections:
            del self._connections[connection]
            self._forget_unproven(connection)
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def close_all(self) -> None:
        """Close the listening port and every connection."""
        if self._resumes_at is None:
            self._selector.unregister(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            self.close(connection)

    def _add(self, sock: socket.socket, host: str, port: int) -> None:
        sock.setblocking(False)
        _tune(sock)
        connection = Connection(sock, host, port, self._secret)
        self._connections[connection] = None
        self._unproven.setdefault(host, {})[connection] = None
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self._bound_unproven()
        self.flush(connection)

    def _bound_unproven(self) -> None:
        """Close the oldest connection of the host that has the most without a proof, if there are too many of all.

        An agent's proof comes within a moment, and its node has few connections without one.
        """
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if sum(map(len, self._unproven.values())) > min(_MOST_UNPROVEN, soft // _UNPROVEN_SHARE):
            host = max(self._unproven, key=lambda each: len(self._unproven[each]))
            oldest = next(iter(self._unproven[host]))
            self._report(oldest, "too many connections without a proof")
            self.close(oldest)

    def _forget_unproven(self, connection: Connection) -> None:
        of_host = self._unproven.get(connection.host, {})
        of_host.pop(connection, None)
        if not of_host:
            self._unproven.pop(connection.host, None)

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a while; connections wait in the listener's backlog, and agents try again."""
        self._selector.unregister(self._listener)
        self._resumes_at = time.monotonic() + _PAUSE_SECONDS
        if not self._is_short_of_files:
            self._is_short_of_files = True
            self._log(f"no connection can be accepted: {error.strerror}; tried again every {_PAUSE_SECONDS:.0f} s")

    def _report(self, connection: Connection, reason: str) -> None:
        self._reported += 1
        if self._reported <= _MOST_REPORTED:
            self._log(f"refused a connection from {connection.peer}: {reason}")
        if self._reported == _MOST_REPORTED:
            self._log(f"{_MOST_REPORTED} connections were refused: others are from now on without a line")

    def _lose(self, connection: Connection, reason: str) -> None:
        self.close(connection)
        if connection.conversation.authenticated:
            self._lost.append((connection, reason))


class Client:
    """An agent's connection to its coordinator. `early`: messages that came with the one that `next` waited for."""

    def __init__(self, sock: socket.socket, conversation: Conversation, early: List[Message]) -> None:
        self.sock, self._conversation, self.early = sock, conversation, early

    def receive(self) -> List[Message]:
        """Wait for the socket to bring something; return the messages, ConnectionLost last if the connection ended."""
        try:
            data = self.sock.recv(_CHUNK)
        except OSError as error:
            return [ConnectionLost(error.strerror or str(error), may_live=error.errno != errno.ECONNRESET)]
        if not data:
            return [ConnectionLost("the coordinator closed the connection")]
        try:
            return _decode(self._conversation.receive(data))
        except (AuthenticationError, MessageError) as error:
            return [ConnectionLost(error.found)]

    def next(self, deadline: float) -> Message:
        """Wait for one message; raises RegistrationError if none comes by `deadline` (time.monotonic)."""
        while not self.early:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            self.early = self.receive()
        message = self.early.pop(0)
        if isinstance(message, ConnectionLost):
            found = f"no answer from the coordinator: {message.reason}"
            raise RegistrationError(found, "its answer", "see what the coordinator printed", ())
        return message

    def send(self, message: Message) -> None:
        """Send `message`; a connection that has ended shows at the next `receive`."""
        self._conversation.send(messages.encode(message))
        with contextlib.suppress(OSError):
            self.sock.settimeout(None)
            self.sock.sendall(self._conversation.outgoing)
        self._conversation.outgoing.clear()


def connect(addresses: Sequence[Tuple[str, int]], secret: bytes, tasks: int, deadline: float) -> Client:
    """Return a connection to the coordinator at the first of `addresses` that answers and proves the secret.

    Tries until `deadline` (time.monotonic). Raises RegistrationError.
    """
    time.sleep(random.uniform(0, _JITTER_SECONDS * tasks / 1000))
    problems: Dict[str, str] = {}
    while True:
        for host, port in addresses:
            try:
                return _try(host, port, secret, deadline)
            except OSError as error:
                problems[f"{host}:{port}"] = error.strerror or str(error)
            except AuthenticationError as error:
                problems[f"{host}:{port}"] = error.found
        if time.monotonic() > deadline:
            tried = "; ".join(f"{address}: {problem}" for address, problem in problems.items())
            raise RegistrationError(
                f"no connection to the coordinator from {socket.gethostname()} ({tried})",
                "a route to the batch host, and this job's coordinator there",
                "for a second network or a firewall: `interface` and `coordinator-ports` in the site profile",
                (),
            )
        time.sleep(random.uniform(0.05, 0.5))


def _try(host: str, port: int, secret: bytes, deadline: float) -> Client:
    sock = socket.create_connection((host, port), timeout=min(10.0, max(0.1, deadline - time.monotonic())))
    conversation = Conversation(secret, AGENT)
    early: List[Message] = []
    try:
        _tune(sock)
        while not conversation.authenticated:
            data = sock.recv(_CHUNK)
            if not data:
                raise AuthenticationError("it ended the connection during the proof of the secret", "this coordinator")
            early += _decode(conversation.receive(data))
            sock.sendall(conversation.outgoing)
            conversation.outgoing.clear()
    except BaseException:
        sock.close()
        raise
    return Client(sock, conversation, early)


def _decode(bodies: Sequence[bytes]) -> List[Message]:
    return [messages.decode(body, messages.FROM_COORDINATOR) for body in bodies]


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
    """Have messages leave at once, and a connection end within a minute if the other node died or is cut off.

    The kernel sends the probes, not this process: an agent that is stopped, or blocked because its output is not read,
    does not count as lost.
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
