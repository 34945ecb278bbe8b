"""Services on the page: the form that starts one, what it would be, which versions answer; and what is refused."""

import html
from pathlib import Path

import pytest

from slurm_tf.models import serving_file
from slurm_tf.models.serving_file import Canary
from tests.models.test_model_versions import write_version
from tests.page.running_page import Answer, RunningPage
from tests.page.runs import make_training
from tests.page.test_models import address

pytestmark = pytest.mark.slow

_HOSTILE = ("x\n#SBATCH --wrap=id", "x\x1b[2J", "x\0y")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """Return the model of a run, with two versions."""
    path = Path(make_training(folder, "flowers-1", "7").exports)
    for _ in range(2):
        write_version(path)
    return path


def send(page: RunningPage, verb: str, **fields: str) -> Answer:
    """Send a form of the model; "__" in a name stands for "."."""
    at = address(page)
    names = {name.replace("__", ".").replace("_", "-"): text for name, text in fields.items()}
    return page.post(f"{at}/{verb}", {"form_token": page.get(at).form_token, **names})


def test_the_service_is_shown_before_it_starts(page: RunningPage, folder: Path) -> None:
    assert "No service of yours answers for this model" in page.get(address(page)).text
    form = page.get(f"{address(page)}/serve").text
    for name in ("model", "sbatch.ntasks", "sbatch.mem", "sbatch.gpus-per-task", "sbatch.time", "name"):
        assert f'name="{name}"' in form
    answer = send(page, "serve", do="check", sbatch__ntasks="3", sbatch__mem="4G", sbatch__time="30")
    text = html.unescape(answer.text)
    assert answer.status == 200
    assert "#SBATCH --job-name=stf-flowers-1\n" in text
    assert "#SBATCH --ntasks=3\n" in text
    assert "slurm_tf.serve.replica_task" in text
    assert "It takes at most" in text
    assert 'name="sbatch.ntasks" value="3"' in text
    assert [each.name for each in (folder / "runs").iterdir()] == ["flowers-1"]


@pytest.mark.parametrize("field", ["model", "name", "sbatch.ntasks", "sbatch.mem", "sbatch.time", "sbatch.partition"])
def test_nothing_hostile_reaches_a_script(page: RunningPage, folder: Path, field: str) -> None:
    token = page.get(address(page)).form_token
    for text in _HOSTILE:
        for do in ("check", "submit"):
            answer = page.post(f"{address(page)}/serve", {"form_token": token, "do": do, field: text})
            assert answer.status == 400, (field, text)
            assert "<pre" not in answer.text
    assert [each.name for each in (folder / "runs").iterdir()] == ["flowers-1"]


def test_a_field_that_the_form_has_not_changes_nothing(page: RunningPage) -> None:
    plain = script(send(page, "serve", do="check"))
    for name in ("sbatch__wrap", "sbatch__comment", "overrides", "words"):
        assert script(send(page, "serve", do="check", **{name: "id"})) == plain


def script(answer: Answer) -> str:
    return answer.text.partition("<pre")[2].partition("</pre>")[0]


def test_versions_are_chosen_as_the_verbs_do_it(page: RunningPage, base: Path) -> None:
    for verb, fields in (
        ("canary", {"version": "3", "percent": "10"}),
        ("canary", {"version": "1", "percent": "101"}),
        ("canary", {"version": "1", "percent": "-1"}),
        ("label", {"label": "no word", "version": "1"}),
        ("label", {"label": "stable", "version": "../1"}),
        ("label", {"label": "<b>", "version": ""}),
    ):
        assert send(page, verb, **fields).status == 400, (verb, fields)
    assert not Path(serving_file.path(str(base))).exists()
    assert send(page, "canary", version="1", percent="10").status == 303
    assert "10% of the requests go to 1" in page.get(address(page)).text
    assert send(page, "label", label="stable", version="1").status == 303
    assert send(page, "rollback").status == 303
    found = serving_file.read(str(base))
    assert (found.promoted, found.canary, dict(found.labels)) == (1, None, {"stable": 1})
    assert send(page, "rollback").status == 400
    assert send(page, "canary", version="2", percent="50").status == 303
    assert serving_file.read(str(base)).canary == Canary(2, 50.0)
    assert send(page, "label", label="stable", version="").status == 303
    assert serving_file.read(str(base)).labels == {}


def test_what_changes_something_needs_the_token_of_the_session(page: RunningPage, base: Path) -> None:
    before = Path(serving_file.path(str(base))).read_bytes() if Path(serving_file.path(str(base))).exists() else b""
    for verb in ("serve", "promote", "rollback", "canary", "label"):
        fields = {"version": "1", "percent": "10", "label": "stable", "do": "submit"}
        assert page.post(f"{address(page)}/{verb}", fields).status == 403
    after = Path(serving_file.path(str(base))).read_bytes() if Path(serving_file.path(str(base))).exists() else b""
    assert before == after


def test_only_runs_that_serve_are_services(page: RunningPage) -> None:
    key = page.get("/").text.partition("/runs/")[2].partition("/")[0]
    token = page.get(address(page)).form_token
    for each in (key, "0", "..", "%2e%2e"):
        assert page.get(f"/services/{each}").status == 404
        assert page.post(f"/services/{each}/stop", {"form_token": token}).status == 404
