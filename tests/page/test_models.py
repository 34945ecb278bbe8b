"""Models on the page: versions with what was measured, those kept aside, and the one that is promoted."""

import re
from pathlib import Path

import pytest

from slurm_tf.models import serving_file
from tests.models.test_model_versions import write_version
from tests.page.running_page import RunningPage
from tests.page.runs import make_training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """Return the model of a run: two versions that are whole, one that is kept aside, half a copy."""
    path = Path(make_training(folder, "flowers-1", "7").exports)
    make_training(folder, "no-model-1", "8")
    for rejected in ("", "", "worse than version 2: <val_accuracy>"):
        write_version(path, rejected)
    (path / "4").mkdir()
    return path


def address(page: RunningPage) -> str:
    found = re.findall(rf'href="{page.prefix}(/models/\w+)">flowers-1</a>', page.get("/models").text)
    assert len(found) == 1
    return str(found[0])


def test_a_model_has_its_versions_and_those_that_are_no_good(page: RunningPage, base: Path) -> None:
    text = page.get(address(page)).text
    assert text.index("answers requests that name no version") > text.index('<th scope="row">2</th>')
    assert "worse than version 2: &lt;val_accuracy&gt;" in text
    assert f"{base}/4: it has no saved_model.pb" in text
    assert "no-model-1" not in page.get("/models").text


def test_a_version_is_promoted_as_the_verb_does_it(page: RunningPage, base: Path) -> None:
    at = address(page)
    token = page.get(at).form_token
    assert page.post(f"{at}/promote", {"version": "1"}).status == 403
    for wrong, status in (("3", 400), ("4", 400), ("../1", 400), ("", 400)):
        assert page.post(f"{at}/promote", {"form_token": token, "version": wrong}).status == status
    assert not Path(serving_file.path(str(base))).exists()
    assert page.post(f"{at}/promote", {"form_token": token, "version": "1"}).status == 303
    assert serving_file.read(str(base)).promoted == 1
    assert "version 1 answers" in page.get(at).text


def test_no_address_leads_to_another_folder(page: RunningPage) -> None:
    token = page.get(address(page)).form_token
    for key in ("0", "..", "%2e%2e", "etc"):
        assert page.get(f"/models/{key}").status == 404
        assert page.post(f"/models/{key}/promote", {"form_token": token, "version": "1"}).status == 404
