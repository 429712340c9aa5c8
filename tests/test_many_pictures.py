"""The tool that draws folders of very many pictures, here a few."""

import subprocess
import sys
from pathlib import Path

import torch

from alikit.data import image_folder

TOOL = Path(__file__).resolve().parents[1] / "tools" / "many_pictures.py"


def test_a_smaller_folder_is_the_beginning_of_a_larger_one(tmp_path):
    def run(name: str, number: int) -> subprocess.CompletedProcess:
        options = ["--number", str(number), "--side", "6", "--classes", "3"]
        return subprocess.run([sys.executable, TOOL, tmp_path / name, *options], capture_output=True, text=True)

    assert run("few", 30).returncode == run("more", 100).returncode == 0
    few, more = image_folder(tmp_path / "few"), image_folder(tmp_path / "more")
    assert few.x.shape == (30, 3, 6, 6) and few.labels.bincount().tolist() == [10, 10, 10]
    assert torch.equal(few.x[few.labels == 1], more.x[more.labels == 1][:10])
    assert len(more.x.flatten(1).unique(dim=0)) == 100
    means = torch.stack([more.floats(more.labels == label).mean((0, 2, 3)) for label in range(3)])
    assert torch.cdist(means, means).fill_diagonal_(1).min() > 0.3  # a class has a colour
    again = run("few", 30)
    assert again.returncode == 2 and "is there already: name a new folder" in again.stderr
