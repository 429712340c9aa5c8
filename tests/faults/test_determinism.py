"""The same seed on the same machine gives the same files: every recipe, in two processes that share nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from twenty_steps import KINDS, LARGE, OF_THE_PAPER, STEPS, WITH_THREADS, settings_of, small

from alikit import runs
from alikit.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> tuple[dict, dict]:
    """What two processes found, whose sets and dictionaries of strings are in another order."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.twenty_steps", tmp_path_factory.mktemp("steps")],
            cwd=ROOT,
            # Passive: a thread that waits for another one on a busy machine is not to spin meanwhile.
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_WAIT_POLICY": "PASSIVE"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return tuple(json.loads(text.splitlines()[-1]) for text in said)


@pytest.mark.parametrize("name", RECIPES)
def test_same_seed_same_files(twice, name):
    one, other = (found[name] for found in twice)
    assert one == other
    steps = OF_THE_PAPER if RECIPES[name].networks in LARGE else STEPS
    assert len(one["losses"]) == steps
    assert one.keys() == {"losses", "weights.safetensors"} | ({"checkpoint.pt"} if steps > 1 else set())


@pytest.mark.parametrize("name", KINDS)
def test_as_many_threads_are_enough(twice, name):
    one, other = (found[f"{name}, 2 threads"] for found in twice)
    assert one == other and len(one["losses"]) == WITH_THREADS


def test_the_command_leaves_the_same_files(twice):
    one, other = (found["alikit train"] for found in twice)
    assert one == other
    pictures = {f"{kind}-{STEPS:07d}.png" for kind in ("samples", "reconstructions")}
    assert {"settings.json", "metrics.jsonl", "weights.safetensors", "checkpoint.pt"} | pictures <= one.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_another_seed_starts_from_other_weights(name):
    data = small(RECIPES[name])
    one, other = (runs.trainer(settings_of(name, data, seed), data).model.state_dict() for seed in (0, 1))
    drawn = [weight for weight in one if one[weight].ndim > 1 and "weight" in weight]
    assert drawn and not any(torch.equal(one[weight], other[weight]) for weight in drawn)


@pytest.mark.parametrize("name", ["mixture-ali", "digits-semi", "house-numbers"])
def test_another_seed_takes_other_examples(name):
    data = small(RECIPES[name])
    one, other = (runs.trainer(settings_of(name, data, seed), data)._batch()[0] for seed in (0, 1))
    assert not torch.equal(one, other)
