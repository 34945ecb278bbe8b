"""A page that runs, started by its verb, and the requests of a browser to it."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from tests.conftest import PYTHONPATH

# The longest answer: jobs are cancelled, and end.
_SECONDS = 150.0
# As Chromium chooses it.
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"


@dataclass
class Answer:
    """What the page answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="(\w+)"', self.text)
        assert found, self.text
        return found[1]


@dataclass
class RunningPage:
    """Where a page listens: a port, or a socket; `link` opens it once, and `cookie` is that of this browser."""

    process: "subprocess.Popen[str]"
    port: int | None
    socket: str | None
    link: str
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return "/" + urlsplit(self.link).path.split("/")[1]

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", self.port or 80, timeout=_SECONDS)
        if self.socket:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(_SECONDS)
            connection.sock.connect(self.socket)
        return connection

    def request(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        headers: Mapping[str, str] = {},
        prefix: str | None = None,
    ) -> Answer:
        connection = self.connect()
        own = {"Cookie": f"slurm-tf={self.cookie}"} if self.cookie else {}
        try:
            connection.request(method, (self.prefix if prefix is None else prefix) + path, body, {**own, **headers})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def post(self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] = {}) -> Answer:
        origin = f"http://localhost:{self.port}" if self.port else "http://localhost"
        own = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        return self.request("POST", path, urlencode(fields), {**own, **headers})

    def upload(self, path: str, fields: Mapping[str, str], name: str, content: bytes) -> Answer:
        """Send a form with a file, as a browser does."""
        origin = f"http://localhost:{self.port}" if self.port else "http://localhost"
        own = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Origin": origin}
        return self.request("POST", path, multipart(fields, name, content), own)

    def open(self) -> Answer:
        """Use the link."""
        parts = urlsplit(self.link)
        answer = self.get(f"{parts.path}?{parts.query}", prefix="")
        found = re.match(r"slurm-tf=([^;]+)", answer.headers.get("set-cookie", ""))
        self.cookie = found[1] if found else self.cookie
        return answer

    def new_link(self) -> str:
        """Have the page print another link."""
        os.kill(self.process.pid, signal.SIGUSR1)
        assert self.process.stdout
        self.link = json.loads(self.process.stdout.readline())["link"]
        return self.link

    @contextlib.contextmanager
    def events(self, path: str, last_id: str = "") -> Iterator[Iterator[tuple[str, Any, str]]]:
        """Yield the events of a stream, as they come: (name, data, id)."""
        connection = self.connect()
        headers = {"Cookie": f"slurm-tf={self.cookie}", **({"Last-Event-ID": last_id} if last_id else {})}
        connection.request("GET", self.prefix + path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        try:
            yield _events(answer)
        finally:
            connection.close()


def multipart(fields: Mapping[str, str], name: str, content: bytes) -> bytes:
    """Return the body of a form with the file `file`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    parts = [f'{head}{each}"\r\n\r\n{text}\r\n'.encode() for each, text in fields.items()]
    file = f'{head}file"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'.encode()
    return b"".join(parts) + file + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def _events(lines: IO[bytes]) -> Iterator[tuple[str, Any, str]]:
    fields: dict[str, str] = {}
    for line in iter(lines.readline, b""):
        name, _, text = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = text
        elif "event" in fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
            fields = {}


@contextlib.contextmanager
def running_page(folder: Path, *words: str, **environ: str) -> Iterator[RunningPage]:
    """Start `slurm-tf page` in a folder; end it at the end of the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "slurm_tf", "page", "--json", *words], cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "SLURM_TF_SITE": "generic", **environ},
    )  # fmt: skip
    with started(process) as page:
        yield page


@contextlib.contextmanager
def started(process: "subprocess.Popen[str]") -> Iterator[RunningPage]:
    """Wait until the page of a process says where it is; end the process at the end of the test."""
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate(timeout=_SECONDS)
        said = json.loads(line)
        yield RunningPage(process, said["port"], said["socket"], said["link"])
    finally:
        process.terminate()
        process.communicate(timeout=_SECONDS)


@contextlib.contextmanager
def tunnel(path: str) -> Iterator[int]:
    """Yield a port of the loopback address whose connections go on to a socket, as those of `ssh -L` do."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
                far.connect(path)
                threading.Thread(target=_copy, args=(far, self.request), daemon=True).start()
                _copy(self.request, far)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward, bind_and_activate=True) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
