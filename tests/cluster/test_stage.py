"""Staging on a real Slurm: once on each node, kept between attempts on a node, gone with the run."""

import re

import pytest

from tests.cluster.group import Member
from tests.cluster.test_interruptions import Run
from tests.sandbox.cluster import Sandbox

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
