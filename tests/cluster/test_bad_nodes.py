"""Nodes that fail under a run, on a real Slurm: its next attempt does without them, and goes on."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.group import Member
from tests.cluster.test_interruptions import ENDS, JOB, SAYS, SPEAKS, Run
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

# before or after the job has put itself back, or Slurm has
WITHOUT = "(is to start|waits to be started again,) without "


class Training(Run):
    """A run that saves each second step, and is tried again at once."""

    def __init__(self, member: Member, *words: str, count: int = 2) -> None:
        text = JOB.format(program=SPEAKS, total=0, more="", tables="[retry]\nwait = 0")
        text = text.replace('"1000000"', '"2"').replace("count = 2", f"count = {count}")
        self.member = member
        self.job = member.submit(member.write("a.toml", text), *words)
        self.folder = member.folder / "runs" / "a-1"


def node_of(run: Run, task: str = "worker:1") -> str:
    run.wait_for(r"\[worker:0\] trains")
    (point,) = run.member.status("a-1")
    return str(point["tasks"][task]["node"])


def fail(run: Run, node: str) -> None:
    """Have a node fail, but for the node."""
    run.member.ok("interrupt", "a-1", "--as=node-failure", "--role=worker", "--index=1")
    run.wait_for(f"{node} is a bad node: its failure was injected")


def excluded(run: Run, job: str = "") -> str:
    return run.member.run("squeue", "--noheader", "--states=all", f"--jobs={job or run.job}", "--format=%x").strip()


def check_done_without(run: Run, node: str, reason: str) -> None:
    """The run ends well, on other nodes; whoever looks is told why."""
    assert run.member.type("wait", "a-1", timeout=120).returncode == 0, run.output
    (point,) = run.member.status("a-1")
    assert node not in {task["node"] for task in point["tasks"].values()}
    assert point["bad_nodes"][node]["reason"] == reason
    assert len(point["attempts"]) == 2
    text = run.member.ok("status", "a-1")
    assert f"\nBad node    {node}  {reason}, " in text
    assert json.loads(run.member.ok("describe", "a-1"))["points"][0]["bad_nodes"] == point["bad_nodes"]


@pytest.fixture
def drained(sandbox: Sandbox) -> Iterator[list[str]]:
    """Nodes that a test has drained: they are resumed."""
    nodes: list[str] = []
    yield nodes
    for node in nodes:
        sandbox.run("scontrol", "update", f"NodeName={node}", "State=resume", user="root", check=False)


def test_a_job_that_waits_again_leaves_a_failed_node_out(alice: Member) -> None:
    run = Training(alice, "--exclude=node4")
    after = alice.run("sbatch", "--parsable", f"--dependency=afterok:{run.job}", "--wrap=true").strip()
    node = node_of(run)
    fail(run, node)
    run.wait_for(f"job {run.job} waits to be started again, without {node}")
    assert set(excluded(run)) >= set("node[,4]")
    run.start_again()
    check_done_without(run, node, "its failure was injected")
    # the user's own, as before
    (point,) = alice.status("a-1")
    assert "node4" not in {task["node"] for task in point["tasks"].values()}
    # what waits for the job waits for its last incarnation
    assert alice.sacct(after) == ["COMPLETED"]
    starts, ends = (seconds(alice, job, what) for job, what in ((after, "Start"), (run.job, "End")))
    assert starts >= ends


def seconds(member: Member, job: str, what: str) -> int:
    return int(member.run("sacct", "-nPX", "-j", job, "-o", what, environ={"SLURM_TIME_FORMAT": "%s"}).strip())


def test_a_job_that_follows_leaves_it_out_and_others_wait_for_it(alice: Member) -> None:
    run = Training(alice, "--exclude=node4")
    others = [
        alice.run("sbatch", "--parsable", f"--dependency={kind}:{run.job}", "--wrap=true").strip()
        for kind in ("afterok", "afterany")
    ]
    node = node_of(run)
    alice.run("scontrol", "update", f"JobId={run.job}", "Requeue=0")
    fail(run, node)
    run.wait_for(
        rf"follows job {run.job}; job {others[0]} waits now for job \d+, not for job {run.job}; job {others[1]} "
    )
    check_done_without(run, node, "its failure was injected")
    (point,) = alice.status("a-1")
    assert point["job"] != run.job
    assert {task["node"] for task in point["tasks"].values()}.isdisjoint({node, "node4"})
    # who comes later and asks for the first job, or for the run, gets the one that goes on with it
    for asked in (run.job, "a-1"):
        script = alice.ok("submit", "a.toml", "--name=b", "--dry-run", f"--dependency=afterok:{asked}")
        assert f"#SBATCH --dependency=afterok:{point['job']}\n" in script
    for other in others:
        assert alice.sacct(other) == ["COMPLETED"]
        assert seconds(alice, other, "Start") >= seconds(alice, point["job"], "End")


def test_a_node_that_is_drained_meanwhile_is_left_out(alice: Member, sandbox: Sandbox, drained: list[str]) -> None:
    run = Training(alice)
    node = node_of(run)
    drained.append(node)
    sandbox.run("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=fan is | broken", user="root")
    alice.ok("interrupt", "a-1", "--as=preemption")
    run.wait_for(WITHOUT + node)
    run.wait_for_state("PENDING")
    # it is our word, not Slurm's, that keeps the job away from it
    sandbox.run("scontrol", "update", f"NodeName={node}", "State=resume", user="root")
    run.start_again()
    check_done_without(run, node, "draining: fan is | broken")


@pytest.mark.timeout(300)
@pytest.mark.long  # a failed node is left out above, one that the job needs is used again below
def test_a_node_that_dies_and_comes_back_is_left_out(alice: Member, sandbox: Sandbox) -> None:
    run = Training(alice)
    node = node_of(run)
    sandbox.stop_node(node)
    try:
        run.wait_for(WITHOUT + node, timeout=120)
    finally:
        sandbox.start_node(node)
    deadline = time.monotonic() + 60
    while alice.run("sinfo", "--noheader", f"--nodes={node}", "--format=%T").split()[:1] != ["idle"]:
        assert time.monotonic() < deadline, alice.run("sinfo")
        time.sleep(0.3)
    run.start_again()
    (reason,) = (found["reason"] for found in alice.status("a-1")[0]["bad_nodes"].values())
    assert reason in ("its task was lost, and it does not answer", "not responding", "down: Not responding")
    check_done_without(run, node, reason)


def test_a_node_that_the_job_needs_is_used_again(alice: Member) -> None:
    run = Training(alice, count=4)
    node = node_of(run)
    fail(run, node)
    words = "without it the job could not start (allocation failure: Requested node configuration is not available)"
    run.wait_for(f"{node} may be used again: ")
    assert f"{node} may be used again: {words}" in run.output
    assert excluded(run) == ""
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    # it is kept in mind
    assert list(alice.status("a-1")[0]["bad_nodes"]) == [node]


HANGS = (
    'echo "start $SLURM_TF_RESTARTS on $SLURMD_NODENAME"; test "$SLURM_RESTART_COUNT" && exit 0; '
    'say "{\\"type\\": \\"CheckpointCommitted\\", \\"step\\": 5}"; '
    'say "{\\"type\\": \\"PhaseEntered\\", \\"phase\\": \\"train\\"}"; exec sleep 1000'
)


def test_a_node_on_which_a_task_hangs_twice_is_left_out(alice: Member) -> None:
    run = Training.__new__(Training)
    run.member, run.folder = alice, alice.folder / "runs" / "a-1"
    limits = '[watch]\nstep = "0:02"\n[launch]\nmax-restarts = 1\n'
    run.job = alice.submit(alice.write("a.toml", ENDS.format(program=SAYS + HANGS) + limits))
    run.wait_for("start 1 on ")
    node = run.output.partition("start 1 on ")[2].split()[0]
    run.wait_for(WITHOUT + node)
    run.start_again()
    check_done_without(run, node, "tasks hung there twice, the last time worker:0")
    assert run.output.count("worker:0 makes no progress for 2 s in phase train: it is killed") == 2
