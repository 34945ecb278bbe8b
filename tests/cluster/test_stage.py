"""Staging on a real Slurm: once on each node, kept between attempts on a node, gone with the run."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_tf.launch.staging.stage_folder import StageFolder
from tests.cluster.group import Member
from tests.cluster.test_interruptions import Run, preempt
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

MIB = 1 << 20
# An agent reads each file once from shared storage, and its copy once; it reads little else.
SIZE = 24 * MIB
# The first task of each node says what its agent has read, and what is there.
PROGRAM = (
    'echo "$SLURMD_NODENAME read $(sed -n "s/rchar: //p" /proc/$PPID/io) sum $(cat $SLURM_TF_STAGE_FOLDER/clicks/* '
    '| sha256sum | cut -c 1-8) in $SLURM_TF_STAGE_FOLDER"; trap "exit 0" USR1; echo ready; '
    "test $SLURM_RESTART_COUNT = 2 || while sleep 0.1; do :; done"
)
JOB = """name = "a"
strategy = "multi_worker"
join = "optional"
command = ["bash", "read.sh"]
[roles.worker]
count = {count}
ntasks-per-node = {per_node}
[checkpoint]
signal = "USR1"
[stage]
paths = ["clicks"]
{more}
"""


def prepare(member: Member, count: int = 4, per_node: int = 2, more: str = "", program: str = PROGRAM) -> None:
    member.run("mkdir", "clicks")
    member.write("read.sh", program)
    for number in range(3):
        path = member.folder / "clicks" / f"train-{number:05}-of-00003.tfrecord"
        path.write_bytes(bytes([number]) * (SIZE // 3))
    member.write("a.toml", JOB.format(count=count, per_node=per_node, more=more))


class StagedRun(Run):
    """A run of a job that stages."""

    def __init__(self, member: Member, *words: str) -> None:
        self.member, self.folder = member, member.folder / "runs" / "a-1"
        self.job = member.submit("a.toml", *words)

    def rows(self) -> list[tuple[str, int, str]]:
        """Return what each task has said: node, bytes that its agent had read, its folder."""
        found = re.findall(r"^\[worker:\d\] (\w+) read (\d+) sum \w{8} in (\S+)$", self.printed, re.MULTILINE)
        return [(node, int(size), folder) for node, size, folder in found]


def on_node(sandbox: Sandbox, node: str, *argv: str) -> str:
    return sandbox.run(*argv, user="root", node=node, check=False).stdout


def scratch(sandbox: Sandbox, node: str) -> list[str]:
    """Return the runs that have something staged on a node."""
    return on_node(sandbox, node, "sh", "-c", "ls /tmp/slurm-tf-*/").split()


def test_staged_once_a_node_kept_on_it_copied_to_another_and_removed_at_the_end(
    alice: Member, sandbox: Sandbox
) -> None:
    prepare(alice)
    run = StagedRun(alice, "--nodelist=node1,node2")
    run.wait_for(r"\] ready", 4)
    first = run.rows()
    assert {node for node, *_ in first} == {"node1", "node2"}
    for node in ("node1", "node2"):
        low, high = sorted(size for each, size, _ in first if each == node)
        assert high >= 2 * SIZE  # the source, then the copy
        assert low < SIZE / 2, low  # the other task of the node copies nothing
    assert "staging 3 files, 24.0 MiB, on 2 nodes" in run.printed
    assert "on 2 nodes: copied 48.0 MiB, kept 0 B of an earlier attempt" in run.printed
    alice.ok("interrupt", "a-1")
    run.start_again()
    run.wait_for(r"\] ready", 8)
    assert "copied 0 B, kept 48.0 MiB of an earlier attempt" in run.printed
    assert all(size < SIZE / 2 for _, size, _ in run.rows()[4:])
    alice.ok("interrupt", "a-1")
    run.wait_for_state("PENDING")
    alice.run("scontrol", "update", f"JobId={run.job}", "ReqNodeList=node2,node3")
    run.start_again()
    assert alice.type("wait", "a-1", timeout=60).returncode == 0, run.output
    assert "copied 24.0 MiB, kept 24.0 MiB of an earlier attempt" in run.printed
    assert len(set(re.findall(r" sum (\w{8}) ", run.printed))) == 1
    # the end of the run removes it where it ran last; where it was before, the run's next end there
    assert [len(scratch(sandbox, node)) for node in ("node1", "node2", "node3")] == [1, 0, 0]
    assert not (run.folder / "stage").exists()


@pytest.fixture
def small_scratch(alice: Member, sandbox: Sandbox) -> Iterator[str]:
    """Return options for a site whose scratch holds 4 MiB on node1, and all that is needed on node2."""
    path = "/run/node/small"
    alice.write("small.toml", f"inherit = 'generic'\nscratch = '{path}'\n")
    for node, options in (("node1", "size=4M,mode=1777"), ("node2", "mode=1777")):
        sandbox.run("mkdir", path, user="root", node=node)
        sandbox.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", path, user="root", node=node)
    yield "./small.toml"
    for node in ("node1", "node2"):
        sandbox.run("umount", "--lazy", path, user="root", node=node)
        sandbox.run("rmdir", path, user="root", node=node)


ONCE = PROGRAM.partition("; trap")[0]


def test_a_full_scratch_ends_the_job_or_its_tasks_read_from_shared_storage(alice: Member, small_scratch: str) -> None:
    prepare(alice, count=2, per_node=1, program=ONCE)
    words = ("--nodelist=node1,node2", "--site", small_scratch)
    run = StagedRun(alice, *words)
    assert alice.type("wait", "a-1", timeout=60).returncode == 73, run.output
    error = "node1: found 4.0 MiB free in /run/node/small/slurm-tf-"
    assert f"slurm-tf: the job failed: {error}" in run.printed
    assert "; needed 24.0 MiB for the files of [stage]\nHINT: fewer paths" in run.printed
    assert not run.rows()
    assert error in alice.ok("status", "a-1")
    alice.submit("a.toml", *words, "--name=b-1", "--set=stage.optional=true")
    assert alice.type("wait", "b-1", timeout=60).returncode == 0
    run.folder = alice.folder / "runs" / "b-1"
    assert run.printed.count("its tasks read the files of [stage] from shared storage\n") == 1
    assert error.removeprefix("slurm-tf: ") in run.printed
    folders = {node: folder for node, _, folder in run.rows()}
    assert folders["node1"] == str(run.folder / "stage")
    assert folders["node2"].startswith("/run/node/small/slurm-tf-")
    assert len(set(re.findall(r" sum (\w{8}) ", run.printed))) == 1


HOLDS = """
import fcntl, os, sys, time
os.makedirs(sys.argv[1], 0o700)
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1000)
"""


@contextlib.contextmanager
def held(alice: Member) -> Iterator[str]:
    """Have another process hold the folder of the run a-1 on node1, so that no copy begins there; give the folder."""
    folder = StageFolder("/tmp", str(alice.folder / "runs" / "a-1"))
    user = str(alice.folder.stat().st_uid)
    path = str(Path(folder.copies).parent).replace(f"slurm-tf-{os.getuid()}", f"slurm-tf-{user}")
    alice.sandbox.run("mkdir", "-p", "-m", "0700", os.path.dirname(path), user="alice", node="node1")
    holder = alice.sandbox.popen("python3", "-c", HOLDS, path, user="alice", node="node1", stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        yield path
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.long
def test_a_job_that_is_preempted_while_it_copies_ends_at_once_and_copies_in_the_next_attempt(
    alice: Member, sandbox: Sandbox
) -> None:
    prepare(alice, count=2, per_node=1, program=ONCE)
    with held(alice) as path:
        run = StagedRun(alice, "--nodelist=node1,node2", "--qos=scavenge")
        words = "staging 24.0 MiB of 48.0 MiB, 1 of 2 nodes done"
        linux.wait_until("the status says so", lambda: words in alice.ok("status", "a-1"), 60)
        assert alice.status("a-1")[0]["staging"]["nodes"] == 1
        began = time.monotonic()
        preempt(sandbox)
        run.wait_for_state("PENDING")
        assert time.monotonic() - began < 30
    run.start_again()
    assert alice.type("wait", "a-1", timeout=60).returncode == 0, run.output
    assert "copied 24.0 MiB, kept 24.0 MiB of an earlier attempt" in run.printed
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
    assert not [each for node in ("node1", "node2") for each in scratch(sandbox, node) if each in path]


@pytest.mark.long
def test_a_time_limit_while_it_copies_is_followed_by_an_attempt_that_copies_the_rest(alice: Member) -> None:
    """Its program cannot save, so a time limit in training would end the run."""
    prepare(alice, count=2, per_node=1, program=ONCE)
    alice.write("a.toml", (alice.folder / "a.toml").read_text().replace('[checkpoint]\nsignal = "USR1"\n', ""))
    with held(alice):
        run = StagedRun(alice, "--nodelist=node1,node2", "--time=1")
        # the warning; if Slurm sends it before the copies have begun, the end
        words = r"timeout: .* got SIG(USR1|TERM) while files were staged; job \d+ waits to be started again\n"
        run.wait_for(words, timeout=150)
        run.wait_for_state("PENDING")
    run.start_again()
    assert alice.type("wait", "a-1", timeout=60).returncode == 0, run.output
    assert "copied 24.0 MiB, kept 24.0 MiB of an earlier attempt" in run.printed
    assert [(row["cause"], row["only_staged"]) for row in run.attempts()] == [("timeout", True), ("", False)]


@pytest.mark.long
def test_two_jobs_on_one_node_share_nothing_and_a_cancel_removes_what_is_staged(
    alice: Member, sandbox: Sandbox
) -> None:
    prepare(alice, count=1, per_node=1, program=f"{ONCE}; echo ready; sleep 300")
    first = StagedRun(alice, "--nodelist=node1")
    second = StagedRun(alice, "--nodelist=node1", "--name=b-1")
    second.folder = alice.folder / "runs" / "b-1"
    for run in (first, second):
        run.wait_for(r"\] ready")
    folders = [run.rows()[0][2] for run in (first, second)]
    assert len(set(folders)) == 2
    alice.ok("cancel", "a-1")
    assert alice.type("wait", "a-1", timeout=60).returncode
    assert on_node(sandbox, "node1", "sh", "-c", f"ls -d {folders[0]} {folders[1]}").split() == [folders[1]]
    alice.run("scancel", second.job)
    assert alice.type("wait", "b-1", timeout=60).returncode
    assert not on_node(sandbox, "node1", "sh", "-c", f"ls -d {folders[1]}")


SERVED = """name = "a"
strategy = "ps"
join = "optional"
command = ["bash", "read.sh"]
[roles.chief]
mem = "500M"
[roles.worker]
mem = "500M"
[roles.ps]
partition = "cpu"
mem = "500M"
[stage]
paths = ["clicks"]
"""


@pytest.mark.long
def test_a_node_of_parameter_servers_alone_copies_nothing(alice: Member) -> None:
    # the chief ends the others
    prepare(alice, program=f"{ONCE}; case $SLURM_TF_TASK in chief*) sleep 3;; *) sleep 300;; esac")
    alice.write("a.toml", SERVED)
    run = StagedRun(alice)
    assert alice.type("wait", "a-1", timeout=90).returncode == 0, run.output
    said = re.findall(r"^\[(\w+):0\] (\w+) read (\d+) sum (\w{8}) in (\S+)$", run.printed, re.MULTILINE)
    nodes = {role: node for role, node, *_ in said}
    assert set(nodes) == {"chief", "worker", "ps"}
    assert nodes["ps"] not in (nodes["chief"], nodes["worker"])
    assert f"on {len(set(nodes.values())) - 1} node" in run.printed
    folders = {role: folder for role, *_, folder in said}
    assert folders["ps"] == str(run.folder / "stage")
    assert folders["worker"].startswith("/tmp/slurm-tf-")
    ((_, _, read, *_),) = [each for each in said if each[0] == "ps"]
    assert int(read) < SIZE / 2
    assert len({each[3] for each in said}) == 1


def read_by_file_system(sandbox: Sandbox, node: str) -> int:
    """Return the bytes that a node's mount of the shared storage has read there: those of its FUSE daemon."""
    text = on_node(sandbox, node, "sh", "-c", "cat /proc/$(pgrep -xo bindfs)/io")
    return int(re.findall(r"^rchar: (\d+)", text, re.MULTILINE)[0])


@pytest.mark.long
def test_what_the_file_system_reads_once_a_node_and_not_again(start: Callable[[Shape], Sandbox]) -> None:
    sandbox = start(Shape(nodes=2, fuse=True))
    alice = Member(sandbox, "alice", sandbox.shared / "alice")
    # three epochs on each of the four tasks would read 12 times the size
    three = ONCE.replace("$SLURM_TF_STAGE_FOLDER/clicks/*", " ".join(["$SLURM_TF_STAGE_FOLDER/clicks/*"] * 3))
    prepare(alice, program=three + '; test "$SLURM_RESTART_COUNT" || sleep 300')
    before = {node: read_by_file_system(sandbox, node) for node in sandbox.shape.names}
    run = StagedRun(alice)
    linux.wait_until("all have read", lambda: len(run.rows()) == 4, 60)
    staged = {node: read_by_file_system(sandbox, node) - before[node] for node in before}
    print(f"read from shared storage in the first attempt: {staged}")
    assert all(SIZE <= size < 1.5 * SIZE for size in staged.values()), staged
    alice.ok("interrupt", "a-1")
    run.start_again()
    assert alice.type("wait", "a-1", timeout=90).returncode == 0, run.output
    again = {node: read_by_file_system(sandbox, node) - before[node] - staged[node] for node in before}
    print(f"in the second attempt, on the same nodes: {again}")
    assert all(size < SIZE / 2 for size in again.values()), again
