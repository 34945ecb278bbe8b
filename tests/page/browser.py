"""A real browser, without a window: Chromium and its driver, of Debian's packages chromium and chromium-driver."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

PHONE, DESK = 360, 1600
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")


class Browser(webdriver.Chrome):
    """Chromium, of a size that a test chooses."""

    def resize(self, width: int, dark: bool = False) -> None:
        """Show pages as a screen of this width does, light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        # the page is laid out anew once the browser comes to it
        WebDriverWait(self, 30).until(lambda _: self.execute_script("return window.innerWidth") == width)

    def scripts(self, enabled: bool) -> None:
        """Run the scripts of pages, or not."""
        self.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not enabled})

    def problems(self) -> list[str]:
        """Return what the browser has complained of since it was asked last: of scripts, policies, loads."""
        return [str(each["message"]) for each in self.get_log("browser")]  # type: ignore[no-untyped-call]

    @property
    def too_wide(self) -> int:
        """By how many pixels the page is wider than the screen."""
        page = "document.documentElement"
        return int(self.execute_script(f"return {page}.scrollWidth - {page}.clientWidth"))


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Start a browser; skip the test where there is none, and fail it on CI."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        lacking = "needed: apt-get install --no-install-recommends chromium chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(lacking)
        pytest.skip(lacking)
    options = Options()
    options.binary_location = program
    for each in _OPTIONS:
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Browser(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()
