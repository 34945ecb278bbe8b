"""What docs/admins.md tells site admins to do does what it says."""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests import snippets

pytestmark = pytest.mark.slurm

BOOT, PROLOG, EPILOG = (snippet.text for snippet in snippets.of("sh node"))
TASK_PROLOG = next(snippet.text for snippet in snippets.of("sh", "admins.md") if "id -u" in snippet.text)
NODES = ("node1", "node2")

LISTEN = """
import socket, sys
with socket.create_server(("", int(sys.argv[1]))) as server:
    print("listening", flush=True)
    while True:
        with server.accept()[0] as client:
            client.sendall(b"hello")
"""
CONNECT = """
import socket, sys
try:
    with socket.create_connection(("node1", int(sys.argv[1])), timeout=5) as client:
        print(client.recv(5).decode())
except ConnectionRefusedError:
    print("refused")
"""


class Sandbox(Protocol):
    """What these tests need of a cluster."""

    shared: Path

    def run(
        self, *argv: str, user: str = ..., node: str | None = ..., timeout: float = ..., check: bool = ...
    ) -> Any: ...


def on(sandbox: Sandbox, node: str, script: str, check: bool = True) -> Any:
    """Run a shell script as root on a node."""
    return sandbox.run("sh", "-ec", script, user="root", node=node, check=check)


@pytest.fixture
def firewall(sandbox: Sandbox, iptables: None) -> Iterator[Sandbox]:  # noqa: ARG001 - required
    """Set up what each node has from its boot on."""
    for node in NODES:
        on(sandbox, node, BOOT)
    yield sandbox
    for node in NODES:
        on(sandbox, node, "iptables -w -F OUTPUT; iptables -w -F SLURM_TF; iptables -w -X SLURM_TF")


def user_id(sandbox: Sandbox, user: str) -> int:
    return int(sandbox.run("id", "-u", user=user).stdout)


@pytest.fixture
def listen(sandbox: Sandbox) -> Iterator[Callable[[int], None]]:
    """Listen on a port of node1 as alice, in a job."""
    jobs = []

    def start(port: int) -> None:
        text = f"exec python3 -c {shlex.quote(LISTEN)} {port}"
        done = sandbox.run("sbatch", "--parsable", "-wnode1", "--output=/dev/null", f"--wrap={text}")
        jobs.append(done.stdout.strip())
        on(
            sandbox,
            "node1",
            f"for _ in $(seq 100); do ss -Hltn sport = :{port} | grep -q . && exit; sleep 0.1; done; exit 1",
        )

    yield start
    for job in jobs:
        sandbox.run("scancel", job)


def test_only_the_jobs_user_reaches_its_ports(firewall: Sandbox, listen: Callable[[int], None]) -> None:
    alice = user_id(firewall, "alice")
    low = 20000 + alice % 200 * 50
    listen(low)

    def reached() -> dict[str, str]:
        return {
            f"{user} on {node}": firewall.run("python3", "-c", CONNECT, str(low), user=user, node=node).stdout.strip()
            for user in ("alice", "bob")
            for node in NODES
        }

    def each_node(script: str, job: int) -> None:
        for node in NODES:
            on(firewall, node, f"export SLURM_JOB_UID={alice} SLURM_JOB_ID={job}; {script}")

    closed = {"alice on node1": "refused", "alice on node2": "refused"}
    opened = {"alice on node1": "hello", "alice on node2": "hello"}
    bob = {"bob on node1": "refused", "bob on node2": "refused"}
    assert reached() == {**closed, **bob}
    each_node(PROLOG, 1)
    each_node(PROLOG, 2)
    assert reached() == {**opened, **bob}
    each_node(EPILOG, 1)
    assert reached() == {**opened, **bob}
    each_node(EPILOG, 2)
    assert reached() == {**closed, **bob}


def test_the_task_prolog_gives_each_user_ports_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("#!/bin/sh\necho $SLURM_TF_PORTS\n")
    script = TASK_PROLOG.replace("/etc/slurm/slurm-tf-task-prolog", f"sh {tmp_path}/ours").replace("$(id -u)", "2001")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "export SLURM_TF_PORTS=20050-20099\n20050-20099\n"
