"""Whether what makes a step quicker changes what is learned. `alikit bench precision` writes what it finds."""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from alikit.data import load
from alikit.evaluation import measured
from alikit.models import Game
from alikit.recipes import RECIPES
from alikit.runs import load_model, metrics

from .common import device, few, process, table
from .step import trainer

LIBRARY, OURS, BF16, TOGETHER = "library layers", "ours", "bfloat16", "two processes"
# Recipe, steps, seeds, and the ways to compute, which are compared with the first of them.
RUNS = (("digits", 400, 16, (LIBRARY, OURS, BF16, TOGETHER)), ("house-numbers", 150, 3, (LIBRARY, OURS)))
METRICS = ("reconstruction_mean", "codes_sigma", "codes_kl", "codes_energy", "codes_cycle", "generator")
HELD_OUT = 297


def _trained(name: str, way: str, steps: int, seed: int) -> tuple[Game, float]:
    """A model, and its generator's mean loss over about the last tenth of the steps."""
    if way == TOGETHER:
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "run"
            options = ["--steps", steps, "--seed", seed, "--out", out, "--devices", 2]
            process("-m", "alikit", "train", name, *options, failure=f"no run of two processes of {name}")
            losses = [line["generator"] for line in metrics(out) if "generator" in line]
            return load_model(out), statistics.mean(losses[-max(1, len(losses) // 10) :])
    torch.manual_seed(seed)
    loop = trainer(replace(RECIPES[name], bf16=False), load(RECIPES[name].data)[0], library=way == LIBRARY, seed=seed)
    loop.bf16 = way == BF16
    last = loop.run(steps, every=max(1, steps // 10))[-1]
    return loop.result, last.losses["generator"]


def precision(runs: tuple = RUNS) -> dict:
    """Whether the same is learned by the library's layers, by ours, in bfloat16, and by two processes. Half an hour.

    The ways take turns, and each has every seed.
    """
    todo = [(name, way, steps, seed) for name, steps, seeds, ways in runs for seed in range(seeds) for way in ways]
    rows = []
    for name, way, steps, seed in tqdm(todo, unit=" runs", disable=None):
        model, generator = _trained(name, way, steps, seed)
        train, held_out = load(RECIPES[name].data)
        torch.manual_seed(0)
        found = measured(model, train, held_out.some(HELD_OUT)) | {"generator": generator}
        of_run = {"recipe": name, "way": way, "steps": steps, "seed": seed}
        rows.append(of_run | {metric: round(found[metric], 5) for metric in METRICS})
    return {"device": device(), "held_out": HELD_OUT, "measured": rows}


def compared(one: list[float], other: list[float]) -> str:
    """Mean and standard deviation of `other`, and how many standard errors its mean is above that of `one`."""
    error = (statistics.variance(one) / len(one) + statistics.variance(other) / len(other)) ** 0.5
    away = (statistics.mean(other) - statistics.mean(one)) / error if error else 0.0
    text = f"{few(statistics.mean(other))} ± {few(statistics.stdev(other))}"
    return text if one is other else f"{text} ({away:+.1f})"


def tables(found: dict) -> list[str]:
    """A row for each recipe and metric, a column for each way."""
    rows: dict[tuple, dict] = {}
    for run in found["measured"]:
        for metric in METRICS:
            ways = rows.setdefault((run["recipe"], run["steps"], metric), {})
            ways.setdefault(run["way"], []).append(run[metric])
    lines = []
    for (name, steps, metric), ways in rows.items():
        about = {"recipe": name, "steps": steps, "measure": metric, "seeds": len(ways[LIBRARY])}
        lines.append(about | {way: compared(ways[LIBRARY], values) for way, values in ways.items()})
    return [table(lines)]
