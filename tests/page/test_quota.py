"""Quotas and organizations on the page, in what Slurm 22.05.8 printed."""

import asyncio
import html
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message

from slurm_tf.page import quota_cache, views
from slurm_tf.page.quota_cache import QuotaCache
from slurm_tf.page.run_cache import KnownRuns
from slurm_tf.page.sessions import Sessions
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch.run_overview import RunOverview
from tests.org.recorded_cluster import RecordedCluster, cluster  # noqa: F401 - a fixture
from tests.watch.conftest import MakeRun, Slurm, _no_other_runs, make_run, record, slurm  # noqa: F401 - fixtures


def asked(application: ASGIApp, path: str, status: int = 200, form: Mapping[str, str] | None = None) -> str:
    """Return what a view answers, or what it answers to a form."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET" if form is None else "POST", "path": path.partition("?")[0], "root_path": "",
        "query_string": path.partition("?")[2].encode(), "scheme": "http", "headers": [(b"host", b"localhost")],
        "state": {"cookie": "c", "form": form or {}},
    }  # fmt: skip

    async def ask() -> None:
        await application(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == status, sent
    return b"".join(each.get("body", b"") for each in sent[1:]).decode()


def shown(application: ASGIApp, path: str, status: int = 200, form: Mapping[str, str] | None = None) -> str:
    """Return the text of a view, without its tags."""
    text = asked(application, path, status, form)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


@pytest.fixture
def application(cluster: RecordedCluster, slurm: Slurm, tmp_path: Path) -> ASGIApp:  # noqa: F811
    assert cluster.user == "alice"
    return views.application(Sessions(), lambda: slurm, str(tmp_path / "runs"), is_admin=False)


def test_a_user_sees_what_is_left_and_who_has_it(application: ASGIApp) -> None:
    text = shown(application, "/quota")
    assert "What alice may still use" in text
    assert re.search(r"You have 2 GPUs in physics, 2 are in use by job \d+", text)
    assert "GrpTRES gres/gpu=2" in text


def test_what_is_hidden_of_an_organization_is_unknown(application: ASGIApp, cluster: RecordedCluster) -> None:  # noqa: F811
    cluster.changes["PrivateData             = none"] = "PrivateData             = usage"
    cluster.changes["ClusterName=sandbox Account=physics UserName= "] = "hidden "
    text = shown(application, "/quota")
    assert re.search(r"account physics GPUs at a time unknown 4 unknown GrpTRES gres/gpu=4", text)


def test_organizations_have_their_users_and_what_is_in_use(application: ASGIApp) -> None:
    text = shown(application, "/organizations")
    assert re.search(r"physics .* alice ", text)
    assert re.search(r"\d of 4", text)


def test_one_organization_has_its_users_and_an_admin_may_change_each(
    application: ASGIApp,
    cluster: RecordedCluster,  # noqa: F811
) -> None:
    text = asked(application, "/organizations?name=physics")
    assert "<title>Organization physics - slurm-tf</title>" in text
    assert "vision" not in text
    assert "/organizations/remove" not in text  # alice is no operator
    shown(application, "/organizations?name=nothing", 400)
    asked_before = len([each for each in cluster.asked if "WithCoord" in each])
    asked(application, "/organizations")
    assert len([each for each in cluster.asked if "WithCoord" in each]) == asked_before  # once a minute
    cluster.changes = {"alice|vision|None|": "alice|vision|Operator|"}
    operator = views.application(Sessions(), Slurm, "/nothing", is_admin=False)
    text = asked(operator, "/organizations?name=physics")
    assert 'href="/organizations/remove?name=physics&amp;user=alice"' in text
    assert 'href="/organizations/set?name=physics&amp;user=alice"' in text
    assert 'name="user" value="alice"' in asked(operator, "/organizations/set?name=physics&user=alice")
    assert "Limits now: GrpTRES gres/gpu=2 " in shown(operator, "/organizations/set?name=physics&user=alice")
    assert "Limits now: GrpTRES " in shown(operator, "/organizations/set?name=physics")
    assert "Limits now" not in shown(operator, "/organizations/set?name=physics&user=nobody")


def test_a_removal_is_shown_first_with_the_jobs_that_it_would_end_and_needs_the_tick(
    cluster: RecordedCluster,  # noqa: F811
) -> None:
    admin = views.application(Sessions(), Slurm, "/nothing", is_admin=True)
    text = shown(admin, "/organizations/remove?name=lasers", 400)
    assert "alice may not do it: remove organization lasers" in text  # Slurm decides, not --admin
    assert "<button" not in asked(admin, "/organizations/remove?name=lasers", 400)
    text = shown(admin, "/organizations/remove?name=physics&user=alice")
    assert "remove user alice from physics" in text
    assert re.search(r"Jobs in the queue: \d+", text)
    text = shown(admin, "/organizations/remove", 400, {"name": "physics", "user": "alice"})
    assert "jobs are in the queue: tick the box to have them cancelled" in text
    assert not [each for each in cluster.asked if "remove" in each or "delete" in each or "scancel" in each]
    assert "found no organization 'nothing'" in shown(admin, "/organizations/remove?name=nothing", 400)


def test_what_slurm_does_not_say_is_unknown(application: ASGIApp, cluster: RecordedCluster) -> None:  # noqa: F811
    cluster.silent = ("scontrol",)
    assert "This is unknown: scontrol did not answer in 10 s" in shown(application, "/quota")


def test_a_run_that_a_limit_keeps_from_starting_says_whose_it_is(
    cluster: RecordedCluster,  # noqa: F811
    make_run: MakeRun,  # noqa: F811
) -> None:
    run, other = make_run("flowers-1", ("3", (), False)), make_run("mnist-1", ("1", (), False))
    waits = RunOverview(run, "3", (record("3", JobState.PENDING, reason="AssocGrpGRES"),), None, None, False)
    known = KnownRuns({"a": (waits,), "b": (RunOverview(other, "1", (), None, None, False),)})
    quota = QuotaCache()
    assert "2 are in use by run mnist-1" in quota.why_waiting(waits, known)
    asked = len(cluster.asked)
    assert quota.why_waiting(waits, known)
    assert len(cluster.asked) == asked
    held = RunOverview(run, "3", (record("3", JobState.PENDING, reason="Priority"),), None, None, False)
    assert QuotaCache().why_waiting(held, known) == ""
    assert quota_cache.run_names(known) == {"3": "flowers-1", "1": "mnist-1"}
