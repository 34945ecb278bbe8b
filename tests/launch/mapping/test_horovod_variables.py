"""Horovod's places on uneven nodes, names that lead nowhere, and its rendezvous: asked as Horovod asks."""

import http.client
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.errors import AllocationError, TopologyError
from slurm_tf.launch.coordinator.gloo_rendezvous import Rendezvous
from slurm_tf.launch.mapping import horovod_variables
from slurm_tf.launch.transport import ports
from slurm_tf.launch.transport.messages import Report
from tests.launch.conftest import StartJob

pytestmark = pytest.mark.slow


def place(variables: dict[str, str]) -> tuple[int, ...]:
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")
    return tuple(int(variables[f"HOROVOD_{name}"]) for name in names)


def test_two_tasks_and_one() -> None:
    made = horovod_variables.of_ranks("gloo", ["n1", "n1", "n2"])
    assert [place(each) for each in made] == [(0, 3, 0, 2, 0, 2), (1, 3, 1, 2, 0, 1), (2, 3, 0, 1, 1, 2)]
    assert [each["HOROVOD_HOSTNAME"] for each in made] == ["n1", "n1", "n2"]
    assert made[0]["HOROVOD_CONTROLLER"] == made[0]["HOROVOD_CPU_OPERATIONS"] == "gloo"
    assert "HOROVOD_GLOO_IFACE" not in made[0]
    assert horovod_variables.of_ranks("gloo", ["n1"], "ib0")[0]["HOROVOD_GLOO_IFACE"] == "ib0"
    assert "HOROVOD_GLOO_TIMEOUT_SECONDS" not in horovod_variables.of_ranks("mpi", ["n1"], "ib0")[0]


def test_ranks_that_go_round_the_nodes() -> None:
    made = horovod_variables.of_ranks("mpi", ["n10", "n9", "n10", "n9", "n10"])
    assert [place(each)[2:] for each in made] == [(0, 3, 0, 2), (0, 2, 1, 2), (1, 3, 0, 2), (1, 2, 1, 2), (2, 3, 0, 1)]


@given(st.lists(st.sampled_from(["n1", "n2", "n3", "n4"]), min_size=1, max_size=40))
def test_every_group_counts_from_zero_to_its_size(nodes: list[str]) -> None:
    made = [place(each) for each in horovod_variables.of_ranks("gloo", nodes)]
    groups: dict[tuple[str, object], list[tuple[int, int]]] = {}
    for node, (rank, size, local, local_size, cross, cross_size) in zip(nodes, made, strict=True):
        assert nodes[rank] == node
        for key, member in ((("", ""), (rank, size)), (("node", node), (local, local_size)),
                            (("cross", local), (cross, cross_size))):  # fmt: skip
            groups.setdefault(key, []).append(member)
    for members in groups.values():
        assert sorted(members) == [(number, len(members)) for number in range(len(members))]


def named(*addresses: str) -> list[Report]:
    return [Report(rank, f"n{rank}", "10.0.0.1", 1, named=text) for rank, text in enumerate(addresses)]


@pytest.mark.parametrize(("address", "said"), [("127.0.1.1", "to 127.0.1.1"), ("::1", "to ::1"), ("", "to no address")])
def test_a_name_that_leads_nowhere_is_an_error_that_names_the_node(address: str, said: str) -> None:
    with pytest.raises(TopologyError, match=f"on n1 the node's own name resolves {said}"):
        horovod_variables.check_names(named("10.0.0.1", address))
    horovod_variables.check_names(named("10.0.0.1", "10.0.0.2"))
    # on one node nobody has to reach another
    horovod_variables.check_names(named(address))


def test_a_nodes_own_name_is_asked_for_what_gloo_can_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)

    answer("192.0.2.7", "127.0.1.1")  # the first is of no interface here
    assert horovod_variables.named_address() == "127.0.1.1"
    answer()
    assert horovod_variables.named_address() == ""


# --- the rendezvous ---


class RendezvousServer:
    """A rendezvous for the nodes 127.0.0.1 and 127.0.0.2, asked from any address."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.rendezvous = Rendezvous(["127.0.0.1", "127.0.0.2"], None, False, self.said.append)

    def ask(self, method: str, path: str, body: bytes | None = None, source: str = "127.0.0.1") -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.rendezvous.port, 10, source_address=(source, 0))
        try:
            link.request(method, path, body)
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()


@pytest.fixture
def server() -> Iterator[RendezvousServer]:
    made = RendezvousServer()
    yield made
    made.rendezvous.close()


def test_values_come_back_and_go(server: RendezvousServer) -> None:
    value = bytes(range(256)) * 1000
    assert server.ask("GET", "/global/0") == (404, b"")
    assert server.ask("PUT", "/global/0", value) == (200, b"")
    assert server.ask("GET", "/global/0", source="127.0.0.2") == (200, value)
    assert server.ask("GET", "/local_n1/0") == (404, b"")
    assert server.ask("DELETE", "/global/0") == (200, b"")
    assert server.ask("GET", "/global/0") == (404, b"")
    assert server.ask("DELETE", "/global/0") == (200, b"")


def test_a_key_is_its_writers(server: RendezvousServer) -> None:
    assert server.ask("PUT", "/global/0", b"mine")[0] == 200
    assert server.ask("PUT", "/global/0", b"theirs", source="127.0.0.2")[0] == 403
    assert server.ask("DELETE", "/global/0", source="127.0.0.2")[0] == 403
    assert server.ask("PUT", "/global/0", b"mine again")[0] == 200
    assert server.ask("GET", "/global/0") == (200, b"mine again")


def test_who_is_on_no_node_of_the_job_is_refused_and_named_once(server: RendezvousServer) -> None:
    for _ in range(3):
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            server.ask("PUT", "/global/0", b"x", source="127.0.0.3")
    assert server.said == ["refused 127.0.0.3 at Horovod's rendezvous: no node of this job"]
    assert server.ask("GET", "/global/0")[0] == 404


@pytest.mark.parametrize("length", ["-1", "x", "99999999999", "²"])
def test_a_wrong_length_is_refused(server: RendezvousServer, length: str) -> None:
    with socket.create_connection(("127.0.0.1", server.rendezvous.port), 10) as link:
        link.sendall(f"PUT /global/0 HTTP/1.1\r\nContent-Length: {length}\r\n\r\nabc".encode())
        assert b" 400 " in link.makefile("rb").readline()
    assert server.ask("GET", "/global/0")[0] == 404


def test_half_a_value_is_none_and_silence_stops_no_other_rank(server: RendezvousServer) -> None:
    with socket.create_connection(("127.0.0.1", server.rendezvous.port), 10) as half:
        half.sendall(b"PUT /global/0 HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        silent = [socket.create_connection(("127.0.0.1", server.rendezvous.port), 10) for _ in range(20)]
        assert server.ask("GET", "/global/0")[0] == 404
    assert server.ask("GET", "/global/0")[0] == 404
    for link in silent:
        link.close()


def test_many_at_once(server: RendezvousServer) -> None:
    codes: list[int] = []

    def rank(number: int) -> None:
        codes.append(server.ask("PUT", f"/global/{number}", b"x" * number)[0])
        codes.extend(server.ask("GET", f"/global/{number}")[0] for _ in range(5))

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == [200] * 64 * 6


def test_a_closed_one_lets_its_port_go_and_a_range_is_kept() -> None:
    free = ports.reserve(None, 0)
    port = ports.port_of(free)
    free.close()
    first = Rendezvous([], (port, port), False, print)
    assert first.port == port
    with pytest.raises(AllocationError, match=f"every port from {port} to {port}"):
        Rendezvous([], (port, port), False, print)
    first.close()
    again = Rendezvous([], (port, port), False, print)
    assert again.port == port
    again.close()


# --- in a job ---

SHOW = 'env | grep ^HOROVOD_ | sort; echo "config ${TF_CONFIG-none}"'


def variables(lines: Sequence[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if line.startswith("HOROVOD_"))


def test_each_task_is_told_its_place_and_where_to_meet(start_job: StartJob) -> None:
    job = start_job(
        SHOW, strategy="horovod", horovod="gloo", env={"HOROVOD_RANK": "7", "HOROVOD_FUSION_THRESHOLD": "0"}
    )
    assert job.wait() == 0, job.text
    told = [variables(job.lines(f"worker:{index}")) for index in range(2)]
    assert [place(each) for each in told] == [(0, 2, 0, 2, 0, 1), (1, 2, 1, 2, 0, 1)]
    assert told[0]["HOROVOD_GLOO_RENDEZVOUS_ADDR"] == "127.0.0.1"
    assert told[0]["HOROVOD_GLOO_RENDEZVOUS_PORT"] == told[1]["HOROVOD_GLOO_RENDEZVOUS_PORT"]
    # what only tunes Horovod is the user's
    assert told[0]["HOROVOD_FUSION_THRESHOLD"] == "0"
    assert "config none" in job.lines("worker:0")


MEET = """
url=http://$HOROVOD_GLOO_RENDEZVOUS_ADDR:$HOROVOD_GLOO_RENDEZVOUS_PORT/global/0
code="import sys, urllib.request as r; print(r.urlopen(r.Request(sys.argv[2], b'x', method=sys.argv[1])).read())"
ask() { python3 -c "$code" "$@"; }
if [ $SLURM_TF_TASK = worker:0 ]; then
    echo "before: $(ask GET $url 2>&1 | tail -1)"
    ask PUT $url
    [ $SLURM_TF_RESTARTS = 1 ] || exit 3
fi
exit 0
"""


def test_a_start_again_begins_with_an_empty_rendezvous(start_job: StartJob) -> None:
    job = start_job(MEET, strategy="horovod", horovod="gloo", max_restarts=1)
    assert job.wait() == 0, job.text
    before = [line for line in job.lines("worker:0") if line.startswith("before")]
    assert len(before) == 2
    assert all("404" in line for line in before)


def test_under_mpi_there_is_no_rendezvous(start_job: StartJob) -> None:
    job = start_job(SHOW, strategy="horovod", horovod="mpi")
    assert job.wait() == 0, job.text
    told = variables(job.lines("worker:1"))
    assert told["HOROVOD_CONTROLLER"] == "mpi"
    assert "HOROVOD_GLOO_RENDEZVOUS_PORT" not in told
