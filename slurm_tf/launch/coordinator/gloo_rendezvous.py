"""Serves the rendezvous of Horovod's Gloo controller: a key-value store over HTTP.

Source: horovod/common/gloo/http_store.cc (0.28.1). A rank stores its addresses under its number, in a scope for all
ranks, one for its node and one for its cross group, and requests those of the other ranks until they are stored.
"""

import errno
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Collection, Dict, Optional, Set, Tuple, Union

from slurm_tf.launch.transport import ports

# A request is one line, and at most one rank's addresses: some 200 bytes for each other rank.
_REQUEST_SECONDS, _MAX_BYTES = 10.0, 1 << 24
_BACKLOG = 4096
# How many requests are served at once, each in a thread; more wait in the backlog, or are closed, and Horovod retries.
_MAX_REQUESTS = 512
# How long no connection is accepted while that many requests are served, or after an error that would repeat at once,
# such as no free file descriptor.
_PAUSE_SECONDS = 1.0


class Rendezvous:
    """The rendezvous server for one start of all ranks, listening at `port`; each start needs a new one.

    Horovod has no authentication, so only requests from addresses of this job's tasks are answered, and only the
    address that wrote a key may change it.
    """

    def __init__(
        self,
        allowed: Collection[str],
        port_range: Optional[Tuple[int, int]],
        local: bool,
        log: Callable[[str], None],
    ) -> None:
        """`allowed`: numeric addresses; `port_range`: the coordinator's; `log` prints refused addresses."""
        self._server = _Server(set(allowed), log)
        listener = ports.reserve(port_range, time.monotonic()) if port_range else socket.socket()
        if not port_range:
            listener.bind(("127.0.0.1" if local else "", 0))
        self._server.socket.close()
        self._server.socket = listener
        self._server.server_activate()
        self.port = ports.port_of(listener)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Stop the server and close its port; all keys are lost."""
        self._server.shutdown()
        self._server.server_close()


_Request = Union[socket.socket, Tuple[bytes, socket.socket]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, allowed: Set[str], log: Callable[[str], None]) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.allowed, self.log = allowed, log
        self.refused: Set[str] = set()
        # key: (address of its writer, value)
        self.store: Dict[str, Tuple[str, bytes]] = {}
        self.changing = threading.Lock()
        self._free = threading.BoundedSemaphore(_MAX_REQUESTS)
        self._is_short_of_files = False

    def get_request(self) -> Tuple[socket.socket, Tuple[str, int]]:
        """Accept a connection; pause after an error, which select would report again at once."""
        try:
            sock, address = self.socket.accept()
        except OSError as error:
            if error.errno != errno.ECONNABORTED:
                self._pause(error)
            raise
        self._is_short_of_files = False
        return sock, address

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002
        """Return whether the other side is on a node of this job."""
        host = client_address[0] if isinstance(client_address, tuple) else ""
        if host not in self.allowed and host not in self.refused:
            self.refused.add(host)
            self.log(f"refused {host} at Horovod's rendezvous: no node of this job")
        return host in self.allowed

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a request in its own thread; close it if none of the threads is free within a second."""
        if not self._free.acquire(timeout=_PAUSE_SECONDS):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started
            self._free.release()
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Serve a request; each read of it takes at most _REQUEST_SECONDS."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a broken connection: Horovod retries."""

    def _pause(self, error: OSError) -> None:
        if not self._is_short_of_files:
            self._is_short_of_files = True
            self.log(f"Horovod's rendezvous accepts no connection: {error.strerror}; tried again each second")
        time.sleep(_PAUSE_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        """Return the value; 404 until there is one."""
        known = self.server.store.get(self.path)
        if known is None:
            self._answer(404)
        else:
            self._answer(200, known[1])

    def do_PUT(self) -> None:
        """Store a value."""
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()) or int(text) > _MAX_BYTES:
            self._answer(400)
            return
        value = self.rfile.read(int(text))
        if len(value) < int(text):
            return
        with self.server.changing:
            allowed = self._may_change()
            if allowed:
                self.server.store[self.path] = (self.client_address[0], value)
        self._answer(200 if allowed else 403)

    def do_DELETE(self) -> None:
        """Remove a value: a rank does so once its group is connected, and may use the key again."""
        with self.server.changing:
            allowed = self._may_change()
            if allowed:
                self.server.store.pop(self.path, None)
        self._answer(200 if allowed else 403)

    def _may_change(self) -> bool:
        host = self.client_address[0]
        return self.server.store.get(self.path, (host, b""))[0] == host

    def _answer(self, code: int, body: bytes = b"") -> None:
        self.send_response_only(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print no line for each request."""
