"""Roles with different needs on the nodes of one plain job, on a real Slurm: a step for each role, all at once."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.group import Member
from tests.cluster.test_bad_nodes import WITHOUT
from tests.cluster.test_interruptions import Run, preempt
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

pytestmark = pytest.mark.slurm

# The GPUs of the sandbox have no driver: opening one fails with ENXIO, and with EPERM where it is not the step's.
SEES = """
import errno, json, os, time
def may_open(number):
    try:
        os.close(os.open(f"/dev/nvidia{number}", os.O_RDONLY))
    except OSError as error:
        return error.errno == errno.ENXIO
seen = {"node": os.environ["SLURMD_NODENAME"], "gpus": [n for n in range(4) if may_open(n)]}
seen |= {"visible": os.environ["CUDA_VISIBLE_DEVICES"], "step": os.environ["SLURM_STEP_ID"]}
print("sees", json.dumps({**seen, "config": json.loads(os.environ["TF_CONFIG"])}), flush=True)
time.sleep(2 if os.environ["SLURM_TF_TASK"] == "chief:0" else 60)
"""
FOUR = """
name = "four"
strategy = "ps"
join = "optional"
command = ["python3", "sees.py"]
[launch]
wait = "0:01"
[roles.chief]
[roles.worker]
count = 2
cpus-per-task = {cpus}
mem = "2G"
gpus-per-task = 1
[roles.ps]
cpus-per-task = 2
mem = "300M"
[roles.evaluator]
mem = "600M"
gpus-per-node = "2"
"""


def seen(member: Member, run: str) -> dict[str, dict[str, Any]]:
    """Return what each task saw."""
    found = re.findall(r"^\[(\S+)\] sees (.*)$", member.ok("logs", run), re.MULTILINE)
    return {task: json.loads(text) for task, text in found}


def held(member: Member, job: str) -> dict[str, tuple[str, str, str]]:
    """Return the CPUs, memory and GPUs of the job and of each step, "JOB.STEP", from accounting."""
    rows = member.run("sacct", "-nP", "-j", job, "-o", "JobID,AllocTRES").splitlines()
    tres = {row.partition("|")[0]: dict(re.findall(r"([\w/]+)=(\w+)", row.partition("|")[2])) for row in rows}
    return {name: (each.get("cpu", ""), each.get("mem", ""), each.get("gres/gpu", "")) for name, each in tres.items()}


@pytest.fixture
def ann(start: Callable[[Shape], Sandbox], tmp_path: Path) -> Iterator[Member]:
    """Return alice on an idle cluster of two nodes, with eight CPUs and four GPUs each."""
    sandbox = start(Shape(nodes=2))
    member = Member(sandbox, "alice", sandbox.shared / tmp_path.name)
    member.write("sees.py", SEES)
    yield member
    sandbox.run("scancel", "--user=alice", user="alice")


def test_four_roles_start_at_once_on_one_node_or_two(ann: Member) -> None:
    """On nodes of eight CPUs: 1 + 2 * 2 + 2 + 1 are on one, 1 + 2 * 3 + 2 + 1 on two, which hold 5 each.

    The chief has the memory that Slurm gives a CPU (DefMemPerCPU).
    """
    for number, (cpus, nodes, cpus_of_job) in enumerate([(2, 1, "8"), (3, 2, "10")], start=1):
        before = time.monotonic()
        done = ann.type("submit", ann.write("four.toml", FOUR.format(cpus=cpus)), "--wait", timeout=90)
        assert done.returncode == 0, ann.ok("logs", f"four-{number}")
        assert time.monotonic() - before < 30
        assert f"  nodes {nodes} node{'s' * (nodes > 1)} for all roles: chief, worker, ps, evaluator\n" in done.stderr
        job, tasks = done.stdout.split()[-1], seen(ann, f"four-{number}")
        names = {"chief": 1, "worker": 2, "ps": 1}
        assert {name: len(hosts) for name, hosts in tasks["chief:0"]["config"]["cluster"].items()} == names
        assert {task: each["config"]["task"] for task, each in tasks.items()} == {
            f"{name}:{index}": {"type": name, "index": index}
            for name, count in {**names, "evaluator": 1}.items()
            for index in range(count)
        }
        assert len({each["node"] for each in tasks.values()}) == nodes
        by_node: dict[str, list[int]] = {}
        for each in tasks.values():
            by_node.setdefault(each["node"], []).extend(each["gpus"])
        assert all(len(set(gpus)) == len(gpus) for gpus in by_node.values()), tasks  # no GPU has two owners
        assert {task: len(each["gpus"]) for task, each in tasks.items()} == {
            "chief:0": 0, "worker:0": 1, "worker:1": 1, "ps:0": 0, "evaluator:0": 2,
        }  # fmt: skip
        assert [tasks[name]["visible"] for name in ("chief:0", "ps:0", "evaluator:0")] == ["", "", "0,1"]
        assert ann.sacct(job) == ["COMPLETED"]
        steps = held(ann, job)
        assert steps[job][0] == cpus_of_job
        assert steps[f"{job}.{tasks['chief:0']['step']}"] == ("1", "256M", "")
        assert steps[f"{job}.{tasks['worker:0']['step']}"] == (str(2 * cpus), f"{2 * nodes}G", "2")
        assert steps[f"{job}.{tasks['ps:0']['step']}"] == ("2", "300M", "")
        assert steps[f"{job}.{tasks['evaluator:0']['step']}"] == ("1", "600M", "2")


# Workers and an evaluator, which share two nodes.
SHARED = "mem = '1G'\n[roles.evaluator]\nmem = '512M'\ncpus-per-task = 2"


def test_a_preemption_puts_such_a_job_back(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, "--qos=scavenge", tables=SHARED)
    assert '\n  + "${srun[@]}" --nodes=1 ' in (run.folder / "submission-1" / "script.sbatch").read_text()
    run.wait_for(r"\[worker:0\] trains")
    preempt(sandbox)
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    assert run.steps("begins at") == [0, *run.steps("interrupted at")]
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
    (point,) = alice.status("a-1")
    assert (point["state"], point["requeues"], len(point["nodes"])) == ("COMPLETED", 1, 1)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_node_that_dies_puts_such_a_job_back(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, tables=SHARED)
    run.wait_for(r"\[worker:0\] trains")
    (node,) = re.findall(r"worker:1 started on (\S+)", run.printed)
    sandbox.stop_node(node)
    try:
        run.wait_for(WITHOUT + node, timeout=120)
    finally:
        sandbox.start_node(node)
    run.start_again()
    run.wait_for("all 3 tasks registered, on 2 nodes", 2)
    run.wait_for(r"\[worker:0\] trains", 2)
    places = {task["node"] for task in json.loads((run.folder / "cluster.json").read_text())["tasks"]}
    assert len(places) == 2
    assert node not in places
    alice.ok("cancel", "a-1")


def test_the_tasks_of_all_roles_start_again_in_new_steps(alice: Member) -> None:
    """The steps of the first start hold their CPUs and GPUs until they have ended: the next ones wait for them."""
    program = 'echo "start $SLURM_TF_RESTARTS"; test $SLURM_TF_RESTARTS = 0 && exec sleep 300; sleep 1'
    text = (
        f'name = "a"\nstrategy = "multi_worker"\njoin = "optional"\n'
        f'command = ["bash", "-c", \'{program}\']\n[launch]\nmax-restarts = 1\n'
        "[roles.worker]\ncount = 2\ngpus-per-task = 1\n[roles.evaluator]\ncpus-per-task = 2\ngpus-per-node = 1\n"
    )
    number = alice.submit(alice.write("a.toml", text))
    log = alice.folder / "runs" / "a-1" / "logs" / f"slurm-{number}.out"
    linux.wait_until("all tasks run", lambda: log.exists() and log.read_text().count("started on") == 3)
    node, process = re.findall(r"worker:1 started on (\S+) \(process (\d+)\)", log.read_text())[0]
    agent = alice.sandbox.run("ps", "-o", "ppid=", "-p", process, user="alice", node=node).stdout.strip()
    alice.sandbox.run("kill", "-9", agent, user="alice", node=node)
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, log.read_text()
    text = log.read_text()
    assert all(f"[{task}] start 1\n" in text for task in ("worker:0", "worker:1", "evaluator:0")), text
    assert alice.sacct(number) == ["COMPLETED"]
