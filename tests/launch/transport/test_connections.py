"""The coordinator's listening port: strangers, no file descriptor to spare, and agents all the same."""

import errno
import os
import resource
import selectors
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from slurm_tf.launch.transport import connections
from slurm_tf.launch.transport.connections import Client, Server
from slurm_tf.launch.transport.messages import Hello

SECRET = b"s" * 32


class Listening:
    """A server, what it logged, and how often its selector returned."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.log: list[str] = []
        self.server = Server(self.selector, SECRET, self.log.append, local=True)
        self.turns = 0
        self.came: list[object] = []

    def turn(self) -> None:
        self.turns += 1
        for key, _ in self.selector.select(0.05):
            if key.data is self.server:
                self.server.accept()
            else:
                self.came += self.server.read(key.data)
        self.server.tick(time.monotonic())

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()

    def stranger(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=10)

    def agent(self) -> Client:
        address = ("127.0.0.1", self.server.port)
        with ThreadPoolExecutor(1) as threads:
            connecting = threads.submit(connections.connect, [address], SECRET, 1, time.monotonic() + 20)
            while not connecting.done():
                self.turn()
        return connecting.result()


@pytest.fixture
def listening() -> Iterator[Listening]:
    made = Listening()
    yield made
    made.server.close_all()
    made.selector.close()


def test_without_a_file_descriptor_the_listener_pauses_and_one_line_says_so(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PAUSE_SECONDS", 0.2)
    strangers = [listening.stranger() for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        listening.run(1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert listening.log == ["no connection can be accepted: Too many open files; tried again every 0 s"]
    assert listening.turns < 50
    agent = listening.agent()
    agent.send(Hello())
    listening.run(0.3)
    assert listening.came == [Hello()]
    for sock in (*strangers, agent.sock):
        sock.close()


def test_strangers_keep_no_more_than_some_connections_and_no_agent_out(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MOST_UNPROVEN", 5)
    monkeypatch.setattr(connections, "_MOST_REPORTED", 3)
    strangers = [listening.stranger() for _ in range(40)]
    listening.run(0.5)
    assert len(listening.server._connections) == 5
    # the agent's is the newest: the oldest goes
    agent = listening.agent()
    strangers += [listening.stranger() for _ in range(40)]
    listening.run(0.5)
    agent.send(Hello())
    listening.run(0.3)
    assert listening.came == [Hello()]
    assert len(listening.log) == 4
    assert listening.log[-1] == "3 connections were refused: others are from now on without a line"
    for sock in (*strangers, agent.sock):
        sock.close()


def test_a_connection_that_is_gone_before_it_is_accepted_is_no_reason_to_pause(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(errno.ECONNABORTED, ""), OSError(errno.EPROTO, ""), BlockingIOError()]

    def accept() -> None:
        raise errors.pop(0)

    monkeypatch.setattr(listening.server, "_listener", SimpleNamespace(accept=accept))
    listening.server.accept()
    monkeypatch.undo()
    assert errors == []
    assert listening.log == []
    listening.agent().sock.close()
