"""An admin makes an organization and a user with GPUs on the page, a user meets the limit, and both are removed."""

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


def check_new_run(page: RunningPage, member: Member) -> None:
    """The form of a new run says what a limit never lets start, and what waits."""

    def check(gpus: str) -> Answer:
        fields = {"do": "check", "param.data": str(member.folder), "sbatch.account": "optics", "gpus": gpus}
        return page.post("/new/network", {"form_token": page.get("/new/network").form_token, **fields})

    refused = check("3")
    assert refused.status == 400
    assert "it asks for 3 GPUs, and you have 2 GPUs in optics" in refused.text
    assert "(GrpTRES gres/gpu=2): it can never start" in refused.text
    waits = check("1")
    assert waits.status == 200
    assert "It would wait: you have 2 GPUs in optics, 2 are in use by run lens-1 and run lens-2" in waits.text


def check_removal(page: RunningPage) -> None:
    """Jobs in the queue keep who has them from going, until it is ticked that they are cancelled."""
    path, user = "/organizations/remove", {"name": "optics", "user": "carol"}
    form = page.get(f"{path}?name=optics&user=carol")
    assert "remove user carol from optics" in form.text
    assert "Jobs in the queue: " in form.text
    refused = page.post(path, {"form_token": form.form_token, **user})
    assert refused.status == 400
    assert "jobs are in the queue: tick the box" in refused.text
    assert page.post(path, {**user, "cancel": "yes"}).status == 403  # without the token of a form
    assert page.post(path, {"form_token": form.form_token, **user, "cancel": "yes"}).status == 303
    text = page.get("/organizations?name=optics").text
    assert "Done: cancel jobs " in text
    assert "remove user carol from optics" in text
    assert page.post(path, {"form_token": form.form_token, "name": "optics"}).status == 303


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
            assert '?name=optics">optics</a></th>' in text
            assert '<td data-head="GPUs">0 of 2</td>' in text
            text = page.get("/organizations?name=optics").text
            assert f'href="{page.prefix}/organizations/remove?name=optics&amp;user=carol"' in text
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
            check_new_run(page, carol)
            assert page.get("/usage?whose=all&by=account").status == 400
        assert "you have 2 GPUs in optics, 2 are in use" in " ".join(carol.ok("status", "lens-3").split())
        with page_of(admin, f"--socket={admin.folder}/page") as page:
            assert page.open().status == 200
            until(page, "/usage?whose=all&days=7&by=account", '<td data-head="Organization">optics</td>', 150)
            check_removal(page)
        assert "optics" not in admin.ok("org", "show")
    finally:
        admin.type("org", "remove", "optics", "--cancel", timeout=150)
