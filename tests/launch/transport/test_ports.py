"""Ports that are ours until TensorFlow takes them."""

import socket
import time

import pytest

from slurm_tf.errors import AllocationError
from slurm_tf.launch.transport import ports
from tests.free_ports import free_range


@pytest.mark.parametrize("ranged", [False, True])
def test_a_program_can_listen_on_a_reserved_port_as_tensorflow_does(ranged: bool) -> None:
    reserved = ports.reserve(free_range(3) if ranged else None, time.monotonic())
    port = ports.port_of(reserved)
    # gRPC: dual stack, SO_REUSEADDR, twice: a restarted program takes the same port again
    for _ in range(2):
        with socket.socket(socket.AF_INET6) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", port))
            listener.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client, listener.accept()[0]:
                assert client.getpeername()[1] == port
    reserved.close()


def test_the_kernel_never_gives_a_port_twice() -> None:
    reserved = [ports.reserve(None, time.monotonic()) for _ in range(300)]
    assert len({ports.port_of(sock) for sock in reserved}) == 300
    for sock in reserved:
        sock.close()


def test_a_range_gives_each_port_once_and_then_says_so() -> None:
    low, high = free_range(5)
    reserved = [ports.reserve((low, high), time.monotonic()) for _ in range(5)]
    assert sorted(ports.port_of(sock) for sock in reserved) == list(range(low, high + 1))
    with pytest.raises(AllocationError, match=f"every port from {low} to {high} is in use"):
        ports.reserve((low, high), time.monotonic())
    reserved[2].close()
    ports.reserve((low, high), time.monotonic() + 5).close()
    for sock in reserved:
        sock.close()


def test_a_port_that_somebody_listens_on_is_not_taken() -> None:
    low, high = free_range(2)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", low))
        listener.listen()
        reserved = ports.reserve((low, high), time.monotonic())
        assert ports.port_of(reserved) == high
        reserved.close()


def test_addresses() -> None:
    assert ports.interface_address("lo") == "127.0.0.1"
    with pytest.raises(
        AllocationError, match=r"interface 'nope0' has no IPv4 address .* needed one of its interfaces: .*lo"
    ):
        ports.interface_address("nope0")
    assert ports.own_addresses("lo") == ["127.0.0.1"]
    found = ports.own_addresses("")
    assert found
    assert found == ["127.0.0.1"] or not any(address.startswith("127.") for address in found)


def test_the_address_towards_somebody() -> None:
    assert ports.address_towards("127.0.0.1") == ""
    assert ports.address_towards("no-number.example.org") == ""
    for own in ports.own_addresses(""):
        if not own.startswith("127."):
            assert ports.address_towards(own) == own


@pytest.mark.parametrize(
    ("error", "there"), [(ConnectionRefusedError(), True), (TimeoutError(), False), (OSError(113, "No route"), False)]
)
def test_a_machine_that_says_no_is_there(error: OSError, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise error

    assert ports.is_there("127.0.0.1", 3.0)
    monkeypatch.setattr(socket, "create_connection", connect)
    assert ports.is_there("10.0.0.1", 3.0) == there


def test_the_address_in_the_fast_network(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"n7-ib0.hpc": "127.0.0.1", "n8-ib0": "203.0.113.1"}

    def resolve(name: str) -> str:
        if name not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return known[name]

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    assert ports.fast_address("", "", "n7.hpc") == ""
    assert ports.fast_address("", "-ib0", "n7.hpc") == "127.0.0.1"
    assert ports.fast_address("lo", "", "n7.hpc") == "127.0.0.1"
    for node in ("n8", "n9"):
        with pytest.raises(
            AllocationError, match=f"(?s){node}-ib0 is no address of {node} .*`host-suffix` in the site"
        ):
            ports.fast_address("", "-ib0", node)
    monkeypatch.setattr(socket, "gethostname", lambda: "n7.hpc")
    assert ports.own_addresses("", "-ib0") == ["127.0.0.1"]
