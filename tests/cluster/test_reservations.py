"""A job that waits behind a reservation on a real Slurm: what is said of it, and that what is advised starts it."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.cluster.group import Member
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

JOB = 'name = "a"\nstrategy = "single"\ntime = 60\ncommand = ["true"]\n[roles.worker]\n'
MAINT = ["starttime=now+20minutes", "duration=60", "users=root", "nodes=ALL", "flags=maint,ignore_jobs"]


@pytest.fixture
def _maintenance(sandbox: Sandbox) -> Iterator[None]:
    """Keep all nodes free for an hour, twenty minutes from now."""
    sandbox.run("scontrol", "create", "reservation", "reservationname=maint", *MAINT, user="root")
    yield
    sandbox.run("scontrol", "delete", "reservationname=maint", user="root")


@pytest.mark.usefixtures("_maintenance")
def test_what_is_advised_lets_a_job_start_before_a_reservation(alice: Member) -> None:
    alice.write("a.toml", JOB)
    dry = alice.type("submit", "a.toml", "--dry-run")
    assert re.search(
        r"^sbatch: Job .*\n  waits   reservation maint begins at 20\S+ and ends at 20\S+\n"
        r"  sooner  --time=00:1[678]:00: would start at 20\S+\n  takes ",
        dry.stderr,
        re.MULTILINE,
    ), dry.stderr
    job = alice.submit("a.toml")
    (point,) = alice.status("a-1")
    deadline = time.monotonic() + 60
    while not point["reservation"]:  # backfill has not planned it yet
        assert time.monotonic() < deadline, point
        time.sleep(0.3)
        (point,) = alice.status("a-1")
    assert (point["reason_words"], point["started"]) == ("its nodes are reserved for maintenance", None)
    assert point["expected_start"] >= point["reservation"]["end"] > point["reservation"]["start"]
    said = alice.ok("status", "a-1")
    advice = re.search(rf"scontrol (update JobId={job} TimeLimit=1\d) makes it fit$", said, re.MULTILINE)
    assert advice, said
    alice.run("scontrol", *advice[1].split())
    alice.ok("wait", "a-1", timeout=120)
    refused = alice.type("submit", "a.toml", "-p", "nosuch")
    assert refused.returncode == 1
    assert "; needed a partition that you have: main (default, up to 1-00:00:00); cpu (" in refused.stderr
    # accounts are known to slurmdbd alone
    assert "; needed an account of yours: vision\n" in alice.type("submit", "a.toml", "-A", "nlp").stderr
