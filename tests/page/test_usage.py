"""What a person's jobs used and wasted, on the page: what the verb prints as JSON, as tables and sentences."""

import json
import time
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.cli import person_text
from slurm_tf.page import views
from slurm_tf.page.report_process import Report, ReportProcess
from slurm_tf.page.sessions import Sessions
from tests.account.test_person import HOUR, RECORDS, job, made
from tests.page.test_quota import asked, shown
from tests.watch.conftest import Slurm, slurm  # noqa: F401 - a fixture


@pytest.fixture
def application(slurm: Slurm, tmp_path: Path) -> ASGIApp:  # noqa: F811
    return views.application(Sessions(), lambda: slurm, str(tmp_path / "runs"), is_admin=False)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def says(monkeypatch: pytest.MonkeyPatch, records: list[UsageRecord]) -> None:
    """Have the verb say what it says of these jobs; real processes are in tests/cluster/test_page.py."""
    text = json.dumps(person_text.person_dict(made(records), None, ["3 rows came again"]))

    def report(_: ReportProcess, *words: str) -> Report:
        assert words == ("usage", "--since=now-30days", "--json")
        return Report(text, ())

    monkeypatch.setattr(ReportProcess, "report", report)


def test_hours_by_template_and_what_was_wasted(application: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, RECORDS)
    text = shown(application, "/usage")
    assert "160.0 GPU-hours in 22 jobs." in text
    assert "What your jobs used, by template" in text
    assert "notebook 24.0 48.0 1 00:01:30 4% unknown 24.0 24.0 0.0" in text
    assert "Wasted: 139.9 GPU-hours at most" in text
    assert "1 job of template bert reached the time limit of 1-00:00:00: 96.0 GPU-hours; ask for --time=" in text
    assert "3 rows came again" in text
    assert "What you may still use" in text
    # on a telephone each row is a card: nothing has to be moved sideways
    assert '<td data-head="Template">bert</td>' in asked(application, "/usage")


def test_nothing_ran_and_nothing_was_wasted(application: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, [])
    text = shown(application, "/usage")
    assert "No job of yours ran in these days." in text
    assert "wasted, as far" not in text
    says(monkeypatch, [job(1, "COMPLETED", 1, gpus=0, used_cpu=8 * HOUR * 0.9, name="<b>x")])
    text = asked(application, "/usage")
    assert "Nothing was wasted, as far as Slurm knows." in text
    assert "&lt;b&gt;x" in text
    assert "8.00 CPU-hours in 1 job." in text
