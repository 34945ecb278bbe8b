"""A preflight of agents on this machine that report different nodes, and connections to a prober without the secret."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import PreflightError
from slurm_tf.launch.nodes.preflight import Preflight
from slurm_tf.launch.nodes.probe import Prober
from slurm_tf.launch.transport import authentication
from slurm_tf.launch.transport.messages import (
    CheckFiles,
    FilesChecked,
    LinkMeasured,
    MeasureLink,
    OpenProbe,
    ProbeAnswer,
    ProbeFailed,
    ProbeOpened,
    Report,
)
from slurm_tf.run import bad_nodes
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import DEFAULTS, LocalJob, StartJob

pytestmark = pytest.mark.slow

# in the place of srun: a task on each of the nodes n0, n1, n2, and what may befall one of them
STEP = """
for rank in 0 1 2; do
    export SLURM_STEP_ID=0 SLURM_NTASKS=3 SLURM_LOCALID=0 SLURM_PROCID=$rank SLURMD_NODENAME=n$rank; BEFORE; "$@" &
done
wait
"""
THREE = (RoleSettings("worker", 3),)
ANSWERS: dict[type, ProbeAnswer] = {
    OpenProbe: ProbeOpened(5, None),
    CheckFiles: FilesChecked(()),
    MeasureLink: LinkMeasured(1e-4, 1e9),
}


def step(before: str = "true") -> list[str]:
    return ["bash", "-c", STEP.replace("BEFORE", before), "step"]


def found(job: LocalJob) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(Path(job.run.preflight).read_text())
    return values


def test_then_the_programs_start(start_job: StartJob) -> None:
    job = start_job("echo started", step=step(), roles=THREE, preflight=True, preflight_factor=1000)
    assert job.wait() == 0, job.text
    said = found(job)
    assert [node["name"] for node in said["nodes"]] == ["n0", "n1", "n2"]
    assert len(said["pairs"]) == 6
    for pair in said["pairs"]:
        assert pair["error"] == ""
        assert 0 < pair["latency"] < 1
        assert pair["bandwidth"] > 1e6
    for line in said["table"]:
        assert f"slurm-tf: {line}\n" in job.text
    assert job.text.index("ok\n") < job.text.index("] started")
    assert len(job.lines("worker:2")) == 1
    assert list(Path(job.run.probes).iterdir()) == []
    assert not Path(job.run.bad_nodes).exists()


def test_a_node_without_its_gpus_is_named_and_nothing_starts(start_job: StartJob) -> None:
    before = "export CUDA_VISIBLE_DEVICES=0,1; test $rank = 1 && CUDA_VISIBLE_DEVICES=0"
    roles = (RoleSettings("worker", 3, gpus=2),)
    job = start_job("echo started", step=step(before), roles=roles, preflight=True, preflight_factor=1000)
    assert job.wait() == 76, job.text
    assert "] started" not in job.text
    bad = bad_nodes.read(job.run)
    # this machine has no device files of GPUs: every node lacks them, one of them by what it was given as well
    assert bad["n1"].reason in ("has 0 GPUs of 2", "has 1 GPUs of 2")
    assert "the job failed: preflight: " in job.text


def test_on_one_node(start_job: StartJob) -> None:
    job = start_job("echo started", preflight=True)
    assert job.wait() == 0, job.text
    assert len(found(job)["nodes"]) == 1
    assert job.lines("worker:1") == ["started"]


def test_an_agent_that_dies_meanwhile_names_its_node(tmp_path: Path) -> None:
    reports = {rank: Report(rank, f"n{rank}", "127.0.0.1", 1000 + rank) for rank in range(3)}
    run = RunFolder(str(tmp_path))
    preflight = Preflight(run, DEFAULTS.__class__(**{**vars(DEFAULTS), "roles": THREE}), reports)
    requests = preflight.begin(0.0)
    assert [rank for rank, _ in requests] == [0, 1, 2]
    for rank in (0, 2):
        assert preflight.answered(rank, ProbeOpened(5, None), 1.0) == []
    requests = preflight.lost("n1", 2.0)
    asked = []
    now = 3.0
    while requests:
        rank, message = requests.pop()
        asked.append((rank, type(message).__name__))
        now += 1.0
        requests += preflight.answered(rank, ANSWERS[type(message)], now)
    assert sorted(asked) == [(0, "CheckFiles"), (0, "MeasureLink"), (2, "CheckFiles"), (2, "MeasureLink")]
    assert preflight.over
    assert preflight.reasons == {"n1": "its agent's connection ended"}


def test_an_agent_that_never_answers_is_waited_for_once(tmp_path: Path) -> None:
    reports = {rank: Report(rank, f"n{rank}", "127.0.0.1", 1000 + rank) for rank in range(2)}
    preflight = Preflight(RunFolder(str(tmp_path)), DEFAULTS, reports)
    preflight.begin(0.0)
    preflight.answered(1, ProbeOpened(5, None), 1.0)
    assert preflight.tick(preflight.wakes_at - 0.1) == []
    requests = preflight.tick(preflight.wakes_at)
    assert [rank for rank, _ in requests] == [1]
    assert preflight.answered(0, ProbeOpened(5, None), preflight.wakes_at) == []
    preflight.answered(1, FilesChecked(()), preflight.wakes_at)
    assert preflight.over
    assert preflight.reasons == {"n0": "its agent does not answer"}


def test_a_node_that_is_lost_after_its_last_answer_is_named(tmp_path: Path) -> None:
    reports = {rank: Report(rank, f"n{rank}", "127.0.0.1", 1000 + rank) for rank in range(2)}
    run = RunFolder(str(tmp_path))
    preflight = Preflight(run, DEFAULTS, reports)
    requests, now = preflight.begin(0.0), 0.0
    while requests:
        rank, message = requests.pop(0)
        requests += preflight.answered(rank, ANSWERS[type(message)], now)
    assert preflight.over
    assert preflight.reasons == {}
    preflight.lost("n1", now)
    with pytest.raises(PreflightError, match="n1 its agent's connection ended"):
        preflight.finish(lambda _: None)
    assert list(bad_nodes.read(run)) == ["n1"]


def test_a_prober_measures_another(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = Prober(b"s" * 32, None), Prober(b"s" * 32, None)
    port = other.port
    try:
        figures = one.measure("127.0.0.1", other.port)
        assert isinstance(figures, LinkMeasured)
        assert figures.latency < 1
        assert figures.bandwidth > 1e6
    finally:
        one.close()
        other.close()
    assert isinstance(one.measure("127.0.0.1", port), ProbeFailed)
    assert capsys.readouterr().err == ""


def test_the_reason_of_a_node_that_does_not_answer_is_the_systems_own() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    prober = Prober(b"s" * 32, None)
    assert prober.measure("127.0.0.1", port) == ProbeFailed("Connection refused")
    prober.close()


def test_connections_without_the_secret_are_refused() -> None:
    prober, stranger = Prober(b"s" * 32, None), Prober(b"t" * 32, None)
    try:
        assert isinstance(stranger.measure("127.0.0.1", prober.port), ProbeFailed)
        for said in (b"", b"p" * 2000, b"GET / HTTP/1.0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", prober.port), timeout=10) as sock:
                data = sock.recv(1000)  # read first: a refusal may reset the connection, and the data would be lost
                try:
                    sock.sendall(said)
                    sock.shutdown(socket.SHUT_WR)
                    while more := sock.recv(1000):
                        data += more
                except OSError as error:
                    assert not isinstance(error, TimeoutError)
                # the nonce that every connection gets, and no answer to a ping
                assert b'"nonce"' in data
                assert data.count(b"{") == 1
                assert not data.endswith(b"p")
    finally:
        prober.close()
        stranger.close()


def test_the_key_of_probes_is_not_the_coordinators() -> None:
    """A coordinator's handshake that is passed on to a prober is refused."""
    prober = Prober(b"s" * 32, None)
    try:
        with socket.create_connection(("127.0.0.1", prober.port), timeout=10) as sock:
            talk = authentication.Conversation(b"s" * 32, authentication.AGENT)
            deadline = time.monotonic() + 10
            try:
                while (data := sock.recv(1000)) and time.monotonic() < deadline:
                    talk.receive(data)
                    sock.sendall(talk.outgoing)
                    talk.outgoing.clear()
            except ConnectionResetError:
                pass
            assert not talk.authenticated
    finally:
        prober.close()
