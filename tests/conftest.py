"""What several test files share: folders of plain pictures, and what is said at the end of bad input."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import configuration, settings
from PIL import Image

# The same examples every time, and nothing written beside the tests: its table of Unicode goes elsewhere too.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")
settings.register_profile(
    "alikit",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=2000 if os.environ.get("ALIKIT_SOAK") else 60,
)
settings.load_profile("alikit")


def pytest_terminal_summary(terminalreporter):
    """Says how many bad files were read, in whichever process."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    counts = [count for report in called for name, count in report.user_properties if name == "bad input"]
    if counts:
        refused, read, failed = (sum(count[outcome] for count in counts) for outcome in ("refused", "read", "failed"))
        terminalreporter.write_line(
            f"bad input: {refused + read + failed:,} files of {len(counts)} kinds: {refused:,} refused in one line, "
            f"{read:,} read, {failed:,} else"
        )


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch):
    monkeypatch.delenv("ALIKIT_CACHE", raising=False)


@pytest.fixture
def paint(tmp_path) -> Callable[..., Path]:
    """paint("pets/cat/1.png", "red") writes a picture of one colour below the test's folder and returns its path."""

    def paint(name: str, colour="red", size: tuple[int, int] = (8, 8)) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(file)
        return file

    return paint
