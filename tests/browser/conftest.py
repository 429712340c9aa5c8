"""A real browser, and JupyterLab on a copy of the course: on its own notebooks it would save over them."""

import importlib.util
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
from browsing import ROOT, SHOTS, until

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-proxy-server"]


def without(what: str) -> None:
    """Skips, but fails where browser tests are required: they would be skipped for years and nobody would see it."""
    (pytest.fail if os.environ.get("ALIKIT_BROWSER") == "required" else pytest.skip)(what)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if importlib.util.find_spec("playwright") is None:
        without("playwright is not installed: it comes with the extra `test`")
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        without(f"no browser: none of {', '.join(NAMES)} is installed")
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A folder with a copy of notebooks/ and, beside it, results/: the recorded runs, and one that is damaged."""
    course = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "notebooks", course / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (course / "results").mkdir()
    for entry in (ROOT / "results").iterdir():
        (course / "results" / entry.name).symlink_to(entry)
    damaged = course / "results" / "damaged"
    shutil.copytree(ROOT / "results" / "celeba-small", damaged)
    codes = (damaged / "codes.safetensors").read_bytes()
    (damaged / "codes.safetensors").write_bytes(codes[: len(codes) // 2])
    return course


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def make_lab(port: int) -> list[str]:
    """What `make lab` gives to JupyterLab, as make itself says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "lab", f"PORT={port}", "OPTIONS=--no-browser"]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return shlex.split(said.replace("\\\n", "").partition(" -m jupyterlab ")[2])


@pytest.fixture(scope="module")
def lab(browser, course, tmp_path_factory) -> Callable:
    """with lab(*options) as address: `make lab` of a newcomer, without settings of his own, open tabs or proxies."""
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    # Without a token the address alone opens it, in this browser and for these minutes.
    alone = ["--IdentityProvider.token=", "--ServerApp.port_retries=0"]

    @contextmanager
    def lab(*options: str) -> Iterator[str]:
        port, home = free_port(), tmp_path_factory.mktemp("jupyter")
        command = [sys.executable, "-m", "jupyterlab", *make_lab(port), *alone, *options]
        address, log = f"http://localhost:{port}", home / "log"
        with log.open("w") as out:
            server = subprocess.Popen(
                command,
                cwd=course,
                env=environment | {name: str(home / name) for name in places},
                stdout=out,
                stderr=out,
            )
        try:
            until(lambda: answers(address) or server.poll() is not None, "JupyterLab does not answer", 60)
            assert server.poll() is None, log.read_text()
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
