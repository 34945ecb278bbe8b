"""Answers the coordinator's requests of a preflight on one node, and measures connections with other nodes.

Two nodes authenticate each other with a key derived from the job's secret, so that no message of theirs can be used
with the coordinator. After that the connection carries measurements:

    prober -> node   one byte, and back, some times; then zeros until the node answers
    node -> prober   how many bytes it received, and the seconds from the first to the last
"""

import contextlib
import errno
import hashlib
import hmac
import os
import re
import select
import socket
import struct
import threading
import time
from typing import List, Mapping, Optional, Tuple

from slurm_tf import files
from slurm_tf.errors import SlurmTfError
from slurm_tf.launch.transport import authentication, connections, ports
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    PROBE_REQUESTS,
    FilesChecked,
    LinkMeasured,
    MeasureLink,
    OpenProbe,
    ProbeAnswer,
    ProbeFailed,
    ProbeOpened,
    ProbeRequest,
)

_PINGS = 20
_PING_SECONDS = 2.0
_STREAM_BYTES = 16 << 20
_STREAM_SECONDS = 1.0
# Limit of a connection, of the authentication, and of each answer.
_ANSWER_SECONDS = 5.0
_LOOK_PAUSE_SECONDS = 0.1
_CHUNK = 1 << 18
_MAX_CONNECTIONS = 16
# Errors of accept(2) on a socket that was shut down, or closed.
_CLOSED = (errno.EINVAL, errno.EBADF)
_PAUSE_SECONDS = 0.1
_PING, _STREAM = b"p", b"s"
_COUNT = struct.Struct(">Qd")
_DEVICE = re.compile(r"nvidia\d+")


class Prober:
    """Listens for the probes of other nodes and measures connections to them; closed before the program starts."""

    def __init__(self, secret: bytes, allowed: Optional[Tuple[int, int]]) -> None:
        """Listen on a port of `allowed`, the site's range. Raises AllocationError if none is free."""
        self._secret = hmac.new(secret, b"preflight", hashlib.sha256).digest()
        self._listener = ports.reserve(allowed, time.monotonic() + _ANSWER_SECONDS)
        self._listener.listen(_MAX_CONNECTIONS)
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port at which other nodes reach it."""
        return ports.port_of(self._listener)

    def close(self) -> None:
        """Stop listening."""
        # without shutdown, accept() would go on waiting in its thread
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def measure(self, host: str, port: int) -> ProbeAnswer:
        """Measure the round trip and the bandwidth to another node; return them, or the error."""
        try:
            with socket.create_connection((host, port), timeout=_ANSWER_SECONDS) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _authenticate(sock, authentication.Conversation(self._secret, authentication.AGENT))
                figures = LinkMeasured(_ping(sock), _stream(sock))
                # discard unsent bytes: on a slow link they would delay the next probe
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return figures
        except (OSError, SlurmTfError) as error:
            return ProbeFailed(getattr(error, "strerror", None) or str(error))

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _CLOSED:
                    return
                time.sleep(_PAUSE_SECONDS)  # no free file descriptor, or the other side has closed the connection
                continue
            if self._free.acquire(blocking=False):
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()
            else:
                sock.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, SlurmTfError), sock:
                sock.settimeout(_ANSWER_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _authenticate(sock, authentication.Conversation(self._secret, authentication.COORDINATOR))
                while sock.recv(1) == _PING:
                    sock.sendall(_PING)
                sock.sendall(_COUNT.pack(*_drain(sock)))
                while sock.recv(_CHUNK):  # until the other side has read the answer and closes
                    pass
        finally:
            self._free.release()


def answer_requests(
    client: connections.Client, secret: bytes, allowed: Optional[Tuple[int, int]], deadline: float
) -> Message:
    """Answer the coordinator's requests (launch/nodes/preflight.py); return the first message that is no request.

    Raises RegistrationError if there is none by `deadline` (time.monotonic).
    """
    prober: Optional[Prober] = None
    try:
        while True:
            message = client.next(deadline)
            if not isinstance(message, PROBE_REQUESTS):
                return message
            try:
                prober = prober or Prober(secret, allowed)
                answer = _answer(prober, message)
            except SlurmTfError as error:
                answer = ProbeFailed(error.found)
            client.send(answer)
    finally:
        if prober:
            prober.close()


def _answer(prober: Prober, request: ProbeRequest) -> ProbeAnswer:
    if isinstance(request, MeasureLink):
        return prober.measure(request.host, request.port)
    try:
        if isinstance(request, OpenProbe):
            files.write_whole(request.file, request.text.encode())
            return ProbeOpened(prober.port, gpu_devices())
        return FilesChecked(tuple(unseen(request.files, request.seconds)))
    except OSError as error:
        return ProbeFailed(f"cannot use the run's folder: {error.strerror}")


def unseen(expected: Mapping[str, Tuple[str, str]], seconds: float) -> List[str]:
    """Return the nodes whose file does not show its text within `seconds`: network file systems cache."""
    until = time.monotonic() + seconds
    left = dict(expected)
    while True:
        left = {node: each for node, each in left.items() if _text(each[0]) != each[1]}
        if not left or time.monotonic() > until:
            return sorted(left)
        time.sleep(_LOOK_PAUSE_SECONDS)


def _text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1000)
    except OSError:
        return None


def gpu_devices() -> Optional[int]:
    """Return how many NVIDIA GPUs have a device file here; None on a node with GPUs of another vendor."""
    names = os.listdir("/dev")
    if "nvidiactl" not in names and ("kfd" in names or "dri" in names):
        return None
    return sum(1 for name in names if _DEVICE.fullmatch(name))


def _authenticate(sock: socket.socket, conversation: authentication.Conversation) -> None:
    """Authenticate each other. Raises AuthenticationError, or OSError if the other side closes or is late.

    Reads byte by byte: the bytes after the last message of the authentication are a measurement.
    """
    until = time.monotonic() + _ANSWER_SECONDS
    while True:
        sock.sendall(conversation.outgoing)
        conversation.outgoing.clear()
        if conversation.authenticated:
            return
        if time.monotonic() > until:
            raise TimeoutError("no proof of the secret in time")
        data = sock.recv(1)
        if not data:
            raise ConnectionError("it ended the connection")
        conversation.receive(data)


def _ping(sock: socket.socket) -> float:
    """Return the median round trip of one byte, in seconds."""
    times: List[float] = []
    until = time.monotonic() + _PING_SECONDS
    while len(times) < _PINGS and time.monotonic() < until:
        start = time.perf_counter()
        sock.sendall(_PING)
        if sock.recv(1) != _PING:
            raise ConnectionError("it ended the connection")
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]  # `statistics` takes 20 ms of each agent's start


def _stream(sock: socket.socket) -> float:
    """Send zeros until the other side answers; return the bytes per second that it received."""
    sock.sendall(_STREAM)
    zeros, sent = memoryview(bytes(_CHUNK)), 0
    until = time.monotonic() + _STREAM_SECONDS + _ANSWER_SECONDS
    sock.setblocking(False)
    while True:
        writing = [sock] if sent < _STREAM_BYTES else []
        readable, writable, _ = select.select([sock], writing, [], max(0.0, until - time.monotonic()))
        if readable:
            break
        if not writable:
            raise TimeoutError("it receives nothing")
        sent += sock.send(zeros[: _STREAM_BYTES - sent])
    sock.settimeout(_ANSWER_SECONDS)
    count, seconds = _COUNT.unpack(_exactly(sock, _COUNT.size))
    return float(count / max(seconds, 1e-6))


def _drain(sock: socket.socket) -> Tuple[int, float]:
    """Receive a stream; return its bytes, and their seconds."""
    count, start = 0, time.perf_counter()
    buffer = bytearray(_CHUNK)
    while count < _STREAM_BYTES and time.perf_counter() - start < _STREAM_SECONDS:
        got = sock.recv_into(buffer)
        if not got:
            raise ConnectionError("it ended the connection")
        count += got
    return count, time.perf_counter() - start


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("it ended the connection")
        data += more
    return data
