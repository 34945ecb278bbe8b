"""How runs end on a real Slurm, in the one line that the log, status, list and wait have."""

import functools
import re

import pytest

from tests.cluster.group import Member
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

JOB = """\
name = "{name}"
strategy = "multi_worker"
command = ["python3", "{name}.py"]
[roles.worker]
count = 2
ntasks-per-node = 1
mem = "300M"
"""
FAILS = "import os, time\nif os.environ['SLURM_TF_TASK'] == 'worker:1': {what}\ntime.sleep(600)"
ENDS = {
    "memory": (
        FAILS.format(what="bytearray(800 * 2**20)"),
        r"worker:1 on node\d was ended by signal 9 \(SIGKILL\): out of memory: the job may use 300M on the node "
        r"\(--mem=300M\) and used \d+M of it; ask for more, --mem=450M at first, or use a smaller batch",
        137,
        "submit memory.toml --name memory-1 --mem=MORE",
    ),
    "rank": (
        FAILS.format(what="raise KeyError('rate')"),
        r"worker:1 on node\d ended with exit code 1: KeyError: 'rate' \(\w+.py, line 2\)",
        1,
        "logs rank-1 --role worker --index 1 --lines 50",
    ),
    "alone": (
        "print('trained')",
        "none of the 2 tasks has joined the cluster: each trained .*",
        65,
        "logs alone-1 --lines 50",
    ),
}


@pytest.mark.parametrize(
    "name",
    # tests/launch/test_ways_to_fail.py has the others, without Slurm
    ["memory", pytest.param("rank", marks=pytest.mark.long), pytest.param("alone", marks=pytest.mark.long)],
)
def test_the_line_is_the_same_everywhere(name: str, alice: Member) -> None:
    plugin = alice.run("scontrol", "show", "config").partition("ProctrackType")[2].splitlines()[0]
    program, line, code, command = ENDS[name]
    if name == "memory" and "cgroup" not in plugin:  # nothing limits it there
        program, line, code, command = ENDS["rank"]
        command = command.replace("rank", "memory")
    alice.write(f"{name}.py", program)
    number = alice.submit(alice.write(f"{name}.toml", JOB.format(name=name)))
    done = alice.type("wait", f"{name}-1", timeout=120)
    why = alice.status(f"{name}-1")[0]["reason_words"]
    assert done.returncode == code, done.stderr
    assert re.fullmatch(line, why), why
    assert f"\n  why          {why}\n" in done.stderr
    assert f" {command} " in done.stderr
    assert why in (alice.folder / "runs" / f"{name}-1" / "logs" / f"slurm-{number}.out").read_text()
    assert why in alice.ok("status", f"{name}-1")
    assert why in alice.ok("list", "--all")


# What Slurm does to a run that does not go on: the nodes of its two tasks, how many these are, options of sbatch; the
# end. Which process is the first to get a signal is Slurm's choice. Of the lost node slurmctld may learn before the job
# has ended.
BY_SLURM = {
    "limit": (
        "node2", 1, ["--time=1"], "TIMEOUT", 75,
        r"timeout: .* got SIG\w+; the run does not go on: it has told of no checkpoint, and would start over",
        "submit limit.toml --name limit-1 --time=LONGER",
    ),
    "preempted": (
        "node1", 1, ["--qos=scavenge", "--no-requeue"], "FAILED", 75,
        r"preemption: .* got SIGTERM; the run does not go on, as it was submitted with no-requeue",
        "resubmit preempted-1",
    ),
    "host": (
        "node3", 1, ["--no-requeue"], "NODE_FAIL", 1,
        r"a node failed \(node3\), and the job was not requeued",
        "resubmit host-1",
    ),
    "lost": (
        "node2,node4", 2, ["--no-requeue"], "FAILED|NODE_FAIL", 1,
        r"worker:1 on node4 is lost: its agent's connection ended, and its node does not answer; the run does not go "
        r"on, as it was submitted with no-requeue|a node failed \(node\[2,4\]\), and the job was not requeued",
        "resubmit lost-1",
    ),
}  # fmt: skip


def both_train(member: Member, name: str) -> bool:
    return member.ok("logs", f"{name}-1").count("trains") == 2


@pytest.mark.long
def test_the_line_of_what_slurm_ends(alice: Member, sandbox: Sandbox) -> None:
    """Of a limit, a preemption and dead nodes, all at the same time: Slurm takes a minute for each."""
    alice.write("sleep.py", "import time; print('trains', flush=True); time.sleep(600)")
    for name, (nodes, count, options, *_) in BY_SLURM.items():
        text = JOB.format(name=name).replace(f"{name}.py", "sleep.py").replace("node = 1", f"node = {3 - count}")
        alice.submit(alice.write(f"{name}.toml", text), f"--nodelist={nodes}", *options)
    for name in BY_SLURM:
        linux.wait_until(f"{name} trains", functools.partial(both_train, alice, name), 60)
    try:
        for node in ("node3", "node4"):
            sandbox.stop_node(node)
        words = ("--qos=urgent", "--nodelist=node1", "--exclusive", "true")
        sandbox.run("srun", *words, user="bob", timeout=120)
        for name, (*_, state, code, line, command) in BY_SLURM.items():
            done = alice.type("wait", f"{name}-1", timeout=240)
            (point,) = alice.status(f"{name}-1")
            assert re.fullmatch(state, point["state"]), done.stderr
            assert done.returncode == code
            assert re.fullmatch(line, point["reason_words"]), point["reason_words"]
            assert f"\n  why          {point['reason_words']}\n" in done.stderr
            assert f" {command} " in done.stderr
            assert point["reason_words"] in alice.ok("status", f"{name}-1")
        # slurmctld has forgotten the job: accounting has ExitCode 0:0 of one that its limit ended
        alice.write("squeue", "#!/bin/sh\n")
        (alice.folder / "squeue").chmod(0o755)
        path = {"PATH": f"{alice.folder}:{alice.environ()['PATH']}"}
        assert alice.type("wait", "limit-1", environ=path).returncode == BY_SLURM["limit"][4]
    finally:
        for node in ("node3", "node4"):
            sandbox.start_node(node)
            sandbox.run("scontrol", "update", f"nodename={node}", "state=resume", user="root", check=False)
        linux.wait_until("all nodes are up", lambda: "down" not in alice.run("sinfo", "-h", "-o", "%t"), 60)
