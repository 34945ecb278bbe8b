"""gRPC through the forwarder to real replicas, for a client that knows the public protocol alone."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_tf.run.folder import RunFolder
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.forwarder import forwarding, local_sockets
from slurm_tf.serve.forwarder.forwarding import Forwarding
from slurm_tf.serve.forwarder.upstream import LostError
from slurm_tf.serve.protocol import serving_messages as protocol
from slurm_tf.serve.replica_settings import Batching
from tests import free_ports
from tests.serve.running_replica import TOKEN, Replica, predict_request, wait_for

if TYPE_CHECKING:
    from slurm_tf.serve.forwarder import grpc_server

pytestmark = pytest.mark.tensorflow

PREDICT = "/tensorflow.serving.PredictionService/Predict"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


def forward(folder: Path, grpc_at: "str | int", hold: float = 5.0) -> None:
    """Forward to the replicas of a folder, for as long as the tests run."""
    what = Forwarding(RunFolder(str(folder)), [local_sockets.listen_tcp(0)], grpc_at, hold)
    threading.Thread(target=forwarding.run, args=(what, False), daemon=True).start()


@pytest.fixture(scope="module")
def at(replica: Replica, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a socket that leads to the replica of the session."""
    path = str(tmp_path_factory.mktemp("forwarder") / "grpc.sock")
    forward(replica.folder, path)
    wait_for(lambda: os.path.exists(path))
    return path


@pytest.fixture
def channel(at: str) -> Iterator[Any]:
    """Return a channel of gRPC's own client, which knows no token and no certificate."""
    import grpc

    with grpc.insecure_channel(f"unix:{at}") as opened:
        yield opened


def ask(channel: Any, request: Any, method: str = PREDICT, **more: Any) -> bytes:
    found: bytes = channel.unary_unary(method)(request.SerializeToString(), timeout=60, **more)
    return found


def twice(*numbers: float) -> Any:
    import numpy as np

    return predict_request("kinds", {"x": np.array(numbers, np.float32)})


def test_a_client_needs_no_token_and_no_certificate(at: str, channel: Any) -> None:
    assert os.stat(at).st_mode & 0o777 == 0o600
    found = protocol.PredictResponse.FromString(ask(channel, twice(2, 4)))
    assert list(found.outputs["y"].float_val) == [3, 4]
    status = protocol.GetModelStatusRequest()
    status.model_spec.name = "kinds"
    answer = ask(channel, status, "/tensorflow.serving.ModelService/GetModelStatus")
    assert protocol.GetModelStatusResponse.FromString(answer).model_version_status[0].version == 1
    health = ask(channel, protocol.HealthCheckRequest(service="kinds"), "/grpc.health.v1.Health/Check")
    assert protocol.HealthCheckResponse.FromString(health).status == 1


def test_an_error_of_the_replica_comes_as_it_is(channel: Any) -> None:
    import grpc

    def refused(request: Any, method: str = PREDICT) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, request, method)
        return caught.value.code().name, caught.value.details()

    assert refused(predict_request("none", {})) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(none)",
    )
    assert refused(predict_request("kinds", {}))[0] == "INVALID_ARGUMENT"
    assert refused(twice(1), "/tensorflow.serving.SessionService/SessionRun")[0] == "UNIMPLEMENTED"
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_on_a_port_programs_of_other_users_need_the_token(replica: Replica) -> None:
    import grpc

    port, _ = free_ports.free_range(1)
    forward(replica.folder, port)

    def asked(at: int, **more: Any) -> str:
        with grpc.insecure_channel(f"127.0.0.1:{at}") as channel:
            try:
                ask(channel, twice(2), wait_for_ready=True, **more)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    assert asked(port) == "OK"
    if os.getuid():
        pytest.skip("no other user's program can be started without root")
    with through_another_user(port) as theirs:
        assert asked(theirs) == "UNAUTHENTICATED"
        assert asked(theirs, metadata=[("authorization", "Bearer guessed")]) == "UNAUTHENTICATED"
        assert asked(theirs, metadata=[("authorization", f"Bearer {TOKEN}")]) == "OK"


def as_nobody(script: str, connection: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["bash", "-c", script], stdin=connection.fileno(), stdout=connection.fileno(), user=65534, group=65534,
        extra_groups=[], start_new_session=True,
    )  # fmt: skip


@contextlib.contextmanager
def through_another_user(port: int) -> Iterator[int]:
    """Give a port whose connections a program of the user nobody leads to `port` of this machine."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 & cat >&3"
    programs: list[subprocess.Popen[bytes]] = []

    def lead(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    programs.append(as_nobody(script, connection))

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=lead, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for program in programs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait(timeout=30)


def test_another_certificate_gets_no_token(replica: Replica) -> None:
    from slurm_tf.serve.replica import certificate

    told = replica.endpoint
    with pytest.raises(LostError, match="not that of its endpoint file") as error:
        asyncio.run(health(replace(told, fingerprint="0" * 64)))
    assert not error.value.is_sent
    other = certificate.own([told.host]).chain.decode()
    with pytest.raises(LostError, match="cannot be reached"):
        asyncio.run(health(replace(told, certificate=other, fingerprint=endpoint.fingerprint(other))))
    assert asyncio.run(health(told)).error is None


async def health(told: Endpoint) -> "grpc_server.Reply":
    from slurm_tf.serve.forwarder import grpc_server

    metadata = (("authorization", f"Bearer {TOKEN}"),)
    return await grpc_server.Channel(told).ask("/grpc.health.v1.Health/Check", b"", metadata, 60)


def test_a_channel_that_is_closed_while_it_connects_has_sent_nothing(replica: Replica) -> None:
    """What listens answers nothing: the connection is never made."""
    from slurm_tf.serve.forwarder import grpc_server

    async def closed(told: Endpoint) -> None:
        channel = grpc_server.Channel(told)
        asking = asyncio.ensure_future(channel.ask("/grpc.health.v1.Health/Check", b"", (), 60))
        await asyncio.sleep(0)
        await channel.close()
        await asking

    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(LostError) as error:
        asyncio.run(closed(replace(replica.endpoint, host="127.0.0.1", grpc_port=listening.getsockname()[1])))
    assert not error.value.is_sent


def test_another_replica_is_asked_where_one_is_busy(replica: Replica, models: Path, tmp_path: Path) -> None:
    """A request that waits for others of its batch for an hour is all that the second replica takes."""
    import grpc

    more = {"replica": "full", "max_in_flight": 1}
    waiting = Batching(batch_timeout_micros=3_600_000_000)
    full = Replica(replica.folder, {"kinds": models / "kinds"}, waiting, **more).ready()
    metadata = [("authorization", f"Bearer {TOKEN}")]
    body = {"instances": [2.0]}
    rest, path = local_sockets.listen_tcp(0), str(tmp_path / "grpc.sock")
    what = Forwarding(RunFolder(str(replica.folder)), [rest], path, 60)
    threading.Thread(target=forwarding.run, args=(what, False), daemon=True).start()
    wait_for(lambda: os.path.exists(path))
    with full.channel() as direct, grpc.insecure_channel(f"unix:{path}") as forwarded:
        held = direct.unary_unary(PREDICT).future(twice(2).SerializeToString(), metadata=metadata, timeout=600)
        wait_for(lambda: "requests_in_flight{} 1" in full.rest("/monitoring/prometheus/metrics")[1])
        assert full.rest("/v1/models/kinds:predict", body)[0] == 429
        for number in range(20):  # it has one request, as the other one has none: it is chosen where that is by chance
            found = protocol.PredictResponse.FromString(ask(forwarded, twice(number)))
            assert found.outputs["y"].float_val[0] == number / 2 + 2
        for _ in range(20):
            assert posted(rest.getsockname()[1], body) == (200, {"predictions": [3.0]})
        assert full.rest("/v1/models/kinds:predict", body)[0] == 429
        held.cancel()
    assert full.stop() == 0


def posted(port: int, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/models/kinds:predict", json.dumps(body))
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found


@pytest.mark.long
def test_replicas_that_die_fail_no_call_and_a_site_may_sign(models: Path, tmp_path: Path) -> None:
    """The second one has a certificate of the site's authority, for a name by which nobody asks."""
    import grpc

    folder, served = tmp_path / "service", {"kinds": models / "kinds"}
    first = Replica(folder, served).ready()
    forward(folder, str(tmp_path / "grpc.sock"), 60)
    wait_for((tmp_path / "grpc.sock").exists)
    done, answered, failures = threading.Event(), list[float](), list[str]()

    def ask_on() -> None:
        with grpc.insecure_channel(f"unix:{tmp_path}/grpc.sock") as channel:
            while not done.is_set():
                try:
                    found = protocol.PredictResponse.FromString(ask(channel, twice(len(answered))))
                    answered.append(found.outputs["y"].float_val[0])
                except grpc.RpcError as error:
                    failures.append(f"{error.code()} {error.details()}")

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        wait_for(lambda: len(answered) > 100)
        chain, key = signed_by_a_site(tmp_path)
        second = Replica(folder, served, replica="second", certificate_file=chain, key_file=key).ready()
        first.process.kill()
        first.process.wait(30)
        count = len(answered)
        wait_for(lambda: len(answered) > count + 500)
    finally:
        done.set()
        for each in threads:
            each.join(120)
    assert not failures
    assert second.stop() == 0


def signed_by_a_site(folder: Path) -> tuple[str, str]:
    """Return the paths of a certificate, which an authority has signed, and of its key."""
    script = """\
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=gpu07 -keyout key.pem -out asked.pem
printf 'subjectAltName=DNS:gpu07.example.org' > names
openssl x509 -req -in asked.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem
cat leaf.pem ca.pem > chain.pem
chmod 600 key.pem
"""
    subprocess.run(["bash", "-ec", script], cwd=folder, check=True, capture_output=True, timeout=60)
    return str(folder / "chain.pem"), str(folder / "key.pem")
