"""The browser of these tests.

ALIKIT_BROWSER=required fails where the tests would be skipped: else nobody would see it for years.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-proxy-server"]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None or importlib.util.find_spec("playwright") is None:
        leave = pytest.fail if os.environ.get("ALIKIT_BROWSER") == "required" else pytest.skip
        leave(f"needs playwright, of the extra `test`, and one of the browsers {', '.join(NAMES)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()
