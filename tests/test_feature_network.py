"""The tool that trains the feature network, run as a command for a few steps on pictures painted here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from alikit.errors import AlikitError
from alikit.evaluation import feature_network
from alikit.evaluation.features import FeatureNetwork

ROOT = Path(__file__).resolve().parents[1]
COLOURS = ("red", "green", "blue")


@pytest.fixture
def folders(tmp_path, paint) -> list:
    """Three classes, two classes at twice the size, and a table of two attributes, as options of the tool."""
    for split, count in (("train", 4), ("test", 2)):
        for number in range(count):
            for colour in COLOURS:
                paint(f"cifar10/{split}/{colour}/{number}.png", colour, (32, 32))
            for colour in COLOURS[:2]:
                paint(f"tiny/{split.replace('test', 'val')}/{colour}/{number}.png", colour, (64, 64))
    lines = ["image,split,Red,Blue"]
    for number, (split, colour) in enumerate([(s, c) for s in ("train", "valid", "test") for c in COLOURS]):
        paint(f"celeba/images/{number}.png", colour, (64, 64))
        lines.append(f"{number}.png,{split},{int(colour == 'red')},{int(colour == 'blue')}")
    (tmp_path / "celeba" / "attributes.csv").write_text("\n".join(lines) + "\n")
    names = {"--cifar10": "cifar10", "--tiny-imagenet": "tiny", "--celeba": "celeba"}
    return [part for option, name in names.items() for part in (option, tmp_path / name)]


def tool(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "feature_network.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_it_trains_and_its_file_can_be_read(folders, tmp_path):
    out = tmp_path / "network.safetensors"
    asked = tool(*folders, "--steps", 12, "--batch", 32, "--seed", 3, "--out", out)
    assert asked.returncode == 0, asked.stderr
    with safe_open(out, "pt") as stored:
        known = {name: json.loads(value) for name, value in stored.metadata().items()}
    assert known["pictures_seen"] == {"cifar10": 12 * 14, "tiny_imagenet": 12 * 12, "celeba": 12 * 6}
    assert (known["seed"], known["steps"]) == (3, 12)
    assert known["held_out_pictures"] == {"cifar10": 6, "tiny_imagenet": 4, "celeba": 3}
    assert set(known["held_out_accuracy"]) == set(known["pictures_seen"])
    assert json.dumps(known["held_out_accuracy"], indent=1)[2:-2].split("\n")[0].strip() in asked.stdout

    network = feature_network(out)
    torch.manual_seed(3)
    assert not torch.equal(network.trunk[0][0].weight, FeatureNetwork().trunk[0][0].weight), "it has not learned"
    plain = torch.eye(3)[:, :, None, None].expand(-1, -1, 32, 32)
    assert network(plain).isfinite().all()


def test_a_folder_that_is_not_there(folders, tmp_path):
    folders[1] = tmp_path / "elsewhere"
    asked = tool(*folders, "--steps", 1, "--out", tmp_path / "network.safetensors")
    assert asked.returncode == 2 and f"error: no folder {tmp_path / 'elsewhere'}" in asked.stderr.splitlines()[-1]
    with pytest.raises(AlikitError):
        feature_network(tmp_path / "network.safetensors")
