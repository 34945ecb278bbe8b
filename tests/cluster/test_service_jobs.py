"""Real replicas on a real Slurm for minutes: jobs follow each other, a node dies, a job is preempted; nothing fails."""

import json
import re
import sys
from typing import Any

import pytest

from tests.cluster.group import Member
from tests.cluster.test_service import jobs, state
from tests.cluster.test_service_handover import PROGRAMS, connected, load, replicas
from tests.sandbox import linux

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.long, pytest.mark.timeout(1500)]

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}


MODEL = ("serve", "models/digits", "--ntasks=2", "--ntasks-per-node=1", "--mem=1500M")
TEMPLATE = (
    "submit", "-t", "serve", "model=models/digits", "name=digits", "--name=digits-1", "--set",
    "roles.replica.mem=1500M", "--set", "roles.replica.cpus-per-task=1",
)  # fmt: skip


def started(alice: Member, *words: str, verb: tuple[str, ...] = MODEL) -> str:
    """Serve a model that doubles; return the first job."""
    python, program = sys.executable, str(PROGRAMS / "doubling_model.py")
    alice.run(python, program, "models/digits", "1", timeout=120, environ=QUIET)
    done = alice.type(*verb, *words, environ=QUIET)
    assert "serve connect digits-1" in done.stderr, done.stderr
    job = done.stdout.split()[-1]
    linux.wait_until("both replicas answer", lambda: len(replicas(alice)) == 2, 120)
    return job.strip()


def test_jobs_follow_each_other_and_a_node_dies(alice: Member) -> None:
    """10,000 requests over four minutes and three jobs of two minutes; in the third one the batch host is killed."""
    started(alice, "--time=2")
    with connected(alice) as where, load(alice, where, requests=10_000, pause=0.1) as found:
        linux.wait_until("the third job answers", lambda: of_job(alice, 3) == 2, 240)
        third = jobs(alice)[3]
        node = alice.run("squeue", "--noheader", f"--jobs={third}", "--format=%B").strip()
        alice.sandbox.stop_node(node)
        try:
            linux.wait_until("the fourth job answers", lambda: of_job(alice, 4) == 2, 180)
        finally:
            alice.sandbox.start_node(node)
    assert found["failures"] == 0, found
    assert sum(found["answered"].values()) == 10_000
    # the second one may still have had its last requests in hand on the node that died
    assert alice.sacct(jobs(alice)[1]) == ["COMPLETED"]
    assert alice.sacct(third) == ["NODE_FAIL"]


def test_a_preemption_fails_no_request(alice: Member) -> None:
    first = started(alice, "--time=30", "--qos=scavenge")
    linux.wait_until("a second job is submitted", lambda: len(jobs(alice)) == 2, 30)
    with connected(alice) as where, load(alice, where, requests=2000, pause=0.1) as found:
        urgent = ["sbatch", "--parsable", "--qos=urgent", "--nodes=4", "--exclusive", "--wrap=sleep 1"]
        alice.run(*urgent)
        linux.wait_until("the second job answers", lambda: of_job(alice, 2) == 2, 120)
    assert found["failures"] == 0, found
    # the job ends by itself once its replicas have answered what they had, or Slurm ends it at the end of its grace
    assert alice.sacct(first) in (["PREEMPTED"], ["FAILED"])
    assert re.search("preemption: .*; the next job of the service takes over", alice.ok("logs", "digits-1/1"))
    assert state(alice, jobs(alice)[2]) == "RUNNING"


def test_versions_are_promoted_and_compared(alice: Member) -> None:
    """One version multiplies by two, the other one by three. The job is that of the template."""
    started(alice, "--time=10", verb=TEMPLATE)
    python, program = sys.executable, str(PROGRAMS / "doubling_model.py")
    alice.run(python, program, "models/digits", "2", "3", timeout=120, environ=QUIET)
    ask = ["curl", "-s", "--unix-socket"]
    with connected(alice) as path:

        def answer(which: str = "") -> Any:
            body, url = '{"instances": [[5]]}', f"http://localhost/v1/models/digits{which}:predict"
            return json.loads(alice.run(*ask, path, "-d", body, url)).get("predictions")

        alice.ok("serve", "promote", "digits", "1")
        alice.ok("serve", "label", "digits", "next=2")
        linux.wait_until("the label is known", lambda: answer("/labels/next") == [[15.0]], 60)
        assert answer() == [[10.0]]
        alice.ok("serve", "canary", "digits", "2", "--percent", "50")
        linux.wait_until("some requests go to the canary", lambda: answer() == [[15.0]], 60)
        alice.ok("serve", "promote", "digits", "2")
        linux.wait_until("all go there", lambda: all(answer() == [[15.0]] for _ in range(10)), 60)
        alice.ok("serve", "rollback", "digits")
        linux.wait_until("the first one answers again", lambda: all(answer() == [[10.0]] for _ in range(10)), 60)

    def compared() -> bool:
        return alice.type("serve", "compare", "digits", "1", "2").returncode == 0

    linux.wait_until("both are logged", compared, 60)
    found = json.loads(alice.ok("serve", "compare", "digits", "1", "2", "--json"))
    assert found["first"]["requests"] > 0
    assert found["second"]["p50"] > 0


def of_job(alice: Member, number: int) -> int:
    """Return how many replicas of a job of the service answer."""
    return sum(bool(re.match(rf"{number}-", each["replica"])) for each in replicas(alice))
