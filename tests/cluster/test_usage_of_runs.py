"""What runs cost, on a real Slurm: all incarnations, by run and template, with what their own records tell."""

import json
import time
from typing import Any

import pytest

from slurm_tf.account import efficiency_table
from tests.cluster.group import Member
from tests.cluster.test_interruptions import Run, preempt
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

SACCT = ("sacct", "--duplicates", "--allocations", "--noheader", "--parsable2")


def usage(member: Member, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(member.ok("usage", "--json", *words))
    return found


def wait_for_rows(member: Member, run: str, count: int) -> None:
    """Wait until slurmdbd knows that so many incarnations of a run are over: slurmctld tells it a moment later."""
    end = time.monotonic() + 60
    while True:
        states = {row["state"]: row["incarnations"] for row in usage(member, "--by=state", f"--run={run}")["groups"]}
        if sum(states.values()) == count and "RUNNING" not in states:
            return
        assert time.monotonic() < end, states
        time.sleep(0.5)


def test_a_preempted_run_costs_all_its_incarnations(alice: Member, sandbox: Sandbox) -> None:
    run = Run(alice, "--qos=scavenge", total=60)
    run.wait_until_it_trains()
    # of a job that is preempted before slurmdbd knows that it runs, it never learns the start (22.05.8)
    states = (*SACCT, f"--jobs={run.job}", "--format=State")
    linux.wait_until("sacct has the start", lambda: alice.run(*states).split() == ["RUNNING"], 60)
    preempt(sandbox)
    run.start_again()
    assert alice.type("wait", "a-1", timeout=120).returncode == 0, run.output
    wait_for_rows(alice, "a-1", 2)
    fields = f"--jobs={run.job}", "--format=State,ElapsedRaw,AllocCPUS,JobName,Comment"
    rows = [row.split("|") for row in alice.run(*SACCT, *fields).splitlines()]
    assert len(rows) == 2
    assert {row[3] for row in rows} == {"stf-a"}
    report = usage(alice, "--by=run,template", "--run=a-1", "--since=now-1hour")
    (group,) = report["groups"]
    assert (group["run"], group["template"]) == ("a-1", "a")
    assert (group["jobs"], group["incarnations"]) == (1, 2)
    assert group["cpu_seconds"] == sum(int(row[1]) * int(row[2]) for row in rows) > 0
    assert group["requeue_hours"] > 0
    # both attempts tell when they began, and what they kept
    assert not group["effective_is_at_most"]
    first, second = run.attempts()
    assert None not in (first["began"], first["saved"], second["began"], second["saved"])
    assert 0 < group["start_hours"] * 3600 <= sum(each["began"] - each["started"] for each in (first, second)) + 20
    assert group["rollback_hours"] * 3600 <= 30
    assert 0 < group["effective"] < 1
    ended = {row["state"]: row["incarnations"] for row in usage(alice, "--by=state", "--run=a-1")["groups"]}
    assert ended == {row[0]: 1 for row in rows}
    page = alice.folder / "usage.html"
    alice.ok("usage", "--run=a-1", "--html=usage.html")
    assert "Attempts of run a-1" in page.read_text()
    (component,) = json.loads(alice.ok("efficiency", "a-1", "--json"))["components"]
    assert component["incarnations"] == 2
    assert component == json.loads(alice.ok("efficiency", run.job, "--json"))["components"][0]


HET = """\
name = "two parts"
strategy = "between_graph"
join = "optional"
command = ["sh", "-c", "case $SLURM_TF_TASK in ps*) exec sleep 300;; esac; sleep 1"]
time = "5"
[roles.worker]
[roles.ps]
partition = "cpu"
"""
SWEEP = """\
name = "points"
strategy = "single"
command = ["sh", "-c", "exec sleep {x}"]
time = "5"
[roles.worker]
[sweep]
x = [1, 2, 3]
"""


def test_components_and_points_are_of_their_runs_and_templates(alice: Member) -> None:
    alice.ok("submit", alice.write("het.toml", HET), "--wait", timeout=120)
    (alice.folder / "jobs").mkdir(mode=0o755)
    alice.write("jobs/swept.toml", SWEEP)
    printed = alice.type("submit", "-t", "swept", "-t", "4", "--wait", timeout=120)
    assert printed.returncode == 0, printed.stderr
    assert "  template swept, jobs/swept.toml\n" in printed.stderr
    wait_for_rows(alice, "two_parts-1", 2)
    wait_for_rows(alice, "points-1", 3)
    found = {(row["run"], row["template"]): row for row in usage(alice, "--by=run,template")["groups"]}
    assert found["two_parts-1", "two parts"]["incarnations"] == 2
    assert found["points-1", "swept"]["incarnations"] == 3
    components = json.loads(alice.ok("efficiency", "two_parts-1", "--json"))["components"]
    assert [row["component"] for row in components] == ["+0", "+1"]
    (point,) = json.loads(alice.ok("efficiency", "points-1/1", "--json"))["components"]
    assert point["incarnations"] == 1
    words = ("--since=-1h", "--cluster=sandbox", "--name=stf-points", "--state=CD", "--json")
    jobs = json.loads(alice.ok("efficiency", *words))["jobs"]
    assert [(job["State"], job["Elapsed"] >= 1, job["AllocCPUS"] >= 1) for job in jobs] == [
        ("COMPLETED", True, True)
    ] * 3
    assert [*jobs[0]] == [column.name for column in efficiency_table.COLUMNS]
    table = alice.ok("efficiency", "two_parts-1", "points-1", "--format=JobID,JobName", "--sort=-JobName")
    assert [line.split()[1] for line in table.splitlines()] == ["JobName", *["stf-two"] * 2, *["stf-points"] * 3]
    rows = alice.ok("usage", "--group", "--since=now-1hours", "--csv", "--html=group.html").splitlines()
    assert {row.split(",")[1] for row in rows if row.startswith("members,")} >= {"alice"}
    assert [row for row in rows if row.startswith("templates,,swept,")]
    assert "may still use</h2>" in (alice.folder / "group.html").read_text()
