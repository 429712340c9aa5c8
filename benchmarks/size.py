"""Pictures a second of our training step against the size of a picture. `alikit bench size` writes what it finds."""

from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from alikit.recipes import RECIPES

from .common import device, in_turn, line, log_axes, spread, stand_in, summary, table

FAMILIES = {
    "laptop networks": ("digits", "cifar10-small"),
    "the paper's networks": ("svhn", "cifar10", "tiny-imagenet", "celeba"),
}
BATCH = 16  # for all alike: of 100 pictures a step of celeba takes half a minute on a slow core
ROUNDS = 7
TITLE = "Picture size"


def measure(
    seconds: float = 60.0, families: dict[str, tuple[str, ...]] = FAMILIES, batch: int = BATCH, rounds: int = ROUNDS
) -> dict:
    """Pictures a second of each recipe, in turn; each at least once a round, which may take longer than `seconds`."""
    torch.manual_seed(0)
    jobs, gflop, bf16 = {}, {}, {}
    for name in (name for names in families.values() for name in names):
        recipe = replace(RECIPES[name], batch_size=batch)
        data = stand_in(recipe, 4 * batch)
        trainer = recipe.trainer(recipe.build(data.shape, data.mean()).to(device()).train(), data)
        with FlopCounterMode(display=False) as counter:
            trainer.one_step()
        jobs[name], gflop[name] = trainer.one_step, counter.get_total_flops() / 1e9 / batch
        bf16[name] = trainer.bf16
    rates = in_turn(jobs, seconds, rounds)
    measured = [
        {
            "networks": family,
            "recipe": name,
            "size": RECIPES[name].networks.size,
            "precision": "bfloat16" if bf16[name] else "float32",
            "gflop_an_image": round(gflop[name], 4),
            "images_per_second": summary([rate * batch for rate in rates[name]]),
            "ms_an_image": summary([1000 / rate / batch for rate in rates[name]]),
        }
        for family, names in families.items()
        for name in names
    ]
    return {"seed": 0, "seconds": seconds, "batch": batch, "device": device(), "measured": measured}


def draw(found: dict) -> Figure:
    """A point a recipe, beside it its name; no line between them, for the networks differ as well."""
    rows = found["measured"]
    sizes = [row["size"] for row in rows]
    figure, axes = log_axes(sizes, "pixels a side", "pictures a second")
    for look, family in enumerate(dict.fromkeys(row["networks"] for row in rows)):
        name = family
        for row in rows:
            if row["networks"] == family:
                line(axes, {row["size"]: row["images_per_second"]}, look, name, linestyle="none")
                name = None  # in the legend once
    for size in set(sizes):
        # Names stand to the right of the points, but of the largest to the left, and of every other that lies close.
        same = sorted((row for row in rows if row["size"] == size), key=lambda row: row["images_per_second"]["median"])
        for number, row in enumerate(same):
            side, offset = ("right", -8) if size == max(sizes) or number % 2 else ("left", 8)
            place = size, row["images_per_second"]["median"]
            axes.annotate(
                row["recipe"], place, (offset, 0), textcoords="offset points", ha=side, va="center", size="small"
            )
    axes.legend(fontsize="small", frameon=False)
    return figure


def told(found: dict) -> list[str]:
    rows = [
        [
            row["recipe"],
            row["networks"],
            f"{row['size']}x{row['size']}",
            spread(row["images_per_second"]),
            spread(row["ms_an_image"]),
            f"{row['gflop_an_image']:.3g}",
        ]
        for row in found["measured"]
    ]
    head = ["recipe", "networks", "pictures", "pictures a second", "ms a picture", "GFLOP a picture, as made"]
    return [
        "![Pictures a second against their size](size.png)",
        f"*Pictures a second of one training step in batches of {found['batch']}, on {found['device']}. Each recipe "
        "has the size that its networks are made for, so these are other networks too, not the same with more pixels. "
        "Median and quartiles; the recipes take turns. GFLOP are those of the products that ours makes in such "
        "batches, see the table of steps.*",
        table(head, rows),
    ]
