"""Whether what makes a step quicker changes what is learned. `alikit bench precision` writes what it finds."""

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from alikit.data import load
from alikit.evaluation import measured
from alikit.models import Game
from alikit.recipes import RECIPES
from alikit.runs import load_model, metrics

from .common import device, few, run, table

FIRST, OURS, BF16, TOGETHER = "library layers", "ours", "bfloat16", "two processes"
# Recipe, steps, seeds, and the ways to compute that are compared with the first of them.
RUNS = (
    ("digits", 400, 16, (FIRST, OURS, BF16, TOGETHER)),
    ("house-numbers", 150, 3, (FIRST, OURS)),
)
METRICS = ("reconstruction_mean", "codes_sigma", "codes_kl", "codes_energy", "codes_cycle", "generator")
HELD_OUT = 297
TITLE = "Is the same learned?"


def trained(name: str, way: str, steps: int, seed: int) -> tuple[Game, float]:
    """A model, and its generator's mean loss over about the last tenth of the steps."""
    if way == TOGETHER:
        with tempfile.TemporaryDirectory() as place:
            options = ["--steps", steps, "--seed", seed, "--out", Path(place) / "run", "--devices", 2]
            run(["-m", "alikit", "train", name, *options], f"no run of two processes of {name}")
            last = [line["generator"] for line in metrics(Path(place) / "run") if "generator" in line]
            return load_model(Path(place) / "run"), statistics.mean(last[-max(1, len(last) // 10) :])
    train, _ = load(RECIPES[name].data)
    torch.manual_seed(seed)
    recipe = replace(RECIPES[name], plain=way == FIRST, bf16=False)
    trainer = recipe.trainer(recipe.build(train.shape, train.mean()).to(device()), train, seed)
    trainer.bf16 = way == BF16
    last = trainer.run(steps, every=max(1, steps // 10))[-1]
    return trainer.result, last.losses["generator"]


def learned(name: str, way: str, steps: int, seed: int) -> dict[str, float]:
    """What is measured of a run after its steps."""
    (model, generator), (train, held_out) = trained(name, way, steps, seed), load(RECIPES[name].data)
    torch.manual_seed(0)
    found = measured(model, train, held_out.some(HELD_OUT)) | {"generator": generator}
    return {metric: round(found[metric], 5) for metric in METRICS}


def measure(runs: tuple = RUNS) -> dict:
    """The ways take turns, and each has every seed."""
    todo = [(name, way, steps, seed) for name, steps, seeds, ways in runs for seed in range(seeds) for way in ways]
    found = [
        {"recipe": name, "way": way, "steps": steps, "seed": seed, **learned(name, way, steps, seed)}
        for name, way, steps, seed in tqdm(todo, unit=" runs", disable=None)
    ]
    return {"device": device(), "held_out": HELD_OUT, "measured": found}


def _apart(one: list[float], other: list[float]) -> str:
    """How many standard errors the means of two samples are apart, and which is the larger."""
    error = (statistics.variance(one) / len(one) + statistics.variance(other) / len(other)) ** 0.5
    return f"{(statistics.mean(other) - statistics.mean(one)) / error:+.1f}" if error else "0"


def _cells(values: dict[str, list[float]], ways: tuple[str, ...]) -> Iterator[str]:
    """Of each way mean and standard deviation, and how far it is from the first; nothing where it was not tried."""
    for way in ways:
        numbers = values.get(way)
        yield f"{few(statistics.mean(numbers))} ± {few(statistics.stdev(numbers))}" if numbers else ""
        if way != FIRST:
            yield _apart(values[FIRST], numbers) if numbers else ""


def told(found: dict) -> list[str]:
    rows, lengths = [], {row["recipe"]: row["steps"] for row in found["measured"]}
    ways = tuple(dict.fromkeys(row["way"] for row in found["measured"]))
    for name in lengths:
        for metric in METRICS:
            values: dict[str, list[float]] = {}
            for row in found["measured"]:
                if row["recipe"] == name:
                    values.setdefault(row["way"], []).append(row[metric])
            rows.append([name, metric, len(values[FIRST]), *_cells(values, ways)])
    return [
        "The same recipe, seeds and steps: with PyTorch's own layers, with ours (`alikit/convolutions.py`), in "
        "bfloat16, and by two processes; mean and standard deviation over seeds, and how many standard errors the mean "
        "is from that of the library's layers: about one in twenty is more than 2 by chance alone. Coins of dropout "
        "are others in each, and so is the noise of two processes, so single runs differ. Of "
        f"{found['held_out']} held-out examples; `generator` is its mean loss over the last tenth of the steps. Steps: "
        + ", ".join(f"{name} {number}" for name, number in lengths.items())
        + ".",
        table(
            [
                "recipe",
                "measure",
                "seeds",
                *(cell for way in ways for cell in ([way] if way == FIRST else [way, "apart"])),
            ],
            rows,
        ),
    ]
