"""Heterogeneous jobs on a real Slurm: what counts once for the job, and sweeps of which one point runs at a time."""

import json

import pytest

from tests.cluster.group import Member
from tests.sandbox import linux

pytestmark = pytest.mark.slurm

SWEEP = """
name = "h"
strategy = "between_graph"
join = "optional"
command = ["bash", "-c", "echo $SLURM_TF_TASK {n}; test $SLURM_TF_TASK = worker:0 || exec sleep 300; sleep 3"]
array = "%1"
sweep.n = [1, 2]
[roles.worker]
[roles.ps]
partition = "cpu"
[sbatch]
licenses = "matlab:1"
"""

WORDS = "2 or more, as 2 components have nodes of their own (worker; ps): their partitions differ"


def test_licenses_count_once_and_a_limited_sweep_runs_one_job_at_a_time(alice: Member) -> None:
    """A job of two components takes one license; there are nodes and licenses for both jobs at once."""
    done = alice.type("submit", alice.write("h.toml", SWEEP))
    jobs = [line.split()[-1] for line in done.stdout.splitlines()]
    assert len(jobs) == 2, done.stderr
    assert f"  nodes {WORDS}\n" in done.stderr
    linux.wait_until("a license is taken", lambda: "Used=1 " in alice.run("scontrol", "show", "licenses"))
    first, second = alice.status("h-1")
    assert (first["state"], second["state"], second["reason"]) == ("RUNNING", "PENDING", "Dependency")
    assert second["reason_words"].endswith(f"; nodes: {WORDS}")
    assert alice.type("wait", "h-1", timeout=90).returncode == 0, json.dumps(alice.status("h-1"))
    assert [alice.sacct(job, components=2) for job in jobs] == [["COMPLETED", "COMPLETED"]] * 2
    rows = [alice.run("sacct", "-nPX", "-j", job, "-o", "Start,End").split()[0].split("|") for job in jobs]
    assert rows[0][1] <= rows[1][0], rows
