"""Living with a job on a real Slurm: status, list, logs, wait, cancel; outages, other users, requeues."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_tf.run import program_messages
from slurm_tf.run.program_messages import ProgressReport
from tests.cluster.group import SLURM_TF, Member
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

WORKERS = (
    'name = "{name}"\nstrategy = "multi_worker"\njoin = "optional"\ncommand = ["bash", "-c", \'{program}\']\n{more}\n'
    "[roles.worker]\ncount = {count}\nntasks-per-node = 1\n"
)


def job(member: Member, program: str, name: str = "a", count: int = 2, more: str = "") -> str:
    """Write a job file of workers on a node each; return its name."""
    return member.write(f"{name}.toml", WORKERS.format(name=name, program=program, count=count, more=more))


def processes(sandbox: Sandbox, word: str) -> list[str]:
    """Return the command lines on all nodes that hold `word`."""
    pids = {node: linux.Process.read(sandbox.folder / "pids" / node) for node in sandbox.shape.names}
    nodes = {
        os.readlink(f"/proc/{process.pid}/ns/pid"): node for node, process in pids.items() if process and process.alive
    }
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            node = nodes.get(os.readlink(path / "ns" / "pid"))
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if node and word in line:
            found.append(f"{node}: {line}")
    return found


def gone(sandbox: Sandbox, word: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while processes(sandbox, word):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_status_of_a_job_that_runs(alice: Member) -> None:
    line = program_messages.encode(ProgressReport(5, None, None, {"loss": 0.25}))
    alice.write("progress.json", f"{line}\n")
    program = "test $SLURM_TF_TASK = worker:1 || cat progress.json >&$SLURM_TF_CONTROL_FD; sleep 60"
    alice.submit(job(alice, program))
    point = alice.wait_for("a-1", "step", 5)
    (row,) = point["roles"]
    assert (row["registered"], row["tasks"], row["running"], row["loss"], row["rate"]) == (2, 2, 2, 0.25, None)
    assert {task["node"] for task in point["tasks"].values()} == {"node1", "node2"}
    text = alice.ok("status", "a-1")
    assert "worker  2/2         2/2      5     0.25  0" in text
    assert "RUNNING" in alice.ok("list")
    assert alice.ok("status", point["job"]).splitlines()[0] == text.splitlines()[0]


def test_status_watch_goes_on_until_the_end(alice: Member) -> None:
    alice.submit(job(alice, "sleep 3"))
    done = alice.type("status", "a-1", "--watch")
    assert done.returncode == 0
    assert "COMPLETED" in done.stdout


def test_a_task_that_fails_ends_the_job_and_is_named(alice: Member) -> None:
    alice.submit(job(alice, "test $SLURM_TF_TASK = worker:0 && exec sleep 1000; sleep 1; exit 9", count=3))
    alice.wait_for("a-1", "state", "RUNNING")
    begun = time.monotonic()
    assert alice.type("wait", "a-1").returncode == 9
    assert time.monotonic() - begun < 30
    (point,) = alice.status("a-1")
    named = [f"worker:{index} on node{index + 1} ended with exit code 9" for index in (1, 2)]
    assert point["reason_words"] in named
    assert point["reason_words"] in alice.ok("status", "a-1")
    assert any(name in alice.ok("logs", "a-1", "-n", "3") for name in named)


def test_cancel_leaves_no_process_and_the_job_does_not_come_back(alice: Member, sandbox: Sandbox) -> None:
    mark = "31.415926"
    number = alice.submit(job(alice, f"sleep 1000 & trap true TERM; while sleep {mark}; do true; done", count=3))
    alice.wait_for("a-1", "state", "RUNNING")
    deadline = time.monotonic() + 30
    while len(processes(sandbox, f"sleep {mark}")) < 3 and time.monotonic() < deadline:
        time.sleep(0.3)
    assert alice.ok("cancel", "a-1") == f"cancelled {number}\n"
    assert gone(sandbox, mark, 40), processes(sandbox, mark)
    assert gone(sandbox, "a-1/submission-1/launch.pyz", 10), processes(sandbox, "launch.pyz")
    assert alice.wait_for("a-1", "state", "CANCELLED")["exit_code"] not in (None, 0)
    # whatever puts it back into the queue: no attempt starts
    alice.submit(job(alice, "echo ran", "b"))
    assert alice.ok("wait", "b-1") == ""
    assert alice.ok("cancel", "b-1") == "run b-1 has no job that is not over\n"
    script = str(alice.folder / "runs" / "b-1" / "submission-1" / "script.sbatch")
    second = alice.run("sbatch", "--parsable", script).strip()
    assert alice.sacct(second) == ["FAILED"]
    assert "run b-1 was cancelled" in Path(alice.folder, "runs", "b-1", "logs", f"slurm-{second}.out").read_text()


def test_one_point_of_a_sweep_is_cancelled(alice: Member) -> None:
    text = job(alice, "sleep {n}", count=1, more="sweep.n = [1, 1000]")
    number = alice.submit(text)
    alice.wait_for("a-1/1", "state", "RUNNING")
    assert alice.ok("cancel", "a-1/1") == f"cancelled {number}_1\n"
    assert alice.type("wait", "a-1").returncode != 0
    assert [point["state"] for point in alice.status("a-1")] == ["COMPLETED", "CANCELLED"]


def test_a_point_that_has_not_started_is_cancelled(alice: Member) -> None:
    alice.submit(job(alice, "sleep {n}", count=1, more='sweep.n = [5, 1000]\narray = "%1"'))
    alice.wait_for("a-1/0", "state", "RUNNING")
    alice.ok("cancel", "a-1/1")
    assert alice.type("wait", "a-1").returncode == 1
    assert alice.status("a-1/0")[0]["state"] == "COMPLETED"


def test_a_requeue_has_the_roles_of_its_own_submission(alice: Member, sandbox: Sandbox) -> None:
    program = "echo life ${SLURM_RESTART_COUNT-0}; test ${SLURM_RESTART_COUNT-0} = 1 || sleep 1000"
    text = job(alice, program)
    number = alice.submit(text)
    alice.wait_for("a-1", "state", "RUNNING")
    second = alice.submit(text, "--name=a-1", "--set=roles.worker.count=3", "--hold")
    alice.run("scontrol", "requeue", number)
    assert gone(sandbox, "a-1/submission-1/launch.pyz", 20)
    time.sleep(2)  # a job that leaves its nodes takes no other time to start
    alice.run("scontrol", "update", f"JobId={number}", "StartTime=now")
    deadline = time.monotonic() + 120
    # status is about the newest submission, so accounting is asked about the first one's job
    while (states := alice.sacct(number)) != ["COMPLETED"]:
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
    alice.run("scancel", second)
    tasks = json.loads((alice.folder / "runs" / "a-1" / "cluster.json").read_text())["tasks"]
    assert [task["name"] for task in tasks] == ["worker:0", "worker:1"]


def test_logs_follow_from_before_the_start_across_a_requeue(alice: Member, sandbox: Sandbox) -> None:
    program = "echo life ${SLURM_RESTART_COUNT-0}; test ${SLURM_RESTART_COUNT-0} = 1 || sleep 1000"
    number = alice.submit(job(alice, program, count=1), "--hold")
    follower = alice.sandbox.popen(
        *SLURM_TF, "logs", "a-1", "--follow", cwd=alice.folder, env=alice.environ(), stdout=subprocess.PIPE, text=True
    )
    alice.run("scontrol", "release", number)
    seen = follower.stdout
    assert seen is not None
    for line in seen:
        if line == "[worker:0] life 0\n":
            break
    alice.run("scontrol", "requeue", number)
    alice.wait_for("a-1", "state", "PENDING")
    # started again at once, not after two minutes, slurmctld (22.05.8) takes the end of the first life for the second's
    assert gone(sandbox, "a-1/submission-1/launch.pyz", 20)
    time.sleep(2)
    alice.run("scontrol", "update", f"jobid={number}", "StartTime=now")
    rest = seen.read()
    assert follower.wait(60) == 0
    assert "[worker:0] life 1\n" in rest
    assert alice.ok("logs", "a-1", "--role", "worker", "--index", "0") == "life 0\nlife 1\n"
    assert alice.ok("logs", "a-1", "--lines", "1").startswith(("[worker:0] life 1", "slurm-tf: "))
    assert alice.status("a-1")[0]["requeues"] == 1


NAMES = ["two words", "a|b", "quote\"s'", "new\nline", "tab\t", "\x1f\x1e", "$(touch x)", "é漢", "a" * 200, "-rf"]


def test_names_of_other_users_jobs_do_not_break_list(alice: Member, member: Callable[[str], Member]) -> None:
    bob = member("bob")
    script = bob.write("s.sh", "#!/bin/sh\nsleep 60\n")
    for name in NAMES:
        bob.run("sbatch", f"--job-name={name}", f"--comment={name}", "--hold", script)
    number = alice.submit(job(alice, "true"), "--hold")
    assert alice.run("squeue", "--noheader", "--user=bob", "-o", "%i").count("\n") == len(NAMES)
    (known,) = json.loads(alice.ok("list", "--json"))
    assert (known["run"], known["job"], known["state"]) == ("a-1", number, "PENDING")
    assert len(alice.ok("list").splitlines()) == 2
    own = alice.write("named.toml", (alice.folder / "a.toml").read_text().replace('"a"', json.dumps("q\"|'; $(x) é")))
    other = alice.submit(own, "--hold")
    assert [point["job"] for point in json.loads(alice.ok("list", "--json"))] == [number, other]


@pytest.fixture
def without(alice: Member, sandbox: Sandbox) -> Iterator[Callable[[str], dict[str, str]]]:
    """Return the environment in which a daemon is not there: its port is another one."""
    conf = sandbox.run("cat", "/etc/slurm/slurm.conf").stdout
    # a plugin's file is looked for beside slurm.conf
    kept = [line for line in conf.splitlines() if not line.startswith(("MessageTimeout=", "CliFilterPlugins="))]

    def make(line: str) -> dict[str, str]:
        path = alice.folder / f"{line.partition('=')[0]}.conf"
        alice.write(path.name, "\n".join([*kept, "MessageTimeout=2", line, ""]))
        return {"SLURM_CONF": str(path)}

    yield make


def test_slurmctld_is_down(alice: Member, without: Callable[[str], dict[str, str]]) -> None:
    number = alice.submit(job(alice, "sleep 60", count=1))
    alice.wait_for("a-1", "state", "RUNNING")
    down = without("SlurmctldPort=9")
    done = alice.type("status", "a-1", environ=down)
    assert done.returncode == 0, done.stderr
    assert "slurmctld does not answer: " in done.stdout
    refused = alice.type("submit", "a.toml", environ=down, timeout=200)
    assert refused.returncode == 69, refused.stderr
    cancelled = alice.type("cancel", number, environ=down, timeout=200)
    assert cancelled.returncode == 69, cancelled.stderr
    # marked all the same
    assert "(cancelled)" in alice.ok("status", "a-1")


def test_slurmdbd_is_down_and_a_job_that_nobody_knows(alice: Member, without: Callable[[str], dict[str, str]]) -> None:
    alice.submit(job(alice, "true", count=1))
    path = alice.folder / "runs" / "a-1" / "jobs.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["jobs"][0]["job"], "999999"))
    shown = alice.type("status", "a-1")
    assert "999999  unknown" in shown.stdout
    assert "Slurm has no record of job 999999" in shown.stdout
    waited = alice.type("wait", "a-1")
    assert waited.returncode == 1
    assert "Slurm knows nothing of job 999999" in waited.stderr
    down = without("AccountingStoragePort=9")
    assert "accounting does not answer: " in alice.ok("status", "a-1", environ=down)


def test_what_a_run_wrote_counts_where_slurm_has_forgotten_its_job(
    alice: Member, without: Callable[[str], dict[str, str]]
) -> None:
    """Without accounting: its job is as unknown to slurmctld as one that ended MinJobAge ago."""
    number = alice.submit(job(alice, "exit 7", count=1))
    assert alice.type("wait", "a-1").returncode == 7
    for name in ("jobs.json", "attempts.json"):
        path = alice.folder / "runs" / "a-1" / name
        path.write_text(path.read_text().replace(f'"{number}"', '"999998"'))
    environ = without("AccountingStorageType=accounting_storage/none")
    waited = alice.type("wait", "a-1", environ=environ)
    assert waited.returncode == 7, waited.stderr
    shown = alice.ok("status", "a-1", environ=environ)
    assert "999998  FAILED" in shown
    assert "accounting: Slurm accounting storage is disabled" in shown


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("status", "nothing-1"),
        ("wait", "999997"),
        ("cancel", "999997_3"),
        *(
            pytest.param(verb, text, marks=pytest.mark.long)
            for verb in ("status", "logs", "wait", "cancel", "describe", "resubmit")
            for text in ("nothing-1", "999997", "999997_3")
        ),
    ],
)
def test_an_unknown_run_or_job(verb: str, text: str, alice: Member) -> None:
    done = alice.type(verb, text)
    assert done.returncode == 2
    assert f"slurm-tf: no run {'of job ' if text[0] == '9' else repr(text)[:-1]}" in done.stderr


def test_describe_is_json_and_says_where_it_came_from(alice: Member) -> None:
    number = alice.submit(job(alice, "true", count=1))
    alice.ok("wait", "a-1")
    known = json.loads(alice.ok("describe", number))
    assert known["manifest"]["job"]["name"] == "a"
    assert known["submissions"][0]["job"] == number
    assert known["points"][0]["state"] == "COMPLETED"


def test_a_job_that_can_write_no_log_says_so(alice: Member) -> None:
    number = alice.submit(job(alice, "echo hi", count=1), "--hold")
    logs = alice.folder / "runs" / "a-1" / "logs"
    logs.rmdir()
    alice.run("scontrol", "release", number)
    assert alice.type("wait", "a-1").returncode == 1
    why = f"Slurm could not open its log {logs}/slurm-{number}.out on node1 (FAILED, ExitCode 0:53)"
    assert why in alice.ok("status", "a-1")
    for words in ((), ("--follow",)):
        shown = alice.type("logs", "a-1", *words)
        assert (shown.stdout, why in shown.stderr, "yet" in shown.stderr) == ("", True, False), shown.stderr


def test_runs_are_found_from_anywhere_and_removed_when_over(alice: Member) -> None:
    def type_(words: str, code: int = 0) -> str:
        script = f"cd / && {shlex.join(SLURM_TF)} {words} 2>&1; echo = $?"
        printed, _, ended = alice.run("bash", "-c", script).rpartition("= ")
        assert int(ended) == code, printed
        return printed

    number = alice.submit(job(alice, "sleep 60", "roams", count=1))
    run = str(alice.folder / "runs" / "roams-1")
    assert json.loads(type_("status roams-1 --json"))[0]["folder"] == run
    # from Slurm's record of the job
    index = alice.folder / ".state" / "slurm-tf" / "runs.json"
    index.unlink()
    assert number in type_("list")
    assert run in index.read_text()
    refused = type_("rm roams-1 --yes", code=73)
    assert re.search(rf"job {number} of run roams-1 is \w+; needed a run that is over\nHINT: slurm-tf cancel", refused)
    type_("cancel roams-1")
    alice.type("wait", "roams-1")
    assert type_(f"rm {number} --yes").endswith("removed roams-1\n")
    assert not Path(run).exists()
    assert "roams-1" not in type_("list --all")
