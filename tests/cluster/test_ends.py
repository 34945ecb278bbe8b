"""How runs end on a real Slurm, in the one line that the log, status, list and wait have."""

import re

import pytest

from tests.cluster.group import Member

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
