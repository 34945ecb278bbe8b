"""What the coordinator does between its parts, where no job of real processes gets to."""

import dataclasses
import json
import signal
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_tf.launch.coordinator import coordinator
from slurm_tf.launch.coordinator.coordinator import Coordinator
from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.transport import connections
from slurm_tf.launch.transport.connections import Client
from slurm_tf.run.attempts import AttemptRecorder
from slurm_tf.run.folder import RunFolder
from tests.launch.conftest import DEFAULTS


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    """Return one whose step never starts, and that leaves this process's signals alone."""
    monkeypatch.setattr(coordinator, "SignalPipe", lambda *_: None)
    for name in ("_start_step", "_leave"):
        monkeypatch.setattr(Coordinator, name, lambda _: None)
    run = RunFolder(str(tmp_path))
    place = JobContext(run.submission(1), None, {"SLURM_JOB_ID": "7"})
    record = AttemptRecorder(run, "7.0", "7", print)
    return Coordinator(place, dataclasses.replace(DEFAULTS, local=False), ["srun"], record)


def over_by(monkeypatch: pytest.MonkeyPatch, conclude: Callable[..., Outcome]) -> None:
    monkeypatch.setattr(Coordinator, "_work", lambda _: Outcome(75, "preemption", OutcomeCause.TERMINATION))
    monkeypatch.setattr(coordinator, "Finalizer", lambda *_: SimpleNamespace(conclude=conclude))


def shown(made: Coordinator) -> tuple[str, str]:
    values: dict[str, Any] = json.loads(Path(made._folder.status).read_text())
    return values["state"], values["reason"]


def test_a_run_that_waits_to_be_started_again_is_not_shown_as_ended(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conclude(_outcome: Outcome, _interruption: object, show: Callable[[Outcome, str], None]) -> Outcome:
        show(Outcome(75, "job 7 waits"), "requeued")
        return Outcome(75, "")

    over_by(monkeypatch, conclude)
    assert made.run() == 75
    assert shown(made) == ("requeued", "job 7 waits")


def test_a_run_that_is_over_is_shown_as_ended(made: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    over_by(monkeypatch, lambda outcome, *_: outcome)
    assert made.run() == 75
    assert shown(made) == ("ended", "preemption")


def test_a_disk_that_is_full_ends_the_job_as_any_bad_end_does(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    concluded: list[Outcome] = []

    def fail(_made: Coordinator) -> Outcome:
        raise OSError(28, "No space left on device", "cluster.json")

    def conclude(outcome: Outcome, *_: object) -> Outcome:
        concluded.append(outcome)
        return outcome

    over_by(monkeypatch, conclude)
    monkeypatch.setattr(Coordinator, "_work", fail)
    assert made.run() == 74
    assert concluded == [Outcome(74, "[Errno 28] No space left on device: 'cluster.json'")]
    assert shown(made) == ("ended", concluded[0].reason)


def test_a_preflight_that_is_over_says_so_once(made: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    preflight = SimpleNamespace(
        over=True, all_are_lost=False, tick=lambda _: [], finish=lambda _: done.append("finish")
    )
    monkeypatch.setattr(made, "_preflight", preflight)
    monkeypatch.setattr(made, "_begin", lambda: done.append("begin"))
    assert not made._is_cleared(0.0)
    assert done == ["finish", "begin"]
    # nothing begins before squeue has said what the signal means
    made._interruption.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    for _ in range(3):
        assert not made._is_cleared(0.0)
    assert done == ["finish", "begin"]


def test_agents_that_have_no_places_yet_are_told_nothing(made: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(made, "_send", lambda _, message: sent.append(message["do"]))
    monkeypatch.setattr(made, "_connections", {"worker:0": object()})
    made._interruption.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    made._save()
    assert sent == []
    made._policy.begin({})
    made._save()
    assert sent == ["interrupt"]


def connect(made: Coordinator, name: str) -> Client:
    """Return an agent's connection, which `made` knows as that of task `name`."""
    place = ("127.0.0.1", made._server.port)
    with ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(connections.connect, [place], made._secret, 1, time.monotonic() + 10)
        while not connecting.done():
            for key, _ in made._selector.select(0.05):
                if key.data is made._server:
                    made._server.accept()
                else:
                    made._server.read(key.data)
    connection = next(each for each in made._server._connections if each not in made._connections.values())
    connection.name = name
    made._connections[name], made._nodes[name] = connection, "n1"
    return connecting.result()


def test_a_connection_that_breaks_at_a_message_is_handled_after_all_messages(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (connect(made, name) for name in ("worker:0", "worker:1"))
    first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.sock.close()
    monkeypatch.setattr(made, "_step", SimpleNamespace(tick=lambda _: False), raising=False)
    monkeypatch.setattr(made, "_go_on", lambda _: made._policy.outcome)
    made._carry_out(made._policy.begin(made._nodes))
    outcome = made._work()
    assert "worker:0 on n1 is lost" in outcome.reason
    # without a budget the end of one is the end of all
    assert [second.next(time.monotonic() + 10)["do"] for _ in range(2)] == ["start", "end"]
