"""An admin makes an organization and a user with GPUs on the page, and the user meets the limit there and elsewhere."""

from collections.abc import Callable

import pytest

from tests.cluster.group import Member
from tests.cluster.test_page import address, page_of, until
from tests.page.running_page import Answer, RunningPage

pytestmark = pytest.mark.slurm

JOB = """\
name = "lens"
strategy = "single"
command = ["sleep", "300"]
time = "5"
account = "optics"
[roles.worker]
gpus = 1
mem = "100M"
"""


def send(page: RunningPage, verb: str, do: str, **fields: str) -> Answer:
    path = f"/organizations/{verb}"
    return page.post(path, {"form_token": page.get(path).form_token, "do": do, **fields})


def make(page: RunningPage, verb: str, **fields: str) -> str:
    """Send a form: first for the plan, then to do it; return the plan."""
    plan = send(page, verb, "plan", **fields)
    assert plan.status == 200
    assert send(page, verb, "make", **fields).status == 303
    assert "Done: " in page.get("/organizations").text
    return plan.text


def test_a_user_with_two_gpus_is_refused_three_and_waits_for_a_third(member: Callable[[str], Member]) -> None:
    admin, carol = member("root"), member("carol")
    try:
        with page_of(admin, f"--socket={admin.folder}/page") as page:
            assert page.open().status == 200
            assert "Create an organization ..." in page.get("/organizations").text
            assert send(page, "create", "make", name="Optics!").status == 400
            assert "What would be done" in make(page, "create", name="optics", gpus="4")
            make(page, "add-user", user="carol", name="optics", gpus="2")
            text = page.get("/organizations").text
            assert '<th scope="row">optics</th>' in text
            assert '<td data-head="GPUs">0 of 2</td>' in text
        carol.write("lens.toml", JOB)
        refused = carol.type("submit", "lens.toml", "--set", "roles.worker.gpus=3")
        assert refused.returncode != 0
        assert "it can never start" in refused.stderr
        for _ in range(3):
            carol.submit("lens.toml")
        carol.wait_for("lens-2", "state", "RUNNING")
        with page_of(carol, f"--socket={carol.folder}/page") as page:
            assert page.open().status == 200
            assert send(page, "create", "make", name="mine").status == 400
            at = address(page, "lens-3")
            until(page, at, "you have 2 GPUs in optics, 2 are in use by run lens-1 and run lens-2 until about")
            assert "2 GPUs in optics, 2 are in use by" in page.get("/quota").text
        assert "you have 2 GPUs in optics, 2 are in use" in " ".join(carol.ok("status", "lens-3").split())
    finally:
        admin.type("org", "remove", "optics", "--cancel", timeout=150)
