"""Asks one replica over HTTP, on connections that are kept, whose certificate is the one of its endpoint file."""

import asyncio
import contextlib
import hashlib
import ssl
from dataclasses import dataclass, field

import h11

from slurm_tf.serve.endpoint import Endpoint

_CONNECT_SECONDS = 3.0
_CHUNK = 1 << 16
# Of each replica so many connections are kept open between requests.
_KEPT = 64

Headers = tuple[tuple[bytes, bytes], ...]


class _ClosedError(Exception):
    """The replica closed the connection before it answered anything."""


class LostError(Exception):
    """A replica did not answer. `is_sent`: it may have got the request."""

    def __init__(self, why: str, is_sent: bool) -> None:
        super().__init__(why)
        self.is_sent = is_sent


@dataclass(frozen=True, slots=True)
class Request:
    """A request, whole. `target`: path and query. `is_idempotent`: it may be sent again."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    is_idempotent: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A replica's answer, whole."""

    status: int
    headers: Headers
    body: bytes


@dataclass(slots=True)
class _Connection:
    """An open connection to a replica; `is_used`: it has carried a request before."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    is_used: bool = False


class Upstream:
    """The connections to one replica. `in_flight`: requests that it has not answered yet."""

    def __init__(self, replica: Endpoint) -> None:
        self.in_flight = 0
        self._replica = replica
        self._idle: list[_Connection] = []
        self._is_closed = asyncio.Event()

    async def ask(self, request: Request, token: str) -> Answer:
        """Send a request with the service's token; return the answer. Raises LostError."""
        self.in_flight += 1
        try:
            return await self._unless_closed(request, token)
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        """Close the connections; what is under way on them ends with LostError, as when the replica's node is gone."""
        self._is_closed.set()
        while self._idle:
            _close(self._idle.pop())

    async def _unless_closed(self, request: Request, token: str) -> Answer:
        asking = asyncio.ensure_future(self._ask(request, token))
        closed = asyncio.ensure_future(self._is_closed.wait())
        try:
            await asyncio.wait((asking, closed), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise LostError("it has not renewed its endpoint file", is_sent=True)
        finally:
            closed.cancel()
            asking.cancel()

    async def _ask(self, request: Request, token: str) -> Answer:
        while True:
            connection = self._take() or await self._connect()
            try:
                answer = await _exchange(connection, request, self._with_token(request, token))
            except _ClosedError as error:
                _close(connection)
                if not (connection.is_used and request.is_idempotent):
                    raise LostError(str(error), is_sent=True) from error
                # the replica closed it between two requests
            except (OSError, h11.RemoteProtocolError) as error:
                _close(connection)
                raise LostError(str(error) or type(error).__name__, is_sent=True) from error
            except BaseException:
                _close(connection)
                raise
            else:
                self._keep(connection)
                return answer

    def _take(self) -> _Connection | None:
        """Return a connection that was kept and is still open, None for none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof():
                return connection
            _close(connection)
        return None

    async def _connect(self) -> _Connection:
        """Return a new connection to the replica whose certificate has the fingerprint. Raises LostError."""
        replica = self._replica
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                context = _context() if replica.certificate else None
                reader, writer = await asyncio.open_connection(replica.host, replica.rest_port, ssl=context)
        except (OSError, TimeoutError) as error:
            raise LostError(str(error) or "no connection in time", is_sent=False) from error
        connection = _Connection(reader, writer)
        if context is not None:
            tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
            found = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
            if found != replica.fingerprint:
                _close(connection)
                raise LostError("its certificate is not that of its endpoint file", is_sent=False)
        return connection

    def _with_token(self, request: Request, token: str) -> Headers:
        own = [(b"host", f"{self._replica.host}:{self._replica.rest_port}".encode())]
        own += [(b"authorization", f"Bearer {token}".encode())] if token else []
        if request.body or request.method == b"POST":
            own.append((b"content-length", str(len(request.body)).encode()))
        return (*own, *request.headers)

    def _keep(self, connection: _Connection) -> None:
        """Keep a connection for the next request, if the replica does, too."""
        http = connection.http
        is_open = http.our_state is h11.DONE and http.their_state is h11.DONE and not self._is_closed.is_set()
        if is_open and len(self._idle) < _KEPT:
            http.start_next_cycle()
            connection.is_used = True
            self._idle.append(connection)
        else:
            _close(connection)


def _context() -> ssl.SSLContext:
    """Return the settings of TLS: what the certificate is, is looked at by its fingerprint, before anything is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _exchange(connection: _Connection, request: Request, headers: Headers) -> Answer:
    """Send a request and read its answer. Raises OSError, h11.RemoteProtocolError, _ClosedError."""
    http, writer = connection.http, connection.writer
    sent = http.send(h11.Request(method=request.method, target=request.target, headers=list(headers))) or b""
    sent += http.send(h11.Data(data=request.body)) or b"" if request.body else b""
    writer.write(sent + (http.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    head: h11.Response | None = None
    parts: list[bytes] = []
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await connection.reader.read(_CHUNK)
            if not data and head is None:
                raise _ClosedError("it closed the connection")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Answer(head.status_code, tuple(head.headers), b"".join(parts))


def _close(connection: _Connection) -> None:
    """Close a connection at once: what is still to come on it is not wanted."""
    with contextlib.suppress(OSError):
        connection.writer.transport.abort()
