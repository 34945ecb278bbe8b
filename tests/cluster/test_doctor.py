"""The doctor on a real Slurm: all is good at first, then one thing after the other is broken, and each is named."""

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests import container_image
from tests.cluster.group import SLURM_TF, Member
from tests.conftest import RECORDED
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import USER_IDS, Shape, address

pytestmark = pytest.mark.slurm

SITE = """\
inherit = "generic"
node-python = "{python}"
ports = "20000-20999"
prologue = '''
{prologue}
'''
"""
# A Python that is another one on node2, where {change} runs before the launcher does.
PYTHON = """\
#!/bin/sh
if [ "$(hostname)" = node2 ] && [ "$1" = -IS ]; then
  exec /usr/bin/python3 -IS -c 'import runpy, sys, time
sys.argv = sys.argv[2:]
{change}
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
fi
exec /usr/bin/python3 "$@"
"""
JOB = """\
name = "a"
strategy = "multi_worker"
command = ["python3", "train.py"]
setup = 'export PATH="{folder}/bin:$PATH"'
[roles.worker]
count = 2
gpus-per-task = 2
"""
SCONTROL = """\
#!/bin/sh
echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
exit 1
"""
# nobody can ask for a quota here, and this Python has no TensorFlow; on a busy machine the answer of a clock comes late
UNKNOWN = {"quota", "tensorflow", "clock"}

Found = dict[str, tuple[str, str]]


CONTAINER = """\
[container]
runtime = "charliecloud"
command = ["{folder}/ch-run"]
"""


def site(member: Member, python: str = "/usr/bin/python3", prologue: str = "", more: str = "") -> None:
    member.write("site.toml", SITE.format(python=python, prologue=prologue) + more)


def script(member: Member, name: str, text: str) -> str:
    """Write a program; return its path."""
    path = member.folder / member.write(name, text)
    path.chmod(0o755)
    return str(path)


def examine(member: Member, *words: str, environ: Mapping[str, str] = {}) -> tuple[int, Found]:
    """Return the exit code, and of what is not good, besides what is never known here, (state, where) by check."""
    done = member.type("doctor", "--nodes", "--site=./site.toml", "--json", *words, timeout=150, environ=environ)
    assert done.stdout, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert all(row["needed"] and row["do"] for row in rows if row["state"] in ("warning", "error")), rows
    bad = [row for row in rows if row["state"] != "ok" and not (row["state"] == "unknown" and row["check"] in UNKNOWN)]
    return done.returncode, {row["check"]: (row["state"], row["where"]) for row in bad}


@contextmanager
def typed_as_root(sandbox: Sandbox, node: str | None, do: str, undo: str) -> Iterator[None]:
    sandbox.run(*shlex.split(do), user="root", node=node)
    try:
        yield
    finally:
        sandbox.run(*shlex.split(undo), user="root", node=node)


@pytest.fixture
def on_node2(sandbox: Sandbox) -> Callable[..., Any]:
    return lambda do, undo: typed_as_root(sandbox, "node2", do, undo)


def test_a_good_cluster_then_three_things_that_are_wrong(alice: Member, on_node2: Callable[..., Any]) -> None:
    script(alice, "ch-run", "#!/bin/sh\necho 0.31 >&2\n")
    site(alice, more=CONTAINER.format(folder=alice.folder))
    assert examine(alice) == (0, {})
    hosts = alice.folder / alice.write("hosts", "127.0.0.1 localhost\n127.0.1.1 node2\n")
    node1, ctl = address("node1"), address("ctl")
    hosts.write_text(f"{hosts.read_text()}{node1} node1\n{ctl} ctl\n")
    with (
        on_node2(f"mount --bind {hosts} /etc/hosts", "umount /etc/hosts"),
        on_node2("mount -t tmpfs -o size=8m,mode=1777 tmpfs /dev/shm", "umount /dev/shm"),
    ):
        site(alice, prologue="export http_proxy=http://proxy:3128")
        code, found = examine(alice)
    assert (code, found) == (
        0,
        {
            "host-names": ("warning", "node2"),
            "shm": ("warning", "node2"),
            "proxies": ("warning", "node[1-2]"),
        },
    )
    assert not list((alice.folder / "runs").iterdir())


@pytest.mark.long
@pytest.mark.parametrize(
    ("prologue", "expected"),
    [
        pytest.param("ulimit -n 200", {"open-files": ("error", "node[1-2]")}, id="open-files"),
        pytest.param('export PATH="{folder}/bin:$PATH"', {"scontrol": ("error", "node1")}, id="scontrol"),
        pytest.param("no-such-command", {"job": ("error", "node[1-2]")}, id="prologue"),
    ],
)
def test_what_the_job_does_before_its_program(prologue: str, expected: Found, alice: Member) -> None:
    alice.run("mkdir", "bin")
    script(alice, "bin/scontrol", SCONTROL)
    site(alice, prologue=prologue.format(folder=alice.folder))
    assert examine(alice) == (1, expected)


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        pytest.param(
            "real = time.time; time.time = lambda: real() + 90", 0, {"clock": ("warning", "node2")}, id="clock"
        ),
        pytest.param(
            'sys.version_info = (3, 8, 10); sys.version = "3.8.10"', 1, {"node-python": ("error", "node2")}, id="python"
        ),
    ],
)
def test_a_python_that_is_another_one_on_a_node(change: str, code: int, expected: Found, alice: Member) -> None:
    site(alice, script(alice, "python3", PYTHON.format(change=change)))
    assert examine(alice) == (code, expected)


@pytest.mark.long
def test_a_node_that_does_not_share_the_folder(alice: Member, on_node2: Callable[..., Any], sandbox: Sandbox) -> None:
    site(alice)
    alice.run("mkdir", "-m", "0700", "runs")
    owner = f"uid={USER_IDS['alice']},mode=700"
    with on_node2(f"mount -t tmpfs -o {owner} tmpfs {alice.folder}/runs", f"umount {alice.folder}/runs"):
        assert examine(alice) == (1, {"shared-folder": ("error", "node2")})
    # the batch host, which cannot even write the job's output there
    with typed_as_root(
        sandbox, "node1", f"mount -t tmpfs -o {owner} tmpfs {alice.folder}/runs", f"umount {alice.folder}/runs"
    ):
        code, found = examine(alice)
    assert (code, set(found)) == (1, {"shared-folder"})


@pytest.mark.long
@pytest.mark.usefixtures("iptables")
def test_a_firewall_between_nodes(alice: Member, on_node2: Callable[..., Any]) -> None:
    site(alice)
    rule = f"INPUT -s {address('node1')} -p tcp --syn --dport 20000:20999 -j DROP"
    with on_node2(f"iptables -w -A {rule}", f"iptables -w -D {rule}"):
        assert examine(alice) == (1, {"ports": ("error", "node1")})


@pytest.mark.long
def test_gpus_and_tensorflow_of_a_job_file(alice: Member) -> None:
    site(alice)
    alice.run("mkdir", "bin")
    # a TensorFlow that sees one GPU of two, and a driver that is older than its CUDA
    script(alice, "bin/python3", """#!/bin/sh\necho '["2.21.0", 1.5, 1, "12.5.1"]'\n""")
    script(alice, "bin/nvidia-smi", f"#!/bin/sh\nexec cat {RECORDED}/nvidia-smi/450.57.txt\n")
    alice.write("a.toml", JOB.format(folder=alice.folder))
    code, found = examine(alice, "a.toml")
    assert (code, found) == (1, dict.fromkeys(("tensorflow-gpus", "cuda"), ("error", "node[1-2]")))


@pytest.mark.long
def test_little_room_for_runs(alice: Member, sandbox: Sandbox) -> None:
    site(alice)
    alice.run("mkdir", "-m", "0700", "runs")
    mount = f"mount -t tmpfs -o size=16m,uid={USER_IDS['alice']},mode=700 tmpfs {alice.folder}/runs"
    with typed_as_root(sandbox, None, mount, f"umount {alice.folder}/runs"):
        done = alice.type("doctor", "--site=./site.toml", "--json")
    assert done.returncode == 1
    bad = {row["check"]: row["state"] for row in json.loads(done.stdout) if row["state"] != "ok"}
    assert bad == {"shared-folder": "error", "quota": "unknown"}


@pytest.mark.long
def test_accounting_that_is_down(start: Callable[[Shape], Sandbox]) -> None:
    sandbox = start(Shape(nodes=2))
    alice = Member(sandbox, "alice", sandbox.shared / "alice")
    site(alice)
    sandbox.run("kill", sandbox.run("pidof", "slurmdbd", user="root").stdout.strip(), user="root")
    code, found = examine(alice)
    assert code == 1
    assert {check for check, (state, _) in found.items() if state == "error"} == {"accounting"}
    assert {check for check, (state, _) in found.items() if state == "unknown"} <= {"account", "preemption"}


@pytest.mark.long
def test_a_job_that_does_not_start_is_cancelled(alice: Member, sandbox: Sandbox) -> None:
    site(alice)
    code, found = examine(alice, "--begin=now+1hour", "--timeout=0")
    assert (code, found) == (0, {"job": ("unknown", "")})
    # and by Ctrl-C
    process = sandbox.popen(
        *SLURM_TF, "doctor", "--nodes", "--site=./site.toml", "--begin=now+1hour",
        user="alice", cwd=alice.folder, env=alice.environ(), stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Submitted batch job ")
    assert "is pending: it may not start before its begin time" in process.stderr.readline()
    process.send_signal(2)
    assert process.wait(60) == 130
    deadline = time.monotonic() + 60
    while alice.run("squeue", "--noheader", "--me", "--states=PENDING"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not list((alice.folder / "runs").iterdir())


@pytest.mark.long
def test_containers_of_a_job_file(alice: Member) -> None:
    container_image.require()
    site(alice, more='[container]\nruntime = "charliecloud"\n')
    job = JOB.format(folder=alice.folder).replace("gpus-per-task = 2\n", "") + "[container]\nimage = '{image}'\n"
    alice.write("a.toml", job.format(image=container_image.squashfs()))
    assert examine(alice, "a.toml") == (0, {})
    alice.write("a.toml", job.format(image=container_image.bundle()) + "mounts = ['/no/such:/mnt']\n")
    bad = ("error", "node[1-2]")
    assert examine(alice, "a.toml") == (1, {"image": bad, "container-mounts": bad})
