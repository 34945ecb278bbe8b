"""The forwarder with real replicas of another process: spreads, retries, refuses, waits; REST over a real socket."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from slurm_tf.run.folder import RunFolder
from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.forwarder import forwarding, http_server, local_sockets
from slurm_tf.serve.forwarder.forwarding import Forwarding
from slurm_tf.serve.forwarder.spread import Spread
from slurm_tf.serve.forwarder.upstream import LostError, Request, Upstream
from slurm_tf.serve.replica_settings import ReplicaSettings, ServedModel
from slurm_tf.serve.replica_watch import ReplicaWatch
from slurm_tf.submit import service_files
from tests.conftest import PYTHONPATH, ROOT

pytestmark = pytest.mark.slow

PREDICT = "/v1/models/digits:predict"


class Service:
    """Replicas on this machine, and a forwarder to them in this process."""

    def __init__(self, folder: Path, hold: float) -> None:
        self.run = RunFolder(str(folder / "runs" / "digits-1"))
        service_files.make(self.run)
        self.token = Path(self.run.token).read_text().strip()
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self._listening = local_sockets.listen_tcp(0)
        self.port = self._listening.getsockname()[1]
        what = Forwarding(self.run, [self._listening], None, hold)
        threading.Thread(target=forwarding.run, args=(what, False), daemon=True).start()

    def start(self, name: str) -> None:
        settings = ReplicaSettings(
            replica=name,
            models=(ServedModel("digits", "/nowhere"),),
            endpoint_folder=self.run.endpoints,
            token_file=self.run.token,
        )
        path = f"{self.run.path}/{name}.json"
        replica_settings.write(path, settings)
        program = str(ROOT / "tests" / "programs" / "rest_replica.py")
        environ = {**os.environ, "PYTHONPATH": PYTHONPATH}
        self.programs[name] = subprocess.Popen([sys.executable, program, path], env=environ)
        until = time.monotonic() + 30
        while not os.path.exists(endpoint.path(self.run.endpoints, name)):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.6)  # the forwarder looks twice a second

    def end(self) -> None:
        for program in self.programs.values():
            program.kill()
            program.wait()

    def ask(
        self, number: int = 1, path: str = PREDICT, headers: Mapping[str, str] = MappingProxyType({}), **more: Any
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, json.dumps({"instances": [[number]], **more}), dict(headers))
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, body, dict(answer.getheaders())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path, hold=0.5)
    yield made
    made.end()


def test_requests_go_to_all_replicas_and_round_one_that_died(service: Service) -> None:
    for name in ("1-0-0", "1-1-0"):
        service.start(name)
    answers = [service.ask(number) for number in range(40)]
    assert [body["predictions"] for _, body, _ in answers] == [[[2 * number]] for number in range(40)]
    assert {body["replica"] for _, body, _ in answers} == {"1-0-0", "1-1-0"}
    service.programs["1-0-0"].kill()
    after = [service.ask(number) for number in range(20)]
    assert {(status, body["replica"]) for status, body, _ in after} == {(200, "1-1-0")}


@pytest.mark.parametrize("of_site", [{"Host": "rebound.example"}, {"Origin": "http://another.example"}])
def test_a_web_page_of_another_site_needs_the_token(of_site: dict[str, str], service: Service) -> None:
    """Its browser is a program of this user."""
    service.start("a")
    assert service.ask()[0] == 200
    assert service.ask(headers=of_site)[0] == 401
    assert service.ask(headers={**of_site, "Authorization": f"Bearer {service.token}"})[0] == 200


def test_what_a_dying_replica_had_in_hand_is_asked_once_more(service: Service) -> None:
    service.start("1-0-0")
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(service.ask(3, sleep=3.0)))
    asking.start()
    time.sleep(0.4)
    service.start("1-1-0")
    service.programs["1-0-0"].kill()
    asking.join(timeout=30)
    (status, body, _) = found[0]
    assert (status, body["predictions"], body["replica"]) == (200, [[6]], "1-1-0")
    # who knows what else it does: it may have been done
    asking = threading.Thread(target=lambda: found.append(service.ask(3, "/v1/models/digits:other", sleep=3.0)))
    asking.start()
    time.sleep(0.4)
    service.programs["1-1-0"].kill()
    asking.join(timeout=30)
    assert found[1][0] == 502


def test_a_replica_whose_node_hangs_is_given_up(service: Service) -> None:
    service.start("1-0-0")
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(service.ask(3, sleep=0.5)))
    asking.start()
    time.sleep(0.2)
    service.programs["1-0-0"].send_signal(signal.SIGSTOP)
    service.start("1-1-0")
    asking.join(timeout=endpoint.STALE_SECONDS + 10)
    assert found[0][0] == 200
    assert found[0][1]["replica"] == "1-1-0"


def test_without_a_replica_a_request_waits_and_then_hears_when_to_come_back(service: Service) -> None:
    status, body, headers = service.ask()
    assert status == 503
    assert headers["retry-after"] == "5"
    assert "serve status" in body["error"]


def test_a_certificate_that_is_not_that_of_the_file_gets_no_token(service: Service) -> None:
    service.start("1-0-0")
    told = endpoint.read(endpoint.path(service.run.endpoints, "1-0-0"))
    request = Request(b"GET", b"/v1/models/digits", (), b"", is_idempotent=True)
    assert asyncio.run(Upstream(told).ask(request, service.token)).status == 200
    other = Upstream(replace(told, fingerprint="0" * 64))
    with pytest.raises(LostError, match="not that of its endpoint file") as error:
        asyncio.run(other.ask(request, service.token))
    assert not error.value.is_sent


def test_connections_to_a_replica_that_has_ended_are_closed(service: Service) -> None:
    """What it was asked before it ended is answered."""
    for name in ("1-0-0", "1-1-0"):
        service.start(name)
    closed: list[str] = []

    class Recorded(Upstream):
        """Connections that say when they are closed."""

        def __init__(self, replica: Endpoint) -> None:
            super().__init__(replica)
            self.name = replica.replica

        async def close(self) -> None:
            closed.append(self.name)
            await super().close()

    spread = Spread(ReplicaWatch(service.run.endpoints), Recorded, 60.0)

    async def ask(number: int, **more: Any) -> Any:
        body = json.dumps({"instances": [[number]], **more}).encode()
        request = Request(b"POST", PREDICT.encode(), (), body, is_idempotent=True)
        answer = await spread.ask(
            "digits", True, lambda replica: replica.ask(request, service.token), http_server.is_busy
        )
        return json.loads(answer.body)

    async def main() -> None:
        watching = asyncio.ensure_future(spread.watch())
        slow = [asyncio.ensure_future(ask(each, sleep=1.0)) for each in range(4)]
        await asyncio.sleep(0.1)
        service.programs["1-0-0"].terminate()
        assert [each["predictions"] for each in await asyncio.gather(*slow)] == [[[2 * each]] for each in range(4)]
        until = time.monotonic() + 60
        while "1-0-0" not in closed and time.monotonic() < until:
            await asyncio.sleep(0.05)
        assert (await ask(5))["replica"] == "1-1-0"
        watching.cancel()

    asyncio.run(main())
    assert "1-0-0" in closed


def test_what_a_dying_node_had_in_hand_goes_to_another_node(service: Service) -> None:
    """Both replicas of a node die at once, and those of another node have more to do."""
    service.start("1-0-0")
    told = endpoint.read(endpoint.path(service.run.endpoints, "1-0-0"))
    for name, job, host in (("1-0-0", "1", "node1"), ("2-0-0", "2", "node1"), ("1-1-0", "1", "node2")):
        endpoint.write(service.run.endpoints, replace(told, replica=name, job=job, host=host))
    asked: list[str] = []

    class Dying:
        """Connections to a replica, which dies where its node is node1."""

        def __init__(self, replica: Endpoint) -> None:
            self.replica = replica
            self.in_flight = 5 if replica.host == "node2" else 0

        async def close(self) -> None:
            """Close nothing."""

        async def ask(self) -> str:
            asked.append(self.replica.host)
            if self.replica.host == "node1":
                raise LostError("its node is gone", is_sent=True)
            return self.replica.replica

    spread = Spread(ReplicaWatch(service.run.endpoints), Dying, 60.0)
    answer = asyncio.run(spread.ask("digits", True, lambda replica: replica.ask(), lambda _: False))
    assert (answer, asked) == ("1-1-0", ["node1", "node2"])
