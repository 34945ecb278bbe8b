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
from typing import Any, cast

import pytest

from slurm_tf.errors import RegistrationError
from slurm_tf.launch.coordinator import coordinator
from slurm_tf.launch.coordinator.coordinator import Coordinator
from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.transport import connections, messages
from slurm_tf.launch.transport.connections import Client, Connection
from slurm_tf.launch.transport.messages import End, HeartbeatRequest, Save, Start, Started
from slurm_tf.run.attempts import AttemptRecorder
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.status import AttemptState
from tests.launch.conftest import DEFAULTS


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    """Return one whose steps have no processes, and that leaves this process's signals alone."""
    step = SimpleNamespace(
        tick=lambda _: False, end=lambda *_, **__: None, wait=lambda: None, end_in_words="", last_printed=""
    )
    monkeypatch.setattr(coordinator, "SignalPipe", lambda *_: None)
    monkeypatch.setattr(coordinator, "Step", lambda *_: step)
    run = RunFolder(str(tmp_path))
    context = JobContext(run.submission(1), None, {"SLURM_JOB_ID": "7"})
    record = AttemptRecorder(run, "7.0", "7", print)
    return Coordinator(context, dataclasses.replace(DEFAULTS, local=False), ["srun"], record)


def over_by(monkeypatch: pytest.MonkeyPatch, conclude: Callable[..., Outcome]) -> None:
    monkeypatch.setattr(Coordinator, "_loop", lambda _: Outcome(75, "preemption", OutcomeCause.TERMINATION))
    monkeypatch.setattr(coordinator, "Finalizer", lambda *_: SimpleNamespace(conclude=conclude))


def shown(made: Coordinator) -> tuple[str, str]:
    values: dict[str, Any] = json.loads(Path(made._context.folder.status).read_text())
    return values["state"], values["reason"]


def test_a_run_that_waits_to_be_started_again_is_not_shown_as_ended(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conclude(_outcome: Outcome, _termination: object, show: Callable[[Outcome, AttemptState], None]) -> Outcome:
        show(Outcome(75, "job 7 waits"), AttemptState.REQUEUED)
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
    monkeypatch.setattr(Coordinator, "_loop", fail)
    assert made.run() == 74
    assert concluded == [Outcome(74, "[Errno 28] No space left on device: 'cluster.json'")]
    assert shown(made) == ("ended", concluded[0].reason)


def test_srun_says_that_a_task_ran_out_of_memory_whose_agent_could_not(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_by(monkeypatch, lambda outcome, *_: outcome)
    monkeypatch.setattr(Coordinator, "_loop", lambda _: Outcome(1, "worker:1 on n2 is lost", OutcomeCause.TASK_LOST))
    monkeypatch.setitem(cast("dict[str, str]", made._context.environ), "SLURM_MEM_PER_NODE", "1024")
    made._start_step()
    monkeypatch.setattr(made._step, "last_printed", "srun: error: n2: task 1: Out Of Memory\n")
    assert made.run() == 1
    _, reason = shown(made)
    assert reason == (
        "worker:1 on n2 is lost; out of memory: it asked for --mem=1G; ask for more, --mem=1536M at first, or use a "
        "smaller batch"
    )


@pytest.mark.parametrize(
    ("answers", "end"),
    [
        (True, Outcome(1, "worker:1 on n2 is lost", OutcomeCause.PROGRAM)),
        (False, Outcome(1, "worker:1 on n2 is lost, and its node does not answer", OutcomeCause.TASK_LOST)),
    ],
)
def test_a_node_that_does_not_answer_is_said_to(
    answers: bool, end: Outcome, made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    concluded: list[Outcome] = []

    def conclude(outcome: Outcome, *_: object) -> Outcome:
        concluded.append(outcome)
        return outcome

    over_by(monkeypatch, conclude)
    monkeypatch.setattr(Coordinator, "_loop", lambda _: Outcome(1, "worker:1 on n2 is lost", OutcomeCause.TASK_LOST))
    monkeypatch.setattr("slurm_tf.launch.coordinator.coordinator.ports.is_there", lambda *_: answers)
    made._start_step()
    made._training.lost_host = "192.0.2.1"
    assert made.run() == 1
    assert concluded == [end]


def test_a_preflight_that_is_over_reports_once_and_not_after_a_signal(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    preflight = SimpleNamespace(
        over=True, all_are_lost=False, tick=lambda _: [], finish=lambda _: done.append("finish")
    )
    made._start_step()
    phase = made._registration
    monkeypatch.setattr(phase, "_preflight", preflight)
    # nothing begins before squeue has said what the signal means
    assert not phase.tick(0.0, "", is_terminating=True)
    assert done == []
    assert phase.tick(0.0, "", is_terminating=False)
    assert done == ["finish"]


def test_agents_without_an_assignment_are_sent_nothing_at_a_signal(
    made: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(made._tasks, "send", lambda _, message: sent.append(type(message)))
    made._tasks.add("worker:0", cast(Connection, SimpleNamespace()))
    made._termination.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    made._training.save()
    assert sent == []
    made._policy.begin({})
    made._training.save()
    assert sent == [Save]


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
    accepted = [each for each in made._server._connections if not made._tasks.is_task(each)]
    made._tasks.add(name, accepted[0])
    return connecting.result()


def test_a_connection_that_breaks_at_a_message_is_handled_after_all_messages(made: Coordinator) -> None:
    first, second = (connect(made, name) for name in ("worker:0", "worker:1"))
    first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.sock.close()
    made._start_step()
    made._training.begin({"worker:0": "n1", "worker:1": "n1"}, [])
    deadline = time.monotonic() + 10
    while made._policy.outcome is None:
        assert time.monotonic() < deadline
        made._turn()
    assert "worker:0 on n1 is lost" in made._policy.outcome.reason
    # without a budget the end of one is the end of all
    assert second.next(deadline) == Start(0, None)
    assert isinstance(second.next(deadline), End)


def test_each_message_of_an_agent_has_a_handler(made: Coordinator) -> None:
    made._start_step()
    handled = {*made._registration.handlers, *made._training.handlers, HeartbeatRequest}
    assert handled == set(messages.FROM_AGENT.values())


def test_an_agent_that_sends_what_no_agent_sends_is_lost(made: Coordinator, capsys: pytest.CaptureFixture[str]) -> None:
    client = connect(made, "worker:0")
    client.send(Start(0, None))
    made._start_step()
    with pytest.raises(RegistrationError, match="worker:0 left before the programs started: a message of type 'Start'"):
        made._loop()
    assert "refused a connection from 127.0.0.1:" in capsys.readouterr().err


def test_a_message_of_training_before_the_assignment_is_refused(
    made: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connect(made, "worker:0")
    client.send(Started(1))
    made._start_step()
    made._turn()
    assert "Started came from an agent that has no assignment" in capsys.readouterr().err
    with pytest.raises(RegistrationError, match="no answer from the coordinator"):
        client.next(time.monotonic() + 10)
