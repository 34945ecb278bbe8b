"""A model is tried on the page: a file is uploaded, a sample picked, JSON typed; a real replica decodes and answers."""

import html
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from slurm_tf.dataset import assets
from slurm_tf.export import exporter
from slurm_tf.export.exporter import Origin
from slurm_tf.page import grey_png
from slurm_tf.run import manifest
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.train_settings import ExportSettings
from slurm_tf.serve import endpoint
from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT
from tests.page.digits import write_digits
from tests.page.running_page import Answer, RunningPage, running_page
from tests.page.runs import make_training
from tests.page.test_page import own_folders

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


@dataclass(frozen=True)
class Trial:
    """A page, and the address at which its model of digits is tried."""

    page: RunningPage
    at: str

    def send(self, content: bytes = b"", name: str = "digit.png", **fields: str) -> Answer:
        token = self.page.get(self.at).form_token
        return self.page.upload(self.at, {"form_token": token, "do": "file", **fields}, name, content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set of digits, and a run that was given it and has exported a model of it."""
    path = tmp_path_factory.mktemp("try")
    data = write_digits(path / "data" / "digits", 200)
    (data / "assets").mkdir()
    assets.write_vocabulary(str(data), "label", ["two", "three", "four", "five", "six", "seven", "eight", "<b>nine"])
    program, python = str(ROOT / "tests" / "programs" / "digits_model.py"), forkserver.python()
    environ = {**os.environ, **forkserver.VARIABLES}
    subprocess.run([python, program, str(path / "saved")], env=environ, check=True, timeout=120, capture_output=True)
    run = make_training(path, "digits-1", "7")
    for file in (run.manifest, run.submission(1).manifest):
        manifest.write(file, replace(manifest.read(file), params={"data": str(data), "target": "label"}))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in forkserver.VARIABLES.items():
            patched.setenv(name, value)
        origin = Origin("digits-1", run.path, "7.0", 10, {"accuracy": 0.96})
        write = exporter.copy_of(str(path / "saved"))
        assert not exporter.export(run.exports, write, origin, ExportSettings(), [str(data)], python=python).rejected
    return path


@pytest.fixture(scope="module")
def trial(folder: Path) -> Iterator[Trial]:
    """Return a page in whose folder a service on this machine answers for the model."""
    words = ["serve", f"digits={folder}/runs/digits-1/export", "--local", "--port=0", "--name=service"]
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2", **own_folders(folder)}
    with running_page(folder, **own_folders(folder)) as page:
        assert page.open().status == 200
        found = re.findall(rf'href="{page.prefix}(/models/\w+)">digits-1</a>', page.get("/models").text)
        assert "No replica of yours answers for this model" in page.get(f"{found[0]}/try").text
        with open(folder / "service.log", "wb") as log:
            serving = subprocess.Popen(
                [sys.executable, "-m", "slurm_tf", *words], cwd=folder, env=environ, stdout=log, stderr=log
            )
        try:
            until = time.monotonic() + 120
            endpoints = RunFolder(str(folder / "runs" / "service")).endpoints
            while not os.path.isdir(endpoints) or not any(
                each.answers("digits") for each in endpoint.living(endpoints)
            ):
                assert time.monotonic() < until and serving.poll() is None, (folder / "service.log").read_text()
                time.sleep(0.2)
            while "Ask about the file" not in page.get(f"{found[0]}/try").text:  # the page reads runs every 15 s
                assert time.monotonic() < until
                time.sleep(0.5)
            yield Trial(page, f"{found[0]}/try")
        finally:
            serving.terminate()
            serving.wait(60)


def digit(row: int) -> tuple[bytes, int]:
    """Return the file of a digit that the model has not seen, and which one it is."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return grey_png.encode(digits.images[row].ravel().tolist(), (8, 8), 0, 16), int(digits.target[row])


def best(answer: Answer) -> str:
    found = re.search(r'<h2 id="answer">([^<]*)</h2>', answer.text)
    assert found, answer.text
    return html.unescape(found[1])


def test_a_file_is_answered_with_its_class_and_probability(trial: Trial) -> None:
    right = 0
    for row in range(0, 50, 5):
        content, label = digit(row)
        answer = trial.send(content, f"{row}.png")
        assert answer.status == 200
        assert f"of {row}.png" in answer.text
        words = best(answer)
        assert re.fullmatch(r".+ \(class \d\) \(\d+\.\d%\)", words)
        right += f" (class {label}) " in words
    assert right >= 9
    # scaled by the model, and a JPEG
    content, label = digit(0)
    large = io.BytesIO()
    Image.open(io.BytesIO(content)).resize((640, 640)).save(large, "JPEG")
    assert f"(class {label})" in best(trial.send(large.getvalue(), "photo.jpg"))
    assert "The most probable classes" in trial.send(content).text


def test_the_vocabulary_of_the_data_set_names_the_classes(trial: Trial) -> None:
    assert best(trial.send(digit(15)[0])).startswith("five (class 5) (")
    text = trial.send(digit(105)[0]).text
    assert "&lt;b&gt;nine (class 9)" in text
    assert "<b>nine" not in text


def test_a_sample_is_picked_and_what_the_data_set_says_is_beside_it(trial: Trial) -> None:
    text = trial.page.get(trial.at).text
    assert text.count('<button class="sample"') == 12
    assert "split=test" in text
    row, label = re.findall(r">row (\d+), label (\d)</button>", text)[3]
    answer = trial.send(do=f"row {row}")
    assert f"(class {label})" in best(answer)
    assert f"of row {row} of test, label {label}" in answer.text
    for wrong in ("12", "-1", "x", ""):
        assert trial.send(do=f"row {wrong}").status == 400


def test_an_instance_is_typed(trial: Trial) -> None:
    pixels = [[[16.0 * (2 < x < 5)] for x in range(8)] for _ in range(8)]
    answer = trial.send(do="json", instance=str(pixels))
    assert answer.status == 200
    assert "(class " in best(answer)
    assert "All values" in answer.text
    for wrong in ("", "[1", "[1, 2]", "[" * 100_000, '{"x": 1}', "9" * 5000):
        refused = trial.send(do="json", instance=wrong)
        assert refused.status == 400, (wrong[:10], refused.text)
        assert 'role="alert"' in refused.text
    assert trial.send(do="json", instance="[1]", signature="nothing").status == 400


def test_what_is_no_image_has_one_clear_error_and_harms_nothing(trial: Trial) -> None:
    content, label = digit(0)
    for name, wrong in (("a.txt", b"hello"), ("a.svg", b"<svg xmlns='x'></svg>"), ("a.gif", b"GIF89a" + bytes(99))):
        answer = trial.send(wrong, name)
        assert answer.status == 400
        assert f"found {name!r}, which does not begin as an image does; needed a file of PNG or JPEG" in html.unescape(
            answer.text
        )
    assert "found no file" in trial.send(name="").text
    torn = trial.send(content[:60], "<script>.png")
    assert torn.status == 400
    assert "the model refused it: " in torn.text
    assert "<script>." not in torn.text
    # a small file of a huge image is not decoded, here or there
    huge = content[:16] + b"\x00\x01\x00\x00" * 2 + content[24:]
    assert "the image has more than 16777216 pixels" in trial.send(huge).text
    assert f"(class {label})" in best(trial.send(content))


def test_only_versions_and_services_that_there_are_can_be_asked(trial: Trial) -> None:
    content, label = digit(0)
    assert f"(class {label})" in best(trial.send(content, which="versions/1"))
    for which in ("versions/2", "versions/1/../../x", "labels/stable", "x:predict?", "versions/" + "9" * 5000):
        assert trial.send(content, which=which).status == 400, which
    assert trial.send(content, service="0").status == 502


def test_an_upload_needs_the_token_and_is_bounded(trial: Trial) -> None:
    content, _ = digit(0)
    assert trial.page.upload(trial.at, {"do": "file"}, "a.png", content).status == 403
    wrong = {"do": "file", "form_token": "0" * 64}
    assert trial.page.upload(trial.at, wrong, "a.png", content).status == 403
    # to an address that takes no files
    assert trial.page.upload(trial.at.replace("/try", "/promote"), wrong, "a.png", content).status == 415
    assert trial.send(content + bytes(9 << 20)).status == 413
    assert trial.send(content, do="json", instance="x\0").status == 400


def test_the_page_itself_decodes_nothing(trial: Trial) -> None:
    content, _ = digit(0)
    assert trial.send(content).status == 200
    mapped = Path(f"/proc/{trial.page.process.pid}/maps").read_text()
    assert "/python3" in mapped
    for library in ("tensorflow", "numpy", "PIL", "libpng", "libjpeg"):
        assert library not in mapped, library
