"""A real browser, and JupyterLab on a copy of the course: on its own notebooks it would save over them.

ALIKIT_BROWSER=required fails where the tests would be skipped: else nobody would see it for years.
"""

import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
from browsing import ROOT, SHOTS, opened, run_all, until

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-proxy-server"]
PLACES = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")


@pytest.fixture(scope="session")
def browser() -> Iterator:
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None or importlib.util.find_spec("playwright") is None:
        leave = pytest.fail if os.environ.get("ALIKIT_BROWSER") == "required" else pytest.skip
        leave(f"needs playwright, of the extra `test`, and one of the browsers {', '.join(NAMES)}")
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """A folder with a copy of notebooks/ and, beside it, results/: the recorded runs, and one that is damaged."""
    course = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "notebooks", course / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (course / "results").mkdir()
    for entry in (ROOT / "results").iterdir():
        (course / "results" / entry.name).symlink_to(entry)
    damaged = shutil.copytree(ROOT / "results" / "celeba-small", course / "results" / "damaged")
    os.truncate(damaged / "codes.safetensors", 1000)
    return course


@pytest.fixture(scope="session")
def lab(browser, course, tmp_path_factory) -> Callable:
    """with lab(*options) as address: `make lab` of a newcomer, without settings of his own, open tabs or proxies."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    no_make = {name: value for name, value in environment.items() if not name.startswith(("MAKE", "MFLAGS"))}
    # Without a token the address alone opens it, in this browser and for these minutes.
    alone = ["--IdentityProvider.token=", "--ServerApp.port_retries=0"]

    @contextmanager
    def lab(*options: str) -> Iterator[str]:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        said = subprocess.check_output(
            ["make", "--dry-run", "lab", f"PORT={port}", "OPTIONS=--no-browser"], cwd=ROOT, env=no_make, text=True
        )
        given = shlex.split(said.replace("\\\n", "").partition(" -m jupyterlab ")[2])
        address, home = f"http://localhost:{port}", tmp_path_factory.mktemp("jupyter")
        with (home / "log").open("w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *given, *alone, *options],
                cwd=course,
                env=environment | {name: str(home / name) for name in PLACES},
                stdout=log,
                stderr=log,
            )
        try:
            until(lambda: answers(address) or server.poll() is not None, "JupyterLab does not answer", 60)
            assert server.poll() is None, (home / "log").read_text()
            yield address
        finally:
            server.terminate()  # it shuts its kernels down first
            server.wait(30)

    return lab


def answers(address: str) -> bool:
    try:
        return build_opener(ProxyHandler({})).open(f"{address}/api", timeout=5).status == 200
    except (URLError, TimeoutError):
        return False


@pytest.fixture(scope="session")
def address(lab) -> Iterator[str]:
    """Of a server whose pages let tests ask what the notebook's cells and its kernel do."""
    with lab("--LabApp.expose_app_in_browser=True") as address:
        yield address


@pytest.fixture(scope="module")
def page(request, browser, address, course) -> Iterator:
    """A notebook of the CELLS of a test file, each of them run."""
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [cell | {"id": str(number), "source": source} for number, source in enumerate(request.module.CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    name = f"{request.module.__name__}.ipynb"
    (course / "notebooks" / name).write_text(json.dumps(notebook), encoding="utf-8")
    page = opened(browser, f"{address}/lab/tree/{name}?reset")  # without the tabs of the last one
    run_all(page)
    yield page
    page.close()
