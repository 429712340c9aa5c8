"""The same seed on the same machine gives the same files, in two processes that share nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from started import SOAK

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
TRAIN_ALL = """
import sys, torch
from alikit.cli import main
torch.set_num_threads(2)
for line in sys.stdin.read().splitlines():
    sys.argv = ["alikit", *line.split()]
    assert main() == 0, line
"""


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> list[Path]:
    """The run folders of two processes, whose sets and dictionaries of strings are in another order."""
    lines, folders = "\n".join(f"{line} --out {name}" for name, line in TRAINED.items()), []
    for hash_seed in "12":
        folders.append(tmp_path_factory.mktemp(hash_seed))
        (folders[-1] / "pictures").mkdir()
        for number in range(20):
            Image.new("RGB", (32, 32), (9 * number, number, 99)).save(folders[-1] / "pictures" / f"{number}.png")
        # Passive: a thread that waits for another one on a busy machine is not to spin meanwhile.
        how = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        process = subprocess.run([sys.executable, "-c", TRAIN_ALL], input=lines, cwd=folders[-1], env=how, text=True)
        assert process.returncode == 0
    return folders


def left(run: Path) -> dict:
    """The checksum of each file, but of the log what no clock has part in."""
    clock = {"images_per_second", "seconds"}
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in run.iterdir()}
    return found | {"metrics.jsonl": [{name: line[name] for name in line.keys() - clock} for line in log]}


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_files(twice, name):
    one, other = (left(folder / name) for folder in twice)
    assert one == other
    assert {"settings.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt"} <= one.keys()
