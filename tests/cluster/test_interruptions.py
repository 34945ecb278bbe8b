"""Preemption, time limits and cancels on a real Slurm: each signal has one meaning, nothing saved is lost."""

import json
import re
import subprocess
import time
from typing import Any

import pytest

from tests.cluster.group import Member
from tests.cluster.test_verbs import gone
from tests.conftest import ROOT
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

SPEAKS = ROOT / "tests" / "launch" / "programs" / "speaks.py"
QUIET: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
JOB = """name = "a"
strategy = "multi_worker"
join = "optional"
command = ["python3", "{program}", "{total}", "0.1", "1000000"]
exclusive = true
{more}
[roles.worker]
count = 2
ntasks-per-node = 1
{tables}
"""

WATCHED = '[watch]\ncoordinator = "00:00:03"'


class Run:
    """A run of a program that counts its steps."""

    def __init__(
        self, member: Member, *words: str, total: int = 0, more: str = "", tables: str = "", program: str = str(SPEAKS)
    ) -> None:
        text = JOB.format(program=program, total=total, more=more, tables=tables)
        self.member = member
        self.job = member.submit(member.write("a.toml", text), *words)
        self.folder = member.folder / "runs" / "a-1"

    @property
    def output(self) -> str:
        return self.member.ok("logs", "a-1")

    @property
    def printed(self) -> str:
        """The output of its jobs so far, as the files have it."""
        paths = sorted(self.folder.glob("logs/slurm-*.out"), key=lambda path: path.stat().st_ctime)
        return "".join(path.read_text(errors="replace") for path in paths)

    def attempts(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.folder / "attempts.json").read_text())["attempts"]
        return rows

    def wait_for(self, pattern: str, count: int = 1, timeout: float = 60.0) -> None:
        """Wait until the job's output has `pattern` so many times."""
        deadline = time.monotonic() + timeout
        while len(re.findall(pattern, self.printed)) < count:
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.1)

    def wait_until_it_trains(self, timeout: float = 60.0) -> None:
        """Wait until a step of the last attempt is recorded as done, which is later than its program's first line."""

        def has_begun() -> bool:
            return (self.folder / "attempts.json").exists() and self.attempts()[-1]["began"] is not None

        linux.wait_until("a step is recorded", has_begun, timeout)

    def wait_for_state(self, state: str, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        command = ("squeue", "--noheader", "--states=all", f"--jobs={self.job}", "--Format=State:30")
        while self.member.run(*command).split()[:1] != [state]:
            assert time.monotonic() < deadline, (self.member.run(*command), self.output)
            time.sleep(0.3)

    def start_again(self) -> None:
        """Cut the two minutes that Slurm lets a job wait, once it has left its nodes."""
        self.wait_for_state("PENDING")
        # started again at once, slurmctld (22.05.8) takes the end of the first life for the second's
        assert gone(self.member.sandbox, "a-1/submission-1/launch.pyz", 20)
        time.sleep(2)
        self.member.run("scontrol", "update", f"JobId={self.job}", "StartTime=now")

    def steps(self, pattern: str) -> list[int]:
        """Return the steps that the writer told, where it printed `pattern`."""
        return [int(step) for step in re.findall(rf"\[worker:0\] {pattern} (\d+)", self.output)]


def preempt(sandbox: Sandbox) -> None:
    """Have somebody else take all nodes for a moment."""
    sandbox.run("srun", "--qos=urgent", "-N4", "--exclusive", "true", user="bob", timeout=120)


def kill_coordinator(sandbox: Sandbox, number: str = "TERM") -> None:
    """Send a signal to the batch script, which is the coordinator, and to nothing else."""
    argv = ("pkill", f"-{number}", "-f", "launch.pyz coordinate")
    assert any(sandbox.run(*argv, user="alice", node=node, check=False).returncode == 0 for node in sandbox.shape.names)


@pytest.mark.long
def test_three_preemptions_in_a_row_lose_nothing(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, "--qos=scavenge", total=250)
    for number in range(3):
        run.wait_for(r"\[worker:0\] begins at", number + 1)
        preempt(sandbox)
        run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    assert run.steps("begins at") == [0, *run.steps("interrupted at")]
    assert run.steps("ends at") == [250]
    rows = run.attempts()
    assert [row["id"] for row in rows] == [f"{run.job}.{number}" for number in range(4)]
    assert [(row["cause"], row["code"]) for row in rows] == [("preemption", 75)] * 3 + [("", 0)]
    assert [row["last"] for row in rows] == [*run.steps("interrupted at"), 250]
    (point,) = alice.status("a-1")
    assert (point["job"], point["state"], point["requeues"]) == (run.job, "COMPLETED", 3)


def test_where_preemption_cancels_the_job_goes_on_all_the_same(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, "--qos=evictable")
    run.wait_for(r"\[worker:0\] begins at")
    preempt(sandbox)
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    assert run.steps("begins at") == [0, *run.steps("interrupted at")]
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]


def test_a_time_limit_makes_a_chain_of_two(alice: Member) -> None:
    run = Run(alice, "--time=1", tables='[checkpoint]\nwarning = "0:05"')
    run.wait_for(r"\[worker:0\] interrupted at", timeout=100)
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    assert run.steps("begins at") == [0, *run.steps("interrupted at")]
    assert [(row["cause"], row["code"]) for row in run.attempts()] == [("timeout", 75), ("", 0)]
    assert "timeout: the coordinator got SIGUSR1" in run.output


def test_what_cannot_be_put_back_is_followed_by_another_job(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, "--qos=scavenge")
    run.wait_for(r"\[worker:0\] begins at")
    alice.run("scontrol", "update", f"JobId={run.job}", "Requeue=0")
    preempt(sandbox)
    run.wait_for(r"\[worker:0\] ends at")
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    rows = json.loads((run.folder / "jobs.json").read_text())["jobs"]
    assert [row["after"] for row in rows] == ["", run.job]
    (point,) = alice.status("a-1")
    assert (point["job"], point["state"]) == (rows[1]["job"], "COMPLETED")
    assert run.steps("begins at") == [0, *run.steps("interrupted at")]
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
    assert f"job {rows[1]['job']} follows job {run.job}" in run.output


@pytest.mark.parametrize(
    "how",
    # that of scancel is also in tests/faults/test_representative.py
    [*(pytest.param(how, marks=pytest.mark.long) for how in ("scancel", "scancel a signal")), "slurm-tf",
     pytest.param("the batch script alone", marks=pytest.mark.long)],
)  # fmt: skip
def test_what_is_cancelled_saves_and_never_comes_back(how: str, alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice)
    run.wait_for(r"\[worker:0\] begins at")
    if how == "slurm-tf":
        alice.ok("cancel", "a-1")
    elif how == "the batch script alone":
        kill_coordinator(sandbox)
    else:
        alice.run("scancel", *(["--signal=TERM"] if "signal" in how else []), run.job)
    run.wait_for(r"\[worker:0\] leaves with")
    assert alice.type("wait", "a-1").returncode != 0
    assert gone(sandbox, "a-1/submission-1/launch.pyz", 20)
    time.sleep(5)
    (point,) = alice.status("a-1")
    assert point["state"] in ("CANCELLED", "FAILED")
    assert point["requeues"] == 0
    (row,) = run.attempts()
    assert (row["cause"], row["code"]) == ("cancel", 143)
    assert [row["last"]] == run.steps("interrupted at")


def test_a_scancel_in_the_grace_time_is_a_cancel(alice: Member, sandbox: Sandbox) -> None:
    # a program that does not save in time: its job is still there when the user has had enough
    deaf = "import json,os,socket,time; s=socket.socket(fileno=int(os.environ['SLURM_TF_CONTROL_FD'])); "
    deaf += 's.sendall(json.dumps({"type":"Listening","is_writer":True}).encode()+b"\\n"); '
    deaf += 'print("up",flush=True); time.sleep(1000)'
    name = alice.write("deaf.py", deaf)
    run = Run(alice, "--qos=slow-scavenge", program=name)
    run.wait_for(r"\[worker:0\] up")
    urgent = sandbox.popen("srun", "--qos=urgent", "-N4", "--exclusive", "true", user="bob", **QUIET)
    try:
        run.wait_for("slurm-tf: preemption: ")
        alice.run("scancel", run.job)
        assert alice.type("wait", "a-1", timeout=60).returncode != 0
    finally:
        urgent.kill()
        urgent.wait(20)
    time.sleep(5)
    (point,) = alice.status("a-1")
    assert (point["state"], point["requeues"]) == ("CANCELLED", 0), run.output


def test_where_slurmctld_does_not_say_nothing_is_put_back(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice)
    run.wait_for(r"\[worker:0\] trains")
    controller = sandbox.run("cat", "/run/slurmctld.pid", user="root").stdout.strip()
    sandbox.run("kill", "-STOP", controller, user="root")
    try:
        kill_coordinator(sandbox)
        deadline = time.monotonic() + 60
        log = run.folder / "logs" / f"slurm-{run.job}.out"
        while "slurm-tf: unknown: the coordinator got SIGTERM" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
    finally:
        sandbox.run("kill", "-CONT", controller, user="root")
    run.wait_for(r"\[worker:0\] leaves with")
    assert run.attempts()[0]["last"] == run.steps("interrupted at")[0]
    # it waits for what Slurm makes of it; nobody makes anything
    kill_coordinator(sandbox)
    assert alice.type("wait", "a-1", timeout=60).returncode == 143
    assert alice.sacct(run.job) == ["FAILED"]
    assert run.attempts()[0]["cause"] == "unknown"


@pytest.mark.parametrize("number", ["KILL", pytest.param("STOP", marks=pytest.mark.long)])
def test_where_the_coordinator_is_gone_its_tasks_save_and_put_the_job_back_once(
    number: str, alice: Member, sandbox: Sandbox
) -> None:
    run = Run(alice, tables=WATCHED)
    run.wait_for(r"\[worker:0\] trains")
    kill_coordinator(sandbox, number)
    saw = run.folder / "logs" / "worker-0.log"
    deadline = time.monotonic() + 60
    while "waits to be started again" not in saw.read_text():
        assert time.monotonic() < deadline, saw.read_text()
        time.sleep(0.3)
    others = (run.folder / "logs" / "worker-1.log").read_text()
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    assert "waits to be started again" not in others
    begun = [int(step) for step in re.findall(r"^begins at (\d+)", saw.read_text(), re.MULTILINE)]
    assert begun == [0, int(re.findall(r"^interrupted at (\d+)", saw.read_text(), re.MULTILINE)[0])]
    (point,) = alice.status("a-1")
    assert (point["state"], point["requeues"]) == ("COMPLETED", 1)
    assert not list(run.folder.glob("alone.*"))


@pytest.mark.long
def test_a_job_that_is_suspended_goes_on_as_if_nothing_had_been(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, tables=WATCHED)
    run.wait_for(r"\[worker:0\] trains")
    sandbox.run("scontrol", "suspend", run.job, user="root")
    time.sleep(10)
    sandbox.run("scontrol", "resume", run.job, user="root")
    alice.ok("interrupt", "a-1")
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    assert run.steps("begins at") == [0, *run.steps("interrupted at")]
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
    assert "has not answered" not in run.output


def test_a_requeue_that_comes_after_a_cancel_does_nothing(alice: Member) -> None:
    ask = "scontrol requeue incomplete $SLURM_JOB_ID; echo asked $?"
    late = f"trap '{ask}; sleep 3; exit 1' TERM; echo up; sleep 60 & wait"
    script = alice.write("late.sh", f"#!/bin/bash\n{late}\n")
    job = alice.run("sbatch", "--parsable", "--requeue", "--output=late.out", script).strip()
    out = alice.folder / "late.out"
    linux.wait_until("it runs", lambda: out.exists() and "up" in out.read_text(), 60)
    alice.run("scancel", "--full", job)
    linux.wait_until("it has asked", lambda: "asked 0" in out.read_text(), 60)
    known = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--Format=State:20,RestartCnt:5"]
    linux.wait_until("it is over", lambda: alice.run(*known).split() == ["CANCELLED", "0"], 60)


ENDS = 'name = "a"\nstrategy = "single"\ncommand = ["bash", "-c", \'{program}\']\n[roles.worker]\n[retry]\nwait = 0\n'
SAYS = 'say() { echo "$1" >&$SLURM_TF_CONTROL_FD; }; '


class Ends(Run):
    """A run of a shell program of one task."""

    def __init__(self, member: Member, program: str) -> None:
        self.member = member
        self.job = member.submit(member.write("a.toml", ENDS.format(program=SAYS + program)))
        self.folder = member.folder / "runs" / "a-1"


def test_a_program_that_fails_after_a_new_checkpoint_is_tried_again(alice: Member) -> None:
    commit = 'say "{\\"type\\": \\"CheckpointCommitted\\", \\"step\\": 5}"; sleep 0.5'
    run = Ends(alice, f"echo life; case $SLURM_RESTART_COUNT in 1) exit 0;; *) {commit}; exit 9;; esac")
    run.wait_for("life")
    run.start_again()
    assert alice.type("wait", "a-1", timeout=60).returncode == 0, run.output
    assert [(row["cause"], row["code"], row["last"]) for row in run.attempts()] == [("failure", 9, 5), ("", 0, None)]


@pytest.mark.long
def test_three_attempts_in_vain_end_the_run(alice: Member) -> None:
    run = Ends(alice, "echo life; exit 75")
    for number in range(2):
        run.wait_for("life", number + 1)
        run.start_again()
    done = alice.type("wait", "a-1", timeout=60)
    assert done.returncode == 78, run.output
    assert "3 attempts in a row committed no new checkpoint" in run.output
    assert "3 attempts in a row" in alice.ok("status", "a-1")
    assert [row["cause"] for row in run.attempts()] == ["retry", "retry", ""]


def test_a_point_of_an_array_goes_on_alone(alice: Member, sandbox: Sandbox) -> None:
    text = JOB.format(program=SPEAKS, total=0, more="sweep.n = [1, 2]", tables="").replace('"0.1"', '"0.{n}"')
    number = alice.submit(alice.write("a.toml", text), "--qos=scavenge")
    for point in range(2):
        alice.wait_for(f"a-1/{point}", "state", "RUNNING")
    log = [alice.folder / "runs" / "a-1" / "logs" / f"slurm-{number}_{point}.out" for point in range(2)]
    linux.wait_until("both train", lambda: all("[worker:0] trains" in path.read_text() for path in log), 60)
    sandbox.run("srun", "--qos=urgent", "-N4", "--exclusive", "true", user="bob", timeout=120)
    for point in range(2):
        alice.wait_for(f"a-1/{point}", "state", "PENDING")
    assert gone(sandbox, "a-1/submission-1/launch.pyz", 20)
    time.sleep(2)
    for point in range(2):
        alice.run("scontrol", "update", f"JobId={number}_{point}", "StartTime=now")
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, log[0].read_text() + log[1].read_text()
    for point in range(2):
        path = alice.folder / "runs" / "a-1" / str(point) / "attempts.json"
        rows = json.loads(path.read_text())["attempts"]
        assert [(row["id"], row["cause"]) for row in rows] == [
            (f"{number}_{point}.0", "preemption"), (f"{number}_{point}.1", ""),
        ]  # fmt: skip


def test_a_program_of_any_kind_saves_at_the_job_files_signal(alice: Member, sandbox: Sandbox) -> None:
    trap = 'trap "echo saves; exit 0" USR1; echo up; test $SLURM_RESTART_COUNT || while true; do sleep 0.1; done'
    text = ENDS.format(program=trap).replace("[retry]\nwait = 0", '[checkpoint]\nsignal = "USR1"')
    run = Ends.__new__(Ends)
    run.member, run.folder = alice, alice.folder / "runs" / "a-1"
    run.job = alice.submit(alice.write("a.toml", text), "--qos=scavenge")
    run.wait_for(r"\[worker:0\] up")
    preempt(sandbox)
    run.start_again()
    assert alice.type("wait", "a-1", timeout=60).returncode == 0, run.output
    assert run.output.count("[worker:0] saves\n") == 1
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
