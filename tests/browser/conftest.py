"""A real browser, and JupyterLab on a copy of the course: on its own notebooks it would save over them.

ALIKIT_BROWSER=required fails where the tests would be skipped: else nobody would see it for years.
"""

import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browsing import opened, until
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
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
def address(browser, course, tmp_path_factory) -> Iterator[str]:
    """Of `make lab` of a newcomer, without settings of his own, open tabs or proxies; but no token is asked for, and
    tests may ask its pages what the notebook's cells and its kernel do."""
    left_out = {name for name in os.environ if name.lower().endswith("_proxy") or name.startswith(("MAKE", "MFLAGS"))}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    make = ["make", "--dry-run", "lab", f"PORT={port}", "OPTIONS=--no-browser"]
    said = subprocess.check_output(make, cwd=ROOT, env=environment, text=True)
    given = shlex.split(said.replace("\\\n", "").partition(" -m jupyterlab ")[2])
    given += ["--IdentityProvider.token=", "--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
    home = tmp_path_factory.mktemp("jupyter")
    environment |= {name: str(home / name) for name in PLACES}
    with (home / "log").open("w") as log:
        how = {"cwd": course, "env": environment, "stdout": log, "stderr": log}
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *given], **how)
    try:
        ready = f"http://localhost:{port}/lab"
        until(lambda: ready in (home / "log").read_text() or server.poll() is not None, "no JupyterLab", 60)
        assert server.poll() is None, (home / "log").read_text()
        yield f"http://localhost:{port}"
    finally:
        server.terminate()  # it shuts its kernels down first
        server.wait(30)


@pytest.fixture(scope="module")
def page(request, browser, address, course) -> Iterator:
    """A notebook of the CELLS of the test file, each of them run."""
    name, metadata = "panels.ipynb", {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[*map(new_code_cell, request.module.CELLS)], metadata=metadata)
    nbformat.write(notebook, course / "notebooks" / name)
    page = opened(browser, f"{address}/lab/tree/{name}?reset")  # without the tabs of the last one
    page.get_by_text("Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    ran = "() => !not_done().waiting || not_done().errors.length"
    page.wait_for_function(ran, timeout=100_000, polling=200)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)
    yield page
    page.close()
