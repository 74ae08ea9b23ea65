"""A real browser, Chromium without a window, for tests that look at pages. It is never let out: its driver is named, so nothing is fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run")


def missing() -> str | None:
    """What a browser test lacks on this machine; None where it can run."""
    if _program() is None:
        return "no Chromium here: `apt-get install chromium chromium-driver`"
    if shutil.which("chromedriver") is None:
        return "Chromium is here without its driver: `apt-get install chromium-driver`"
    return None


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A browser with a fresh profile, which keeps what it logs and asks of the network."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = _program() or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def requests_of(driver: Any) -> list[str]:
    """The addresses that pages asked for since the last time that anybody looked."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def emulate(driver: Any, *, scheme: str = "light", media: str = "", size: tuple[int, int] = (1280, 900)) -> None:
    """Show pages as to somebody with this colour scheme, medium ("" is the screen) and window."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _program() -> str | None:
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
