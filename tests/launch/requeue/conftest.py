"""A job whose programs have ended, for each test."""

from pathlib import Path

import pytest

from tests.launch.requeue.ended_job import EndedJob


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EndedJob:
    return EndedJob(tmp_path, monkeypatch)
