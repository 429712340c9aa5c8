"""What several test files share, the examples of hypothesis, and what is said at the end."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import summary
import torch
from commands import alikit
from hypothesis import configuration, settings
from PIL import Image

SOAK = "ALIKIT_SOAK" in os.environ  # as in `make soak`

# Whatever is installed. What stands there already is the guard of `make test`, see tests/offline.
ROOT = str(Path(__file__).resolve().parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))

# The same examples every time, and nothing written beside the tests: its table of Unicode goes elsewhere too.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")
settings.register_profile("alikit", derandomize=True, deadline=None, database=None, max_examples=2000 if SOAK else 60)
settings.load_profile("alikit")

BEGUN = time.monotonic()


def pytest_terminal_summary(terminalreporter, config):
    """Says how many were killed, and how many bad files were read."""
    told = [report for some in terminalreporter.stats.values() for report in some]
    reports = [report for report in told if hasattr(report, "user_properties") and hasattr(report, "when")]
    for line in summary.lines(reports):
        terminalreporter.write_line(line)
    if SOAK and not hasattr(config, "workerinput"):
        summary.keep(reports, time.monotonic() - BEGUN)


@pytest.fixture(autouse=True)
def _own_cache_and_seed(monkeypatch):
    monkeypatch.delenv("ALIKIT_CACHE", raising=False)
    torch.manual_seed(0)


@pytest.fixture
def paint(tmp_path) -> Callable[..., Path]:
    """paint("pets/cat/1.png", "red") writes a picture of one colour below the test's folder and returns its path."""

    def paint(name: str, colour="red", size: tuple[int, int] = (8, 8)) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(file)
        return file

    return paint


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A run of 20 steps. Copy it before changing it."""
    with pytest.MonkeyPatch.context() as there:
        there.chdir(tmp_path_factory.mktemp("runs"))
        finished = alikit("train digits --steps 20 --seed 3 --out digits")
        assert finished.status == 0, finished.err
        for said in ("20/20", "discriminator", "generator", "images/s"):
            assert said in finished.err
        assert json.loads(finished.out.splitlines()[0])["reconstruction_baseline"] > 0
        return Path("digits").absolute()


@pytest.fixture
def run(digits, tmp_path) -> Path:
    """A copy of it, as `run` in this folder."""
    return shutil.copytree(digits, Path("run"))


@pytest.fixture(scope="session")
def gan(tmp_path_factory) -> Path:
    """A GAN on the mixture after one step."""
    folder = tmp_path_factory.mktemp("runs") / "gan"
    assert alikit(f"train mixture-gan-paper --steps 1 --out {folder}").status == 0
    return folder
