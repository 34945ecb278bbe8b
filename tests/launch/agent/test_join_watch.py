"""Whether a program joins the cluster, by the sockets of its processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from slurm_tf.launch.agent import join_watch
from slurm_tf.launch.agent.join_watch import JoinWatch, has_joined, was_met
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.launch.transport.messages import Joined

OPENS = """
import socket, sys
made = socket.socket({family})
{do}
print(made.getsockname()[1], flush=True)
sys.stdin.read()
"""


def program(do: str, family: str = "") -> "subprocess.Popen[str]":
    """Start a shell whose child does something with a socket, once that is done."""
    code = OPENS.format(do=do, family=family)
    argv = ["bash", "-c", '"$@"; true', "bash", sys.executable, "-c", code]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(
    ("do", "family", "joined"),
    [
        ("made.bind(('127.0.0.1', 0)); made.listen()", "", True),
        ("made.bind(('::1', 0)); made.listen()", "socket.AF_INET6", True),
        ("made.connect(('127.0.0.1', {peer}))", "", True),
        ("made.connect(('127.0.0.1', {other}))", "", False),
        ("made.bind(('127.0.0.1', 0))", "", False),
    ],
)
def test_what_a_child_of_the_program_does(do: str, family: str, joined: bool, peer: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"peer": peer.getsockname()[1], "other": other.getsockname()[1]}
        with program(do.format(**ports), family) as started:
            assert started.stdout is not None
            assert started.stdin is not None
            own = int(started.stdout.readline())
            # a server of this process is none of the program
            assert has_joined(started.pid, 1, {ports["peer"]}) is joined
            if "listen" in do:
                assert has_joined(os.getppid(), own, set()), "nobody but the task listens on its own port"
            started.stdin.close()


def test_of_a_process_that_is_gone_nothing_is_seen() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    assert not has_joined(gone.pid, 1, {2})


def test_a_connection_that_is_over_is_remembered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not was_met(port + 1 if port < 60_000 else port - 1)
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            pass
    assert was_met(port)


class Watched:
    """A watch with a time of its own; `seen`: what a look finds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, joins: bool = True) -> None:
        self.told: list[Joined] = []
        self.seen: bool | None = False
        self.looks, self.was_met = 0, False
        hosts = {"worker": ("127.0.0.1:5001", "[::1]:5002"), "evaluator": ("127.0.0.1:5003",)}
        assignment = Assignment("worker", 1, hosts, None, {}, (), cluster_flags=False, joins=joins)
        monkeypatch.setattr(join_watch, "has_joined", self._look)
        monkeypatch.setattr(join_watch, "was_met", lambda port: self.was_met and port == 5002)
        self.watch = JoinWatch(assignment, self.told.append)
        self.watch.begin(os.getpid(), 0.0)

    def _look(self, pid: int, port: int, peers: set[int]) -> bool | None:
        assert (pid, port, peers) == (os.getpid(), 5002, {5001, 5003})
        self.looks += 1
        return self.seen

    def until(self, end: float) -> None:
        while self.watch.wakes_at is not None and self.watch.wakes_at < end:
            self.watch.look(self.watch.wakes_at)


def test_it_is_looked_often_at_first_and_never_after_the_program_has_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watched(monkeypatch)
    made.until(10.0)
    assert made.looks >= 20
    made.seen = True
    made.until(600.0)
    looks = made.looks
    assert (made.told, made.watch.wakes_at, made.watch.ended()) == ([Joined(True)], None, True)
    made.watch.look(700.0)
    assert made.looks == looks


def test_one_that_joins_and_ends_between_two_looks_has_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watched(monkeypatch)
    made.until(1.0)
    made.was_met = True
    assert (made.watch.ended(), made.told) == (True, [Joined(True)])


def test_one_that_prints_for_minutes_and_has_not_joined_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watched(monkeypatch)
    made.until(300.0)
    assert made.told == []
    made.watch.printed(300.0)
    made.watch.printed(400.0)
    made.until(419.0)
    assert made.told == []
    made.until(900.0)
    assert made.told == [Joined(False)]
    assert made.watch.ended() is False


def test_one_that_uses_slurm_tf_train_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watched(monkeypatch)
    made.watch.told()
    made.watch.told()
    assert (made.told, made.watch.ended()) == ([Joined(True)], True)


def test_what_cannot_be_seen_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watched(monkeypatch)
    made.seen = None
    made.watch.printed(0.0)
    made.until(1.0)
    made.seen = False
    made.until(900.0)
    assert (made.told, made.watch.ended()) == ([], None)


def test_who_need_not_join_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watched(monkeypatch, joins=False)
    made.watch.printed(0.0)
    made.watch.told()
    made.until(900.0)
    assert (made.looks, made.told, made.watch.ended()) == (0, [], None)
