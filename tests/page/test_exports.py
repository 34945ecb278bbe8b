"""The model of a run is exported from the page: by a process of its own, whose end and words are shown."""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.models import model_versions
from slurm_tf.page.export_process import ExportProcesses
from tests.models.test_model_versions import write_version
from tests.page.running_page import RunningPage, running_page
from tests.page.runs import make_sweep, make_training
from tests.page.test_page import address, own_folders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that has exported a version, and one that has nothing to export."""
    path = tmp_path_factory.mktemp("exports")
    write_version(Path(make_training(path, "flowers-1", "7").exports))
    make_training(path, "empty-1", "8")
    make_sweep(path, "rates-1", "9")
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[RunningPage]:
    with running_page(folder, **own_folders(folder)) as started:
        assert started.open().status == 200
        yield started


def exported(page: RunningPage, at: str, **fields: str) -> str:
    """Export, and return the view once the process has ended."""
    token = page.get(at).form_token
    assert page.post(at, {"form_token": token, **fields}).status == 303
    until = time.monotonic() + 120
    while "It is under way" in (text := page.get(at).text):
        assert time.monotonic() < until
        time.sleep(0.2)
    return text


def test_what_a_program_has_exported_is_there_and_leads_to_its_model(page: RunningPage, folder: Path) -> None:
    at = f"{address(page, 'flowers-1')}/export"
    assert f'href="{page.prefix}{at}">Export ...</a>' in page.get(at.removesuffix("/export")).text
    text = exported(page, at)
    assert f"{folder}/runs/flowers-1/export/1" in text
    model = re.findall(rf'href="{page.prefix}(/models/\w+)">the model and its versions', text)
    assert "Model flowers-1" in page.get(model[0]).text


def test_what_cannot_be_exported_has_the_verbs_words(page: RunningPage, folder: Path) -> None:
    text = exported(page, f"{address(page, 'empty-1')}/export")
    assert "There is no version to serve" in text
    assert "no whole checkpoint" in text
    assert not any(model_versions.numbered(f"{folder}/runs/empty-1/export"))


def test_nothing_but_a_step_and_a_folder_reaches_the_verb(page: RunningPage) -> None:
    at = f"{address(page, 'flowers-1')}/export"
    token = page.get(at).form_token
    for fields in ({"step": "999"}, {"step": "--python=/bin/sh"}, {"to": "x\n"}, {"to": "x\x1b[2J"}):
        answer = page.post(at, {"form_token": token, **fields})
        assert answer.status == 400, fields
        assert 'role="alert"' in answer.text
    assert page.post(at, {"step": ""}).status == 403
    # a word of a form is the value of an option, whatever it begins with
    assert "found --step" not in exported(page, at, to="--step=x", python="/bin/sh")
    assert "/bin/sh" not in page.get(at).text


def test_a_sweep_is_exported_by_its_points(page: RunningPage) -> None:
    at = address(page, "rates-1")
    assert "Export ..." not in page.get(at).text
    assert "Export ..." in page.get(f"{at}/1").text
    assert "There is no version to serve" in exported(page, f"{at}/1/export")


def test_few_are_under_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    exports = ExportProcesses()
    try:
        exports.start(str(tmp_path / "a"), [])
        with pytest.raises(UsageError, match="an export of this run is under way"):
            exports.start(str(tmp_path / "a"), [])
        exports.start(str(tmp_path / "b"), [])
        with pytest.raises(UsageError, match="2 exports are under way"):
            exports.start(str(tmp_path / "c"), [])
        state = exports.state(str(tmp_path / "a"))
        assert state
        assert (state.is_over, state.version) == (False, "")
    finally:
        for each in exports._exports.values():
            each.process.kill()
            each.process.wait()
    assert exports.state(str(tmp_path / "c")) is None
