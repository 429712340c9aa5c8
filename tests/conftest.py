"""What several test files share: this checkout for the commands that tests start, folders of plain pictures."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

# Whatever is installed. What stands there already is the guard of `make test`, see tests/offline.
ROOT = str(Path(__file__).resolve().parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))


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
