"""A new run from a form: templates, fields with their limits, what a job would be; data sets with their pictures."""

import html
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.page import grey_png
from tests.page.digits import write_digits, write_table
from tests.page.running_page import Answer, RunningPage, running_page
from tests.page.test_page import own_folders
from tests.prepare.data_sets import write_data_set

pytestmark = pytest.mark.slow

_HOSTILE = ("x\n#SBATCH --wrap=id", "x\x1b[2J", "x\0y")
_TEMPLATE = """\
name = "flowers"
description = "flowers of <the> group"
strategy = "single"
command = ["python", "flowers.py", "--rate={rate}", "--data={data}", "--deep={deep}"]
[params]
rate = {default = 0.1, min = 0.0, max = 1.0, help = "learning <rate>"}
deep = {default = false}
[params.data]
type = "path"
[roles.worker]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new")
    (path / "data").mkdir()
    write_digits(path / "data" / "digits", 50)
    write_digits(path / "data" / "files", 50, as_files=True)
    write_table(path / "data" / "table")
    hostile = Schema((Feature("image", Kind.BYTES), Feature('"><script>', Kind.BYTES, default="")))
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    write_data_set(path / "data" / "hostile", hostile, {"train": [{"image": drawing, '"><script>': b"<b>"}]}, count=1)
    own = path / ".config" / "slurm-tf" / "jobs"
    own.mkdir(parents=True)
    (own / "flowers.toml").write_text(_TEMPLATE)
    (own / "flowers.py").write_text("print('hello')\n")
    for each in (own, own.parent, own.parent.parent, own / "flowers.toml", own / "flowers.py"):
        each.chmod(0o755 if each.is_dir() else 0o644)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[RunningPage]:
    with running_page(folder, **own_folders(folder)) as started:
        assert started.open().status == 200
        yield started


def send(page: RunningPage, template: str = "flowers", do: str = "check", **fields: str) -> Answer:
    """Send the form of a template."""
    token = page.get(f"/new/{template}").form_token
    own = {f"param.{name}": text for name, text in fields.items()}
    return page.post(f"/new/{template}", {"form_token": token, "do": do, **own})


def test_all_templates_are_offered(page: RunningPage) -> None:
    text = page.get("/new").text
    assert f'href="{page.prefix}/new/network">network</a>' in text
    assert "flowers of &lt;the&gt; group" in text
    assert page.get("/new/nothing").status == 400


def test_a_form_has_each_param_with_its_help_and_limits(page: RunningPage, folder: Path) -> None:
    text = page.get("/new/flowers?param.rate=0.25").text
    assert 'name="param.rate" value="0.25" placeholder="0.1"' in text
    assert "learning &lt;rate&gt;; a number from 0.0 to 1.0" in text
    assert '<option value="true">true</option>' in text
    assert 'name="sbatch.partition"' in text
    assert "GPUs of all workers together" in text
    assert f'<option value="{folder}/data/digits"></option>' in text
    assert f'<option value="{folder}/.config"></option>' not in text


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_made(page: RunningPage, folder: Path) -> None:
    answer = send(page, do="submit", rate="2")
    assert answer.status == 400
    assert "found 2; needed a number from 0.0 to 1.0" in answer.text
    assert "it has no value; needed the path of a file or folder" in answer.text
    assert 'name="param.rate" value="2"' in answer.text
    for text in _HOSTILE:
        assert send(page, do="submit", data=text).status == 400
        token = page.get("/new/flowers").form_token
        fields = {"form_token": token, "do": "submit", "param.data": "/x"}
        for name in ("sbatch.partition", "sbatch.time", "workers", "gpus", "name"):
            refused = page.post("/new/flowers", {**fields, name: text})
            assert refused.status == 400, (name, text)
            assert "<pre" not in refused.text
    # no field of the form but its own: neither a command nor a variable
    for name in ("sbatch.wrap", "sbatch.comment", "env.PATH"):
        text = page.post("/new/flowers", {**fields, "do": "check", name: "id"}).text
        assert "The script that sbatch gets" in text
        assert "id" not in html.unescape(text.partition("<pre")[2].partition("</pre>")[0]).split()
    assert not (folder / "runs").exists()


def test_the_job_is_shown_before_it_starts(page: RunningPage, folder: Path) -> None:
    text = html.unescape(send(page, data="/shared/x y", rate="0.5").text)
    assert "#SBATCH --job-name=" in text
    assert "--rate=0.5 '--data=/shared/x y' --deep=false" in text
    assert "It takes at most" in text
    token = page.get("/new/flowers").form_token
    fields = {"form_token": token, "do": "check", "param.data": "/x", "gpus": "a100:2"}
    assert re.search(r"#SBATCH --gpus\S*=a100:2\n", page.post("/new/flowers", fields).text)
    assert "when it would start is unknown" in text
    assert not (folder / "runs").exists()


def test_a_data_set_has_its_counts_classes_and_pictures(page: RunningPage, folder: Path) -> None:
    assert f"{folder}/data/table</a>" in page.get("/data").text
    text = page.get(f"/data?folder={folder}/data/digits").text
    assert '<td data-head="Rows">40</td>' in text
    assert "8 x 8 x 1" in text
    assert text.count("<img ") == 12
    assert f"/new/network?param.data={folder}/data/digits" in text
    answer = raw(page, f"/data/sample?folder={folder}/data/digits&feature=image&row=0")
    image = Image.open(io.BytesIO(answer))
    assert (image.size, image.mode) == ((8, 8), "L")
    from sklearn.datasets import load_digits

    wanted = [round(each * 255 / 16) for each in load_digits().images[1].ravel()]
    assert list(image.tobytes()) == wanted
    assert raw(page, f"/data/sample?folder={folder}/data/files&feature=image&row=0")[:4] == b"\x89PNG"


def raw(page: RunningPage, path: str) -> bytes:
    connection = page.connect()
    try:
        connection.request("GET", page.prefix + path, headers={"Cookie": f"slurm-tf={page.cookie}"})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_of_a_hostile_data_set_nothing_runs(page: RunningPage, folder: Path) -> None:
    at = f"folder={folder}/data/hostile"
    assert "<script>" not in page.get(f"/data?{at}").text.replace('<script src="', "")
    assert page.get(f"/data/sample?{at}&feature=image&row=0").status == 404
    for query in (f"{at}&feature=image&row=1", f"{at}&feature=image&row=-1", f"{at}&feature=x&row=0", "folder=/etc"):
        assert page.get(f"/data/sample?{query}").status in (400, 404)
    assert page.get("/data?folder=/etc").status == 400
    assert page.get(f"/data?folder={folder}/data/nothing").status == 400


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3)])
def test_pixels_become_a_picture(shape: tuple[int, ...]) -> None:
    size = shape[0] * shape[1] * (shape[2] if len(shape) == 3 else 1)
    image = Image.open(io.BytesIO(grey_png.encode([float(n) for n in range(size)], shape, 0, size - 1)))
    assert image.size == (3, 2)
    assert list(image.tobytes()) == [round(n * 255 / (size - 1)) for n in range(size)]
    assert Image.open(io.BytesIO(grey_png.encode([1.0] * size, shape, 1.0, 1.0))).size == (3, 2)
