"""Every recipe's first steps in a process of its own, by the way that `alikit train` takes; prints what came of them.

    python tests/faults/twenty_steps.py FOLDER [RECIPE...]

One JSON object: by recipe the checksums of weights and checkpoint, and the losses of every step; for some recipes the
same with two threads, as "RECIPE, 2 threads"; and as "alikit train" those of each file that the command leaves behind.
"""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

from alikit import runs
from alikit.__main__ import app
from alikit.data import Dataset, digits
from alikit.recipes import PAPER_CELEBA, PAPER_CIFAR10, PAPER_SVHN, PAPER_TINY_IMAGENET, RECIPES, Recipe
from alikit.training import Progress

STEPS = 20
OF_THE_PAPER = 20 if "ALIKIT_SOAK" in os.environ else 1  # its networks take a second a step however small the batch
LARGE = (PAPER_CIFAR10, PAPER_SVHN, PAPER_CELEBA, PAPER_TINY_IMAGENET)
WITH_THREADS = 5  # steps
BATCH, EXAMPLES, CLASSES, ATTRIBUTES = 4, 20, 10, 14  # five batches an epoch
GANS = {"mixture": "mixture-gan-paper", "house-numbers": "house-numbers-gan"}  # whose decoders other recipes freeze
KINDS = ("mixture-ali", "mixture-gan-paper", "mixture-post-hoc", "digits-semi", "digits-conditional", "house-numbers")


def small(recipe: Recipe) -> Dataset:
    """A few examples of the shape that the recipe's networks take, with classes or attributes where it wants them."""
    chance, size = torch.Generator().manual_seed(0), recipe.networks.size
    if size is None:
        return Dataset("points", torch.randn(EXAMPLES, 2, generator=chance))
    if size == 8:
        return digits().select(slice(5 * EXAMPLES))
    x = torch.randint(256, (EXAMPLES, 3, size, size), dtype=torch.uint8, generator=chance)
    if recipe.is_conditional:
        y = torch.randint(2, (EXAMPLES, ATTRIBUTES), dtype=torch.uint8, generator=chance)
        return Dataset("pictures", x, y, tuple(map(str, range(ATTRIBUTES))))
    return Dataset("pictures", x, torch.arange(EXAMPLES) % CLASSES, tuple(map(str, range(CLASSES))))


def settings_of(name: str, data: Dataset, seed: int = 0, decoder: Path | None = None) -> dict:
    recipe = RECIPES[name]
    few = {"batch_size": BATCH, "labels": CLASSES, "labelled_batch": BATCH if recipe.has_labels else 0}
    return {
        **{"recipe": name, "data": recipe.data, "size": None, "skip_corrupt": False, "seed": seed, "steps": STEPS},
        **{**runs.trained_with(recipe), **few},
        "bf16": False,  # a processor that has both finds out by timing which is quicker, and time is never the same
        **{"decoder": str(decoder) if decoder else None, "x_shape": data.shape},
        "number_of_classes": runs.number_of_classes(data),
        "number_of_attributes": runs.number_of_attributes(data),
    }


def what_it_computes(name: str) -> Recipe:
    """The row without what a run on few examples does not depend on: of rows that are then the same, one is enough."""
    recipe = RECIPES[name]
    return replace(recipe, summary="", data=recipe.data if recipe.needs_decoder else "", steps=0, labels=0)


def checksum(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def run(name: str, folder: Path, steps: int) -> dict:
    """Trains in `folder`; what came of it. After a single step weights tell all that a checkpoint would."""
    recipe = RECIPES[name]
    data = small(recipe)
    settings = settings_of(name, data, decoder=folder.parent / GANS[recipe.data] if recipe.needs_decoder else None)
    runs.create(folder, settings)
    trainer, losses = runs.trainer(settings, data), []

    def watch(progress: Progress) -> None:
        losses.append(progress.losses)

    trainer.run(steps, every=1, watch=watch)
    if steps > 1:
        runs.save(folder, trainer)
    else:
        runs.save_weights(folder, trainer.result.state_dict())
    found = {file.name: checksum(file) for file in folder.iterdir() if file.name != "settings.json"}
    if name not in GANS.values():
        shutil.rmtree(folder)  # those of the paper's networks are large
    return {**found, "losses": losses}


def command(folder: Path) -> dict:
    """Of `alikit train`, the checksum of each file, but of the log what no clock has part in."""
    os.chdir(folder)
    sys.argv = ["alikit", "train", "digits", "--steps", str(STEPS), "--out", "run"]
    app(sys.argv[1:], standalone_mode=False)
    found = {file.name: checksum(file) for file in Path("run").iterdir() if file.name != "metrics.jsonl"}
    clock = {"images_per_second", "seconds"}
    log = [{name: line[name] for name in line.keys() - clock} for line in runs.metrics(Path("run"))]
    return {**found, "metrics.jsonl": [sorted(line.items()) for line in log]}


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    found: dict[str, dict] = {}
    torch.set_num_threads(1)
    done: dict[Recipe, str] = {}
    for name in names or RECIPES:
        alike = done.setdefault(what_it_computes(name), name)
        steps = OF_THE_PAPER if RECIPES[name].networks in LARGE else STEPS
        found[name] = found[alike] if alike != name else run(name, folder / "one" / name, steps)
    if not names:
        torch.set_num_threads(2)
        found |= {f"{name}, 2 threads": run(name, folder / "two" / name, WITH_THREADS) for name in KINDS}
        found["alikit train"] = command(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
