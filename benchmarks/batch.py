"""Pictures a second of our training step against the size of the batch. `alikit bench batch` writes what it finds."""

from dataclasses import replace

import torch
from matplotlib.figure import Figure

from alikit.recipes import RECIPES

from .common import device, in_turn, line, log_axes, spread, stand_in, summary, table

NAMES = ("cifar10-small", "mixture-ali-paper")  # pictures by the laptop networks, and the toy
BATCHES = (8, 16, 32, 64, 128, 256)
ROUNDS = 9
TITLE = "Batch size"


def measure(seconds: float = 90.0, names: tuple[str, ...] = NAMES, batches: tuple[int, ...] = BATCHES) -> dict:
    """Examples a second of each recipe with each batch, in turn for about `seconds`; a step of ours fetches its own."""
    torch.manual_seed(0)
    jobs, precision = {}, {}
    for name in names:
        for batch in batches:
            recipe = replace(RECIPES[name], batch_size=batch)
            data = stand_in(recipe, 4 * batch)
            trainer = recipe.trainer(recipe.build(data.shape, data.mean()).to(device()).train(), data)
            jobs[name, batch], precision[name] = trainer.one_step, "bfloat16" if trainer.bf16 else "float32"
    rates = in_turn(jobs, seconds, ROUNDS)
    measured = [
        {
            "recipe": name,
            "batch": batch,
            "precision": precision[name],
            "images_per_second": summary([rate * batch for rate in found]),
        }
        for (name, batch), found in rates.items()
    ]
    return {"seed": 0, "seconds": seconds, "device": device(), "measured": measured}


def _lines(found: dict) -> dict[str, dict[int, dict]]:
    lines: dict[str, dict[int, dict]] = {}
    for row in found["measured"]:
        lines.setdefault(row["recipe"], {})[row["batch"]] = row["images_per_second"]
    return lines


def draw(found: dict) -> Figure:
    figure, axes = log_axes((row["batch"] for row in found["measured"]), "examples in a batch", "examples a second")
    for look, (name, points) in enumerate(_lines(found).items()):
        line(axes, points, look, name)
    axes.legend(fontsize="small", frameon=False)
    return figure


def told(found: dict) -> list[str]:
    lines = _lines(found)
    batches = sorted({row["batch"] for row in found["measured"]})
    rows = [[name, *(spread(points[batch]) for batch in batches)] for name, points in lines.items()]
    precision = {row["recipe"]: row["precision"] for row in found["measured"]}
    return [
        "![Examples a second against the size of the batch](batch.png)",
        f"*Examples a second of one training step, on {found['device']}: "
        + ", ".join(f"{name} in {precision[name]}" for name in lines)
        + ". Median and quartiles; the batches take turns. An example is a picture of 32x32, or a point of the toy.*",
        table(["examples a second, by batch", *batches], rows),
    ]
