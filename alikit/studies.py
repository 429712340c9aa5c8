"""Studies, as data: several recipes side by side, each run many times. `alikit study NAME` runs one, see workers.py.

To add a study, add a row to STUDIES.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

REPORTS, MEASURED_EVERY = 30, 100  # measurements along each run, and the least number of steps between two


def as_they_are(run: int) -> dict:
    """No settings drawn: the runs differ in their seeds alone."""
    return {}


def at_random(run: int) -> dict:
    """The random settings of one run, the same for every arm (paper section 4.5, which does not state its ranges).

    lr          log-uniform in 1e-5 … 1e-3, a factor of ten either way of the published 1e-4
    beta1       uniform in 0 … 0.9, which holds both readings of the published 0.8
    weight_std  log-uniform in 0.004 … 0.1, a factor of five either way of the published 0.02
    """
    draw = random.Random(run)
    lr, beta1, std = 10 ** draw.uniform(-5, -3), draw.uniform(0, 0.9), 0.02 * 5 ** draw.uniform(-1, 1)
    return {"lr": float(f"{lr:.4g}"), "betas": (round(beta1, 4), 0.999), "weight_std": float(f"{std:.4g}")}


@dataclass(frozen=True)
class Study:
    """What is compared: `arms`, each a recipe's name and what is changed in it; and the settings drawn for each run.

    Run k has seed first_seed + k in every arm. `steps` is the length of a run.
    """

    summary: str
    arms: dict[str, tuple[str, dict]]
    steps: int
    runs: int
    draw: Callable[[int], dict] = as_they_are
    first_seed: int = 0


STUDIES = {
    "mixture": Study(
        "ALI against GAN on 25 Gaussians, random settings (paper section 4.5)",
        {"ali": ("mixture-ali-paper", {}), "gan": ("mixture-gan-paper", {})},
        steps=30_000,
        runs=10,
        draw=at_random,
    ),
    "mixture-published": Study(
        "the published single setting, with both readings of its beta1",
        {
            f"{game}-beta1-{beta1}": (f"mixture-{game}-paper", {"betas": (beta1, 0.999)})
            for beta1 in (0.8, 0.2)
            for game in ("ali", "gan")
        },
        steps=30_000,
        runs=1,
    ),
    "mixture-solved": Study(
        "the recipe that solves the grid, on fresh seeds",
        {"ali": ("mixture-ali", {})},
        steps=30_000,
        runs=20,
        first_seed=2000,
    ),
    "mixture-running-bn": Study(
        "the recipe that solves the grid as it first was, with batch norm's running statistics",
        {"ali": ("mixture-ali", {"precise_bn": False})},
        steps=30_000,
        runs=21,
        first_seed=1000,
    ),
    "mixture-ablation": Study(
        "the recipe that solves the grid, with one thing changed at a time",
        {
            "recipe": ("mixture-ali", {}),
            "no-r1": ("mixture-ali", {"r1": 0.0}),
            "no-averaging": ("mixture-ali", {"averaging": 0.0}),
            "running-bn": ("mixture-ali", {"precise_bn": False}),
            "no-decay": ("mixture-ali", {"decay": False}),
            "beta1-0.5": ("mixture-ali", {"betas": (0.5, 0.999)}),
            "weight-std-0.05": ("mixture-ali", {"weight_std": 0.05}),
            "batch-400": ("mixture-ali", {"batch_size": 400}),
            "noise-encoder": ("mixture-ali-noise", {}),
            "gan": ("mixture-gan", {}),
        },
        steps=10_000,
        runs=3,
    ),
}
