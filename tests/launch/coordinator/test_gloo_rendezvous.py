"""Connections to the rendezvous of Horovod's ranks: too many, and with no file descriptor to spare."""

import http.client
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from slurm_tf.launch.coordinator import gloo_rendezvous
from slurm_tf.launch.coordinator.gloo_rendezvous import Rendezvous

LOG: list[str] = []


@pytest.fixture
def rendezvous(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rendezvous]:
    monkeypatch.setattr(gloo_rendezvous, "_MAX_REQUESTS", 2)
    monkeypatch.setattr(gloo_rendezvous, "_PAUSE_SECONDS", 0.2)
    LOG.clear()
    made = Rendezvous(["127.0.0.1"], None, True, LOG.append)
    yield made
    made.close()


def status(rendezvous: Rendezvous) -> int:
    asking = http.client.HTTPConnection("127.0.0.1", rendezvous.port, timeout=20)
    asking.request("GET", "/global/0")
    found = asking.getresponse().status
    asking.close()
    return found


def test_connections_that_send_nothing_hold_a_few_threads_and_no_rank_for_long(rendezvous: Rendezvous) -> None:
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", rendezvous.port), timeout=10) for _ in range(8)]
    time.sleep(0.5)
    assert threading.active_count() - before <= 2
    for sock in silent:
        sock.close()
    assert status(rendezvous) == 404


def test_without_a_file_descriptor_it_pauses_and_one_line_says_so(
    rendezvous: Rendezvous, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepts: list[None] = []
    server = rendezvous._server
    get_request = server.get_request

    def counted() -> object:
        accepts.append(None)
        return get_request()

    monkeypatch.setattr(server, "get_request", counted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    asking = socket.socket()
    # a thread that an earlier test left may fail meanwhile, and pytest cannot open a file to say where
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    # stdin, stdout and stderr alone: one above, which another thread may close meanwhile, must not be free for this
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        asking.connect(("127.0.0.1", rendezvous.port))
        time.sleep(1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 1 <= len(accepts) < 20
    assert LOG == ["Horovod's rendezvous accepts no connection: Too many open files; tried again each second"]
    asking.close()
    assert status(rendezvous) == 404
