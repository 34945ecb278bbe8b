"""Whose program is at the other end: as the kernel's tables of real sockets say."""

import os
import socket
import subprocess

import pytest

from slurm_tf.serve.forwarder import socket_owner


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_owner_of_a_connection_is_its_programs_user(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError as error:
            pytest.skip(f"no {host} on this machine: {error.strerror}")
        server.listen()
        user = 65534 if os.getuid() == 0 else os.getuid()
        with subprocess.Popen(
            ["bash", "-c", f"exec 3<>/dev/tcp/{host}/{server.getsockname()[1]}; read -r"],
            stdin=subprocess.PIPE, user=user if os.getuid() == 0 else None, stdout=subprocess.DEVNULL,
        ) as program:  # fmt: skip
            connection, peer = server.accept()
            assert socket_owner.owner(peer[:2], connection.getsockname()[:2]) == user
            assert program.stdin is not None
            program.stdin.close()
            program.wait(timeout=30)
            assert connection.recv(1) == b""
            # its program is gone: nobody owns it, and not root, as the table shows
            assert socket_owner.owner(peer[:2], connection.getsockname()[:2]) is None
            connection.close()


def test_a_socket_for_both_kinds_of_addresses_is_found() -> None:
    with socket.socket() as server, socket.socket(socket.AF_INET6) as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        try:
            client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        except OSError as error:
            pytest.skip(f"no IPv6 on this machine: {error.strerror}")
        connection, peer = server.accept()
        assert socket_owner.owner(peer[:2], connection.getsockname()[:2]) == os.getuid()
        connection.close()


@pytest.mark.parametrize(
    ("header", "is_token"),
    [
        ("Bearer abc", True),
        ("bearer  abc ", True),
        ("Bearer abcd", False),
        ("Basic abc", False),
        ("abc", False),
        ("", False),
        ("Bearer \udcff", False),
    ],
)
def test_a_token_is_named_whole(header: str, is_token: bool) -> None:
    assert socket_owner.is_token(header, "abc") == is_token
    assert not socket_owner.is_token("Bearer ", "")
