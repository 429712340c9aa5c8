"""The tool that trains the feature network, for a few steps on pictures painted here."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from alikit.evaluation import FeatureNetwork, feature_network

TOOL = Path(__file__).resolve().parents[1] / "tools" / "feature_network.py"
COLOURS = ("red", "green", "blue")


@pytest.fixture
def tool(tmp_path, paint, monkeypatch):
    """Runs it on three classes, two classes at twice the size, and a table of two attributes."""
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

    def run(**options):
        options = {"cifar10": tmp_path / "cifar10", "tiny-imagenet": tmp_path / "tiny"} | options
        options |= {"celeba": tmp_path / "celeba", "out": tmp_path / "network.safetensors"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        monkeypatch.setattr("sys.argv", [str(TOOL), *arguments])
        runpy.run_path(str(TOOL), run_name="__main__")
        return options["out"]

    return run


def test_it_trains_and_its_file_can_be_read(tool, capsys):
    out = tool(steps=12, batch=32, seed=3)
    with safe_open(out, "pt") as stored:
        known = {name: json.loads(value) for name, value in stored.metadata().items()}
    assert known["pictures_seen"] == {"cifar10": 12 * 14, "tiny_imagenet": 12 * 12, "celeba": 12 * 6}
    assert (known["seed"], known["steps"]) == (3, 12)
    assert known["held_out_pictures"] == {"cifar10": 6, "tiny_imagenet": 4, "celeba": 3}
    assert set(known["held_out_accuracy"]) == set(known["pictures_seen"])
    assert json.dumps(known["held_out_accuracy"], indent=1)[2:-2].split("\n")[0].strip() in capsys.readouterr().out
    network = feature_network(out)
    torch.manual_seed(3)
    assert not torch.equal(network.trunk[0][0].weight, FeatureNetwork().trunk[0][0].weight), "it has not learned"
    assert network(torch.eye(3)[:, :, None, None].expand(-1, -1, 32, 32)).isfinite().all()


def test_a_folder_that_is_not_there(tool, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool(**{"tiny-imagenet": tmp_path / "elsewhere"})
    assert f"error: no folder {tmp_path / 'elsewhere'}" in capsys.readouterr().err.splitlines()[-1]
