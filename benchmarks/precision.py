"""Whether what makes a step quicker changes what is learned. `alikit bench precision` writes what it finds."""

import statistics
from dataclasses import replace

import torch
from tqdm import tqdm

from alikit.data import load
from alikit.evaluation import measured
from alikit.recipes import RECIPES

from .common import device, few, table

# Recipe, steps, seeds, and the ways to compute that are compared with the first of them: {name: (plain, bf16)}.
WAYS = {"library layers": (True, False), "ours": (False, False), "bfloat16": (False, True)}
RUNS = (
    ("digits", 400, 5, ("library layers", "ours", "bfloat16")),
    ("house-numbers", 150, 3, ("library layers", "ours")),
)
METRICS = ("reconstruction_mean", "codes_sigma", "codes_cycle", "generator")
HELD_OUT = 297
TITLE = "Is the same learned?"


def learned(recipe_name: str, way: str, steps: int, seed: int) -> dict[str, float]:
    """What is measured of a run after its steps, and the generator's loss over the last tenth of them."""
    plain, bf16 = WAYS[way]
    train, held_out = load(RECIPES[recipe_name].data)
    torch.manual_seed(seed)
    recipe = replace(RECIPES[recipe_name], plain=plain, bf16=False)
    trainer = recipe.trainer(recipe.build(train.shape, train.mean()).to(device()), train, seed)
    trainer.bf16 = bf16
    last = trainer.run(steps, every=max(1, steps // 10))[-1]
    torch.manual_seed(0)
    found = measured(trainer.result, train, held_out.some(HELD_OUT)) | {"generator": last.losses["generator"]}
    return {name: found[name] for name in METRICS}


def measure(runs: tuple = RUNS) -> dict:
    """The ways take turns, and each has every seed."""
    found = []
    todo = [(name, steps, seed, way) for name, steps, seeds, ways in runs for seed in range(seeds) for way in ways]
    for name, steps, seed, way in tqdm(todo, unit=" runs", disable=None):
        line = {"recipe": name, "steps": steps, "seed": seed, "way": way}
        found.append(line | {key: round(value, 5) for key, value in learned(name, way, steps, seed).items()})
    return {"device": device(), "held_out": HELD_OUT, "measured": found}


def _apart(one: list[float], other: list[float]) -> str:
    """How many standard errors the means of two samples are apart, and which is the larger."""
    error = (statistics.variance(one) / len(one) + statistics.variance(other) / len(other)) ** 0.5
    return f"{(statistics.mean(other) - statistics.mean(one)) / error:+.1f}" if error else "0"


def told(found: dict) -> list[str]:
    rows, steps = [], {row["recipe"]: row["steps"] for row in found["measured"]}
    for name in dict.fromkeys(row["recipe"] for row in found["measured"]):
        own = [row for row in found["measured"] if row["recipe"] == name]
        first, *others = dict.fromkeys(row["way"] for row in own)
        values = {
            way: {metric: [row[metric] for row in own if row["way"] == way] for metric in METRICS}
            for way in (first, *others)
        }
        for metric in METRICS:
            spreads = [
                f"{few(statistics.mean(values[way][metric]))} ± {few(statistics.stdev(values[way][metric]))}"
                for way in (first, *others)
            ]
            apart = [_apart(values[first][metric], values[way][metric]) for way in others]
            cells = [cell for pair in zip(spreads[1:], apart, strict=True) for cell in pair]
            rows.append([name, metric, len(values[first][metric]), spreads[0], *cells, *[""] * (4 - len(cells))])
    return [
        "The same recipe, seeds and steps: with PyTorch's own layers, with ours (`alikit/convolutions.py`), and in "
        "bfloat16; mean and standard deviation over seeds, and how many standard errors the mean is from that of the "
        f"library's layers. Dropout's coins are others in each, so single runs differ. Of {found['held_out']} held-out "
        "examples; `generator` is its mean loss over the last tenth of the steps. Steps: "
        + ", ".join(f"{name} {number}" for name, number in steps.items())
        + ".",
        table(
            ["recipe", "measure", "seeds", "library layers", "ours", "apart", "bfloat16", "apart"],
            rows,
        ),
    ]
