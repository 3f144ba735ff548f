"""A real headless browser: Debian's chromium, driven by its own driver."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PROGRAMS = ("chromium", "chromedriver")  # apt-get install chromium chromium-driver
PATIENCE = 60  # seconds, of a page on a busy machine


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no {' and no '.join(absent)}: apt-get install chromium chromium-driver" if absent else ""


@contextmanager
def browsing(width: int = 2400, height: int = 1000) -> Iterator[Any]:
    """A driver of selenium, until the end of the block."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", f"window-size={width},{height}"):
        options.add_argument(f"--{flag}")  # no sandbox: root of a container has none, and the page is our own
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def wait(what: str, condition: Any) -> Any:
    """What a condition returns once it is true; `what` says what was waited for."""
    end = time.monotonic() + PATIENCE
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.2)


def wait_text(driver: Any, *texts: str) -> str:
    """The text of a page once all of these are in it."""
    return wait(f"{texts} on {driver.current_url}", lambda: _with(driver, texts))


def _with(driver: Any, texts: tuple[str, ...]) -> str:
    shown = driver.execute_script("return document.body.innerText")
    return shown if all(text in shown for text in texts) else ""
