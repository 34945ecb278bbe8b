"""A person without code, in a real browser: from a data set to an answer of the model that was trained on it."""

import os
import re
import time
from pathlib import Path

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By

from slurm_tf.page import grey_png
from slurm_tf.run import progress
from tests.cluster.group import Member
from tests.cluster.test_page import give, page_of, steps_shown
from tests.page import browser
from tests.page.browser import DESK, PHONE, Browser
from tests.page.digits import write_digits
from tests.page.running_page import tunnel
from tests.page.test_browser import captions, wait
from tests.sandbox import linux

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.long, pytest.mark.timeout(900)]


def click(chromium: Browser, words: str) -> None:
    """Click what has these words: a link or a button."""
    found = chromium.find_elements(By.LINK_TEXT, words)
    (found or chromium.find_elements(By.XPATH, f"//button[normalize-space()='{words}']"))[0].click()


def fill(chromium: Browser, **fields: str) -> None:
    """Type into the fields of a form; "__" in a name stands for "."."""
    for name, text in fields.items():
        chromium.find_element(By.ID, name.replace("__", ".").replace("_", "-")).send_keys(text)


def until(chromium: Browser, words: str, seconds: float = 60.0) -> None:
    """Wait until a view has these words; one that is replaced meanwhile is looked at again."""

    def has_words() -> bool:
        try:
            return words in chromium.find_element(By.TAG_NAME, "main").text
        except (NoSuchElementException, StaleElementReferenceException):
            return False

    wait(has_words, seconds)


def fits(chromium: Browser) -> None:
    """Look at the view on a telephone in the dark, and on a desk."""
    for width, dark in ((PHONE, True), (DESK, False)):
        chromium.resize(width, dark)
        assert chromium.too_wide == 0, (chromium.title, width)


def state(chromium: Browser) -> str:
    """Return the state of the run, as it is shown."""
    return chromium.find_element(By.CSS_SELECTOR, "[data-live=state]").text


def train(chromium: Browser, alice: Member) -> None:
    """Start a standard network from its form, and watch its curve until the run has completed."""
    click(chromium, "Data sets")
    chromium.find_element(By.PARTIAL_LINK_TEXT, "digits").click()
    click(chromium, "Train a standard network on it")
    fill(chromium, param__epochs="25", param__learning_rate="0.01")
    click(chromium, "Check")
    until(chromium, "It takes at most")
    click(chromium, "Start")
    wait(lambda: chromium.title.startswith("network-1"), 60)
    wait(lambda: "val_accuracy" in captions(chromium), 180)
    (run,) = (alice.folder / "runs").iterdir()
    seen = set()
    until_completed = time.monotonic() + 600
    while state(chromium) != "completed":
        last = progress.read(f"{run}/progress.jsonl")[-1].step
        wait(lambda last=last: steps_shown(chromium) >= last)  # type: ignore[misc]
        seen.add(steps_shown(chromium))
        time.sleep(0.5)
        assert time.monotonic() < until_completed
    wait(lambda: steps_shown(chromium) == progress.read(f"{run}/progress.jsonl")[-1].step)
    assert len(seen) > 2


def serve(chromium: Browser) -> None:
    """Export the model of the run, and start a service for it."""
    click(chromium, "Export ...")
    click(chromium, "Export")
    until(chromium, "Exported", 120)
    fits(chromium)
    click(chromium, "the model and its versions")
    click(chromium, "Serve ...")
    fill(chromium, sbatch__mem="2G", sbatch__time="20", sbatch__cpus_per_task="1")
    click(chromium, "Check")
    until(chromium, "It takes at most")
    click(chromium, "Start")
    wait(lambda: chromium.title.startswith("Service "), 60)
    until(chromium, "1 answering", 180)
    assert "nobody will answer" not in chromium.page_source
    fits(chromium)


def upload(chromium: Browser, file: Path) -> str:
    """Upload a file; return what the model says that it is."""
    chromium.find_element(By.ID, "file").send_keys(str(file))
    click(chromium, "Ask about the file")
    wait(lambda: f"of {file.name}" in chromium.page_source, 30)
    return chromium.find_element(By.ID, "answer").text


def test_a_person_without_code_trains_exports_serves_and_asks(alice: Member, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    write_digits(alice.folder / "data" / "digits")
    give(alice, alice.folder / "data")
    socket = alice.folder / "page"
    with page_of(alice, f"--socket={socket}") as page, tunnel(str(socket)) as port, browser.started() as chromium:
        chromium.get(page.link.replace("PORT", str(port)))
        wait(lambda: chromium.title == "Runs - slurm-tf")
        train(chromium, alice)
        serve(chromium)
        click(chromium, "Try one")
        digits = load_digits()
        answers = []
        for row in range(0, 50, 5):  # of the split test
            file = tmp_path / f"{row}.png"
            file.write_bytes(grey_png.encode(digits.images[row].ravel().tolist(), (8, 8), 0, 16))
            answers.append((int(digits.target[row]), upload(chromium, file)))
        assert sum(words.startswith(f"class {label} (") for label, words in answers) >= 9, answers
        fits(chromium)
        chromium.scripts(enabled=False)
        chromium.find_element(By.CSS_SELECTOR, "button.sample").click()
        until(chromium, "of row 0 of test, label 0")
        chromium.scripts(enabled=True)
        assert chromium.find_element(By.ID, "answer").text.startswith("class 0 (")
        wrong = tmp_path / "wrong.png"
        wrong.write_bytes(b"no image")
        chromium.find_element(By.ID, "file").send_keys(str(wrong))
        click(chromium, "Ask about the file")
        until(chromium, "found 'wrong.png', which does not begin as an image does")
        click(chromium, "The model and its versions")
        service = chromium.find_element(By.PARTIAL_LINK_TEXT, "network-1-1")
        assert "1 replica answering" in chromium.page_source
        service.click()
        click(chromium, "Stop ...")
        click(chromium, "Stop it")
        until(chromium, "No job of it is left", 120)
        problems = [each for each in chromium.problems() if "400 (Bad Request)" not in each]
        assert problems == []
    linux.wait_until("both jobs are gone", lambda: not alice.run("squeue", "--noheader", "--me"), 60)
    assert re.findall(r"test accuracy ([\d.]+)", alice.ok("logs", "network-1"))
    assert os.listdir(alice.folder / "runs" / "network-1" / "export") == ["1"]
