"""The same seed on the same machine gives the same files, in two processes that share nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from started import SOAK, Started

ROOT = Path(__file__).resolve().parents[2]
FEW = "--batch 20 --steps 10"
TRAINED = {  # averaged weights and precise statistics, labels, conditions, convolutions
    "digits": "train digits --steps 20 --set ema=0.9 --set precise_bn=true",
    "digits-semi": f"train digits-semi {FEW}",
    "digits-conditional": f"train digits-conditional {FEW}",
    "convolutions": "train cifar10-small --data folder:pictures --size 32 --steps 2 --batch 8 --float32",
}
if SOAK:
    TRAINED["svhn"] = TRAINED["convolutions"].replace("cifar10-small", "svhn")
TRAIN_ALL = f"""
import sys, torch
from alikit.cli import main
torch.set_num_threads(2)
for line in {[f"{line} --out {name}" for name, line in TRAINED.items()]}:
    sys.argv = ["alikit", *line.split()]
    assert main() == 0, line
"""


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> list[Path]:
    """The run folders of two processes, whose sets and dictionaries of strings are in another order."""
    folders = [tmp_path_factory.mktemp(name) for name in ("fork", "fresh")]
    for folder in folders:
        (folder / "pictures").mkdir()
        for number in range(20):
            Image.new("RGB", (32, 32), (9 * number, number, 99)).save(folder / "pictures" / f"{number}.png")
    fork = Started(folders[0], exec, TRAIN_ALL)
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    how = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", TRAIN_ALL], cwd=folders[1], env=how).returncode == 0
    assert fork.wait() == 0, fork.err
    return folders


def left(run: Path) -> dict:
    """The checksum of each file, but of the log what no clock has part in."""
    clock = {"images_per_second", "seconds", "processor_seconds"}
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in run.iterdir()}
    return found | {"metrics.jsonl": [{name: line[name] for name in line.keys() - clock} for line in log]}


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_files(twice, name):
    one, other = (left(folder / name) for folder in twice)
    assert one == other
    assert {"settings.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt"} <= one.keys()
