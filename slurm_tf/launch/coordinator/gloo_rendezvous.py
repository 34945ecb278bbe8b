"""Where Horovod's ranks meet: the key-value store that its Gloo controller asks for, over HTTP.

Source: horovod/common/gloo/http_store.cc (0.28.1). A rank keeps its addresses under its number, in a scope for all, one
for its node and one for its cross group, and asks for the others' until they are there.
"""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Collection, Dict, Optional, Set, Tuple

from slurm_tf.launch.transport import ports

# A request is one line, and at most one rank's addresses: some 200 bytes for each other rank.
_REQUEST_SECONDS, _LONGEST = 10.0, 1 << 24
_BACKLOG = 4096


class Rendezvous:
    """Where the ranks of one start meet. A new start needs a new one.

    Horovod proves nothing to it, so it listens to the addresses of this job's tasks alone, and a key is its writer's
    own. `port`: where it listens.
    """

    def __init__(
        self,
        allowed: Collection[str],
        port_range: Optional[Tuple[int, int]],
        local: bool,
        log: Callable[[str], None],
    ) -> None:
        """`allowed`: numeric addresses; `port_range`: as of the coordinator; `log` gets one line a stranger."""
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
        """Forget all keys and let the port go."""
        self._server.shutdown()
        self._server.server_close()


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

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002
        """Whether the other side is on a node of this job."""
        host = client_address[0] if isinstance(client_address, tuple) else ""
        if host not in self.allowed and host not in self.refused:
            self.refused.add(host)
            self.log(f"refused {host} at Horovod's rendezvous: no node of this job")
        return host in self.allowed

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke is its client's affair: Horovod tries again."""


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
        """Keep a value."""
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()) or int(text) > _LONGEST:
            self._answer(400)
            return
        value = self.rfile.read(int(text))
        if len(value) < int(text):
            return
        with self.server.changing:
            mine = self._is_mine()
            if mine:
                self.server.store[self.path] = (self.client_address[0], value)
        self._answer(200 if mine else 403)

    def do_DELETE(self) -> None:
        """Forget a value: a rank does so when its group has met, and may meet again under the same key."""
        with self.server.changing:
            mine = self._is_mine()
            if mine:
                self.server.store.pop(self.path, None)
        self._answer(200 if mine else 403)

    def _is_mine(self) -> bool:
        host = self.client_address[0]
        return self.server.store.get(self.path, (host, b""))[0] == host

    def _answer(self, code: int, body: bytes = b"") -> None:
        self.send_response_only(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of each request."""
