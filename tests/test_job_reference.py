"""docs/job_reference.md is what the schema of job files says."""

import pytest

from tests import job_reference
from tests.conftest import ROOT


def test_the_reference_has_every_key_of_the_schema(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "job_reference.md"
    if request.config.getoption("--update-golden"):
        page.write_text(job_reference.page())
    assert page.read_text() == job_reference.page(), "pytest --update-golden tests/test_job_reference.py writes it anew"
