"""The page in a real browser: by keyboard, on a telephone, in the dark, with and without scripts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from slurm_tf.run.folder import RunFolder
from tests.models.test_model_versions import write_version
from tests.page import browser
from tests.page.browser import DESK, PHONE, Browser
from tests.page.running_page import RunningPage, running_page
from tests.page.runs import make_sweep, make_training, report
from tests.page.test_page import own_folders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.started() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    make_sweep(path, "rates-1", "9")
    make_training(path, "a-run-with-quite-a-long-name-for-a-telephone-1", "8", 100)
    write_version(Path(make_training(path, "flowers-1", "7", 200).exports))
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[RunningPage]:
    with running_page(folder, **own_folders(folder)) as started:
        yield started


@pytest.fixture
def opened(chromium: Browser, page: RunningPage) -> Browser:
    """Return the browser at the list of runs."""
    chromium.scripts(enabled=True)
    chromium.resize(DESK)
    chromium.get(page.new_link())
    wait(lambda: chromium.title == "Runs - slurm-tf")
    chromium.problems()
    return chromium


def wait(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so. How far a curve is behind its file: benchmarks/page.py."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def captions(chromium: Browser) -> str:
    return " ".join(each.text for each in chromium.find_elements(By.CSS_SELECTOR, "figcaption"))


def test_a_curve_moves_with_its_file(opened: Browser, folder: Path) -> None:
    opened.find_element(By.LINK_TEXT, "flowers-1").click()
    wait(lambda: len(opened.find_elements(By.TAG_NAME, "canvas")) == 2)
    assert "loss 0.38674 at step 190" in captions(opened)
    report(RunFolder(str(folder / "runs" / "flowers-1")), range(200, 201))
    wait(lambda: "loss 0.36788 at step 200" in captions(opened))
    assert opened.problems() == []


# Counts the pixels of the first plot that have the colour of lines.
GRID = """
const plot = document.querySelector("canvas"), whole = plot.getContext("2d");
const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
const one = document.createElement("canvas").getContext("2d");
one.fillStyle = line; one.fillRect(0, 0, 1, 1);
const [red, green, blue] = one.getImageData(0, 0, 1, 1).data;
const pixels = whole.getImageData(0, 0, plot.width, plot.height).data;
let count = 0;
for (let at = 0; at < pixels.length; at += 4)
  if (pixels[at] === red && pixels[at + 1] === green && pixels[at + 2] === blue && pixels[at + 3] === 255) count += 1;
return count;
"""


def test_a_plot_has_the_colours_that_the_browser_changes_to(opened: Browser) -> None:
    opened.find_element(By.LINK_TEXT, "flowers-1").click()
    wait(lambda: len(opened.find_elements(By.TAG_NAME, "canvas")) == 2)
    for dark in (False, True, False):
        opened.resize(DESK, dark)
        wait(lambda: opened.execute_script(GRID) > 500)
    opened.problems()  # that pixels are read is said to be slow


def test_by_keyboard_to_a_log_and_back(opened: Browser) -> None:
    def press(*keys: str) -> None:
        opened.switch_to.active_element.send_keys(*keys)

    def tab_to(text: str) -> None:
        for _ in range(40):
            press(Keys.TAB)
            if opened.switch_to.active_element.text == text:
                return
        pytest.fail(f"no key leads to {text}")

    press(Keys.TAB)
    assert opened.switch_to.active_element.text == "To the content"
    tab_to("flowers-1")
    press(Keys.ENTER)
    wait(lambda: opened.title.startswith("flowers-1"))
    tab_to("worker:0")
    press(Keys.ENTER)
    wait(lambda: opened.title.startswith("flowers-1: worker:0"))
    assert opened.find_element(By.ID, "log").text == "step 1 of 0"
    assert opened.problems() == []


def test_each_control_is_reached_by_the_tab_key_and_seen(opened: Browser) -> None:
    focused = "const e = document.activeElement; const s = getComputedStyle(e); return [e.outerHTML, s.outlineStyle]"
    controls = "a[href], button, input:not([type=hidden]), select, summary, [tabindex]"
    root = opened.current_url
    for path in ("", "new/network", "organizations/create"):
        opened.get(f"{root}{path}")
        wanted = [str(each.get_attribute("outerHTML")) for each in opened.find_elements(By.CSS_SELECTOR, controls)]
        reached = {}
        for _ in wanted:
            opened.switch_to.active_element.send_keys(Keys.TAB)
            html, outline = opened.execute_script(focused)
            reached[html] = outline
        assert set(reached) == set(wanted)
        assert set(reached.values()) == {"solid"}


def views(opened: Browser) -> list[str]:
    """Return the addresses of one view of each kind."""
    run, sweep = (opened.find_element(By.LINK_TEXT, name).get_attribute("href") for name in ("flowers-1", "rates-1"))
    own = [f"{run}{path}" for path in ("", "/log", "/cancel", "/resubmit", "/export")]
    root = opened.current_url
    opened.get(f"{root}models")
    model = opened.find_element(By.LINK_TEXT, "flowers-1").get_attribute("href")
    opened.get(root)
    others = ("new", "new/network", "data", "models", "quota", "organizations/create", "nothing")
    return [
        opened.current_url,
        *own,
        *(f"{model}{each}" for each in ("", "/serve", "/try")),
        str(sweep),
        f"{sweep}/compare",
        f"{sweep}/1",
        *(f"{opened.current_url}{each}" for each in others),
    ]


def test_each_view_fits_a_telephone_and_a_desk_in_the_light_and_in_the_dark(opened: Browser) -> None:
    for address in views(opened):
        opened.get(address)
        for width, dark in ((PHONE, True), (DESK, False)):
            opened.resize(width, dark)
            assert opened.too_wide == 0, (address, width)
            colour = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (max(map(int, colour.strip("rgb()").split(", "))) < 60) is dark


@pytest.mark.parametrize(
    "tag", ["h1", "h2", "p", "li", "dt", "dd", "label", "figcaption", "caption", "pre", "a", "button"]
)
def test_a_word_that_is_wider_than_a_telephone_is_broken(tag: str, opened: Browser) -> None:
    """Such as the folder of a job, in a sentence of any view."""
    opened.resize(PHONE)
    add = "document.querySelector('main').append(Object.assign(document.createElement(arguments[0]), arguments[1]))"
    opened.execute_script(add, tag, {"textContent": "a-folder/" * 20})
    assert opened.too_wide == 0


def test_without_scripts_there_is_all_but_what_moves(opened: Browser) -> None:
    addresses = views(opened)
    opened.scripts(enabled=False)
    try:
        opened.get(addresses[1])
        assert len(opened.find_elements(By.CSS_SELECTOR, "#live polyline")) == 2
        opened.find_element(By.LINK_TEXT, "Cancel ...").click()
        opened.find_element(By.LINK_TEXT, "Back").click()
        assert "loss" in captions(opened)
    finally:
        opened.scripts(enabled=True)
