"""Two users on the same nodes at the same time."""

import re
import sys
import time
from collections.abc import Callable

import pytest

from tests.cluster.group import Member
from tests.sandbox.shape import address

pytestmark = pytest.mark.slurm

JOB = (
    'name = "{name}"\nstrategy = "multi_worker"\njoin = "optional"\ncommand = ["bash", "-c", \'{program}\']\n'
    "[roles.worker]\ncount = 2\nntasks-per-node = 1\n[env]\nTOKEN = 's3cret-of-alice'\n"
)
# What a task of TensorFlow does with its port, without the time that its import takes.
SERVE = (
    "import json, os, socket; place = json.loads(os.environ['TF_CONFIG']); "
    "port = int(place['cluster']['worker'][place['task']['index']].rpartition(':')[2]); "
    "server = socket.create_server(('', port), reuse_port=False); print('serving', port, flush=True)\n"
    "while True:\n    server.accept()[0].sendall(b'hello')"
)
CONNECT = (
    "import socket, sys\n"
    "with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as line: print(line.recv(9).decode())"
)


def test_another_user_on_the_same_nodes(alice: Member, member: Callable[[str], Member]) -> None:
    bob = member("bob")
    alice.write("serve.py", SERVE)
    alice.submit(alice.write("a.toml", JOB.format(name="a", program="python serve.py")), "--nodelist=node1,node2")
    bob.submit(bob.write("b.toml", JOB.format(name="b", program="sleep 300")), "--nodelist=node1,node2")
    for user, run in ((alice, "a-1"), (bob, "b-1")):
        tasks = user.wait_for(run, "state", "RUNNING")["tasks"]
        deadline = time.monotonic() + 30
        # none is known before the first has registered
        while [task["state"] for task in tasks.values()] != ["running", "running"]:
            assert time.monotonic() < deadline
            tasks = user.status(run)[0]["tasks"]
        assert {task["node"] for task in tasks.values()} == {"node1", "node2"}
    sandbox = alice.sandbox
    # what alice's processes know: nobody else reads their environment, and no command line holds it
    seen = sandbox.run("ps", "-eo", "user:20,pid,args", user="bob", node="node1").stdout
    agents = [line.split(None, 2) for line in seen.splitlines() if line.startswith("alice") and "launch.pyz" in line]
    assert agents
    assert not any(word in seen for word in ("SLURM_TF_SECRET", "s3cret-of-alice"))
    for _, pid, _ in agents:
        done = sandbox.run("cat", f"/proc/{pid}/environ", user="bob", node="node1", check=False)
        assert "Permission denied" in done.stderr
    # the coordinator's port: who does not know the secret is refused, and alice is told
    (coordinator,) = {line[1] for line in agents if " coordinate " in line[2]} or {""}
    listening = sandbox.run("ss", "-Hltnp", user="root", node="node1").stdout
    ports = re.findall(rf":(\d+) .*pid={coordinator},", listening)
    assert coordinator
    assert ports, listening
    stranger = {
        **bob.environ(), "SLURM_TF_COORDINATOR": f"{address('node1')}:{ports[0]}", "SLURM_TF_SECRET": "00" * 32,
        "SLURM_TF_REGISTER_TIMEOUT": "3", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "slurm_tf.launch", "agent"]
    refused = sandbox.run(*command, user="bob", node="node2", env=stranger, check=False)
    assert refused.returncode == 75, refused.stderr
    assert "it ended the connection during the proof of the secret" in refused.stderr
    assert f"refused a connection from {address('node2')}" in alice.ok("logs", "a-1")
    # TensorFlow's own port authenticates nobody: docs/admins.md has the firewall rule, tests/cluster/test_admins.py
    # that it holds
    port = alice.ok("logs", "a-1", "--role", "worker", "--index", "1").split()[1]
    assert sandbox.run("python3", "-c", CONNECT, address("node2"), port, user="bob").stdout == "hello\n"
    assert alice.status("a-1")[0]["state"] == "RUNNING"
    assert {task["state"] for task in alice.status("a-1")[0]["tasks"].values()} == {"running"}


def test_what_is_advised_keeps_other_users_off_the_nodes(alice: Member, member: Callable[[str], Member]) -> None:
    text = JOB.format(name="a", program="sleep 300")
    name = alice.write("a.toml", text.replace("[env]", 'cpus-per-task = 2\nmem-per-cpu = "2G"\n[env]'))
    warned = alice.type("submit", name, "--hold").stderr
    (option,) = re.findall(r"who reaches a port of TensorFlow.* \((--\S+)\) keeps the nodes for your jobs", warned)
    assert "TensorFlow" not in alice.type("submit", name, "--hold").stderr, "it is said once"
    # each CPU of the nodes has 1 GB
    refused = alice.type("submit", name, "--exclusive")
    assert refused.returncode == 1
    assert f"HINT: with --exclusive, --mem-per-cpu counts for every CPU of a node: use {option}, " in refused.stderr
    alice.submit(name, option)
    nodes = alice.wait_for("a-3", "state", "RUNNING")["nodes"][0]
    bob = member("bob")
    command = ["srun", "--immediate=1", "--ntasks=1", f"--nodelist={nodes}", "--nodes=2", "--mem=10", "true"]
    assert "Unable to allocate resources" in bob.sandbox.run(*command, user="bob", check=False).stderr
