"""The same seed on the same machine gives the same files, in two processes that share nothing.

The losses of every recipe's first steps are in `tests/expected_losses.json`.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from started import SOAK

ROOT = Path(__file__).resolve().parents[2]
TRAINED = {  # averaged weights, precise statistics, labels, conditions, a frozen decoder, convolutions, two threads
    "gan": "train mixture-gan-paper --steps 20 --batch 20",
    "post-hoc": "train mixture-post-hoc --steps 20 --batch 20 --decoder gan",
    "mixture-ali": "train mixture-ali --steps 20 --batch 20",
    "digits": "train digits --steps 20",
    "digits-semi": "train digits-semi --steps 10 --batch 20",
    "digits-conditional": "train digits-conditional --steps 10 --batch 20",
    "shapes": "train cifar10-small --data stand-in:cifar10 --steps 2 --batch 10 --float32",
}
if SOAK:
    TRAINED |= {
        name: f"train {name} --data stand-in:{name} --steps 3 --batch 8 --float32" for name in ("svhn", "celeba")
    }
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
    lines = "\n".join(f"{line} --out {name}" for name, line in TRAINED.items())
    folders = [tmp_path_factory.mktemp(hash_seed) for hash_seed in "12"]
    for hash_seed, folder in enumerate(folders, 1):
        # Passive: a thread that waits for another one on a busy machine is not to spin meanwhile.
        how = {"PYTHONHASHSEED": str(hash_seed), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        process = subprocess.run(
            [sys.executable, "-c", TRAIN_ALL],
            input=lines,
            cwd=folder,
            env=os.environ | how,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
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
