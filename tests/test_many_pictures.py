"""The tool that draws folders of very many pictures, here a few."""

import runpy
import sys
from pathlib import Path

import pytest

from alikit.data import image_folder

TOOL = Path(__file__).resolve().parents[1] / "tools" / "many_pictures.py"


def test_a_folder_of_pictures_is_drawn_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["many_pictures.py", str(tmp_path / "few"), "--number", "30"])
    runpy.run_path(str(TOOL), run_name="__main__")
    few = image_folder(tmp_path / "few")
    assert few.x.shape == (30, 3, 32, 32) and few.labels.bincount().tolist() == [3] * 10
    with pytest.raises(SystemExit):
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "is there already: name a new folder" in capsys.readouterr().err
