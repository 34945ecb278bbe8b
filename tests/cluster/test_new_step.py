"""Starting again in a new step, on a real Slurm: srun, its way to end a step, and nodes that are gone."""

import json
import re
import time

import pytest

from tests.cluster.group import Member

pytestmark = pytest.mark.slurm

# under ps all but the chief only serve, and are not to end by themselves
PROGRAM = (
    'echo "start $SLURM_TF_RESTARTS"; case $SLURM_TF_STRATEGY-$SLURM_TF_TASK-$SLURM_TF_RESTARTS in '
    "multi_worker-*-1 | ps-chief:0-1) ;; *) exec sleep 300;; esac"
)
HEAD = """name = "a"
strategy = "{strategy}"
join = "optional"
command = ["bash", "-c", '{program}']
[launch]
max-restarts = {budget}
register-timeout = "0:20"
"""
# srun ends the step of the first with the first dead agent (kill-on-bad-exit), and that of the second it does not
ROLES = {
    "multi_worker": "[roles.worker]\ncount = 3\nntasks-per-node = 1\n",
    "ps": "".join(f"[roles.{role}]\ncount = 1\nntasks-per-node = 1\n" for role in ("chief", "worker", "ps")),
}
VICTIMS = {"multi_worker": "worker:1", "ps": "ps:0"}


def submit(member: Member, strategy: str, budget: int, more: str = "") -> str:
    text = HEAD.format(strategy=strategy, program=PROGRAM, budget=budget) + ROLES[strategy] + more
    return member.submit(member.write("a.toml", text))


def started(member: Member, task: str) -> tuple[str, str]:
    """Wait until all tasks run; return the node and the process number of one's program."""
    deadline = time.monotonic() + 60
    while True:
        text = "".join(path.read_text() for path in member.folder.glob("runs/a-1/logs/slurm-*.out"))
        found = dict(re.findall(r"^slurm-tf: (\S+) started on (\S+ \(process \d+)\)", text, re.MULTILINE))
        if len(found) == 3:
            node, _, process = found[task].partition(" (process ")
            return node, process
        assert time.monotonic() < deadline, text
        time.sleep(0.2)


def kill_agent(member: Member, task: str) -> None:
    node, process = started(member, task)
    agent = member.sandbox.run("ps", "-o", "ppid=", "-p", process, user=member.user, node=node).stdout.strip()
    member.sandbox.run("kill", "-9", agent, user=member.user, node=node)


@pytest.mark.parametrize("strategy", ROLES)
def test_a_killed_agent_within_the_budget(strategy: str, alice: Member) -> None:
    number = submit(alice, strategy, 1)
    kill_agent(alice, VICTIMS[strategy])
    waited = alice.type("wait", "a-1", timeout=90)
    text = alice.ok("logs", "a-1")
    assert waited.returncode == 0, text
    lost = rf"^slurm-tf: {VICTIMS[strategy]} on node\d is lost: its agent's connection ended; "
    assert re.search(lost + r"a new step is started \(restart 1 of 1\)$", text, re.MULTILINE), text
    # a server may be ended, as its chief is done, before it has said so
    assert len(re.findall(r"^slurm-tf: \S+ started on ", text, re.MULTILINE)) == 6, text
    lead = "chief" if strategy == "ps" else "worker"
    assert f"[{lead}:0] start 1\n" in text
    assert alice.sacct(number) == ["COMPLETED"]
    (point,) = alice.status("a-1")
    assert {task["restarts"] for task in point["tasks"].values()} == {1}
    # what is left of the first step could not write any more
    assert json.loads((alice.folder / "runs" / "a-1" / "lease.json").read_text())["step"] == 1


@pytest.mark.parametrize("strategy", ["multi_worker", pytest.param("ps", marks=pytest.mark.long)])
def test_a_killed_agent_without_a_budget(strategy: str, alice: Member) -> None:
    number = submit(alice, strategy, 0)
    kill_agent(alice, VICTIMS[strategy])
    waited = alice.type("wait", "a-1", timeout=60)
    assert waited.returncode == 1
    assert f"{VICTIMS[strategy]} on node" in alice.ok("status", "a-1")
    assert "is lost: its agent's connection ended" in alice.ok("status", "a-1")
    assert alice.sacct(number) == ["FAILED"]


@pytest.mark.long  # launch/test_new_step.py has a new step that lacks a task
def test_a_new_step_without_one_of_its_nodes_names_the_node(alice: Member) -> None:
    number = submit(alice, "multi_worker", 3, "[sbatch]\nno-kill = true\nno-requeue = true\n")
    node, _ = started(alice, "worker:2")
    alice.sandbox.stop_node(node)
    try:
        waited = alice.type("wait", "a-1", timeout=120)
    finally:
        alice.sandbox.start_node(node)
    text = alice.ok("logs", "a-1")
    assert "a new step is started (restart 1 of 3)" in text
    assert waited.returncode == 75, text
    # as long as Slurm takes the node's part of the former step for alive srun waits, later it gives up
    when = r"(in 20 s|when srun ended with exit code \d+)"
    assert re.search(rf"the job failed: 0/3 tasks registered {when}; missing: .*worker:2 \(on .*{node}\)", text), text
    assert f"a new step was started as worker:2 on {node} is lost" in alice.ok("status", "a-1")
    assert alice.sacct(number)[-1] == "FAILED"
