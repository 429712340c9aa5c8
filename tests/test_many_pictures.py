"""The tool that draws folders of very many pictures, here a few."""

import subprocess
import sys
from pathlib import Path

import torch

from alikit.data import image_folder

ROOT = Path(__file__).resolve().parents[1]


def drawn(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "many_pictures.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_smaller_folder_is_the_beginning_of_a_larger_one(tmp_path):
    for name, number in (("few", 30), ("more", 1010)):
        done = drawn(tmp_path / name, "--number", number, "--side", 6, "--classes", 3)
        assert done.returncode == 0, done.stderr
    few, more = image_folder(tmp_path / "few"), image_folder(tmp_path / "more")
    assert few.x.shape == (30, 3, 6, 6) and len(more) == 1010
    assert few.labels.bincount().tolist() == [10, 10, 10] and len(few.classes) == 3
    assert torch.equal(few.x[few.labels == 1], more.x[more.labels == 1][:10])
    assert len(more.x.flatten(1).unique(dim=0)) == 1010
    means = torch.stack([more.floats(more.labels == label).mean((0, 2, 3)) for label in range(3)])
    assert torch.cdist(means, means).fill_diagonal_(1).min() > 0.3  # a class has a colour
    done = drawn(tmp_path / "few")
    assert done.returncode == 2 and "is there already: name a new folder" in done.stderr
