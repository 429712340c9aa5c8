"""Examples a second of our training step: against the size of the batch, of a picture, and compiled by torch.compile.

Each recipe trains on stand-ins of its own shape; the jobs take turns.
"""

import logging
import os
import tempfile
import time
import warnings
from dataclasses import replace
from unittest.mock import patch

import torch

from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.training import Trainer

from .common import device, in_turn, stand_in, summary
from .step import gflop, trainer

ROUNDS = 9
PAPER = ("svhn", "cifar10", "tiny-imagenet", "celeba")
FAMILIES = {"laptop networks": ("digits", "cifar10-small"), "the paper's networks": PAPER}
# By name: whether the layers are the library's, as with --float32, and whether networks are compiled.
WAYS = {"ours": (False, False), "ours, compiled": (False, True)}
WAYS |= {"library layers": (True, False), "library layers, compiled": (True, True)}
STEPS = 3  # until everything is compiled, backward too, and Adam has its averages
VERSIONS = 64  # of a function that is compiled for each of its layers; larger networks exceed the default of 8


def _trainer(name: str, batch: int | None = None, library: bool = False) -> Trainer:
    recipe = replace(RECIPES[name], batch_size=batch or RECIPES[name].batch_size)
    return trainer(recipe, stand_in(recipe, 4 * recipe.batch_size), library)


def _rows(trainers: dict[tuple, Trainer], seconds: float, rounds: int) -> dict[tuple, tuple[dict, list[float]]]:
    """A row for each trainer, and its examples a second in each round; keys end with the name of a recipe."""
    rates, found = in_turn({key: one.one_step for key, one in trainers.items()}, seconds, rounds), {}
    for key, one in trainers.items():
        size, precision = one.config.batch_size, "bfloat16" if one.bf16 else "float32"
        examples = [size * rate for rate in rates[key]]
        row = {"recipe": key[-1], "batch": size, "precision": precision, "images_per_second": summary(examples)}
        found[key] = row, examples
    return found


def batch(
    seconds: float = 90.0,
    names: tuple[str, ...] = ("cifar10-small", "mixture-ali-paper"),
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256),
) -> dict:
    """Examples a second against the size of the batch: pictures by the laptop networks, and the toy."""
    torch.manual_seed(0)
    trainers = {(size, name): _trainer(name, size) for name in names for size in batches}
    measured = [row for row, _ in _rows(trainers, seconds, ROUNDS).values()]
    return {"seed": 0, "seconds": seconds, "device": device(), "measured": measured}


def size(
    seconds: float = 60.0, families: dict[str, tuple[str, ...]] = FAMILIES, batch: int = 16, rounds: int = 7
) -> dict:
    """Pictures a second against their size, of recipes with 8, 32 and 64 pixels a side; slow ones take longer.

    The batch is the same for all, and small: with 100 pictures a step of celeba takes half a minute on a slow core.
    """
    torch.manual_seed(0)
    trainers = {(family, name): _trainer(name, batch) for family, names in families.items() for name in names}
    cost = {key: round(gflop(one.one_step) / batch, 4) for key, one in trainers.items()}
    measured = []
    for (family, name), (row, examples) in _rows(trainers, seconds, rounds).items():
        side = {"networks": family, "size": RECIPES[name].networks.size, "gflop_an_image": cost[family, name]}
        measured.append({**side, **row, "ms_an_image": summary([1000 / rate for rate in examples])})
    return {"seed": 0, "seconds": seconds, "batch": batch, "device": device(), "measured": measured}


def _begun(name: str, library: bool, compiled: bool) -> tuple[Trainer, float]:
    """A trainer that has done its first steps, and the seconds that they took."""
    torch.manual_seed(0)
    made = _trainer(name, library=library)
    if compiled:  # what the players' networks do, forward and backward; the losses around them stay
        for network in made.model.children():
            network.forward = torch.compile(network.forward, dynamic=False)
    begin = time.perf_counter()
    try:
        for _ in range(STEPS):
            made.one_step()
    except RuntimeError as error:  # the compiler's errors are kinds of it
        raise AlikitError(f"torch.compile failed on {name}: {str(error).strip().splitlines()[0]}") from None
    return made, float(f"{time.perf_counter() - begin:.4g}")


def compiled(
    seconds: float = 120.0,
    names: tuple[str, ...] = ("mixture-ali-paper", "digits", "cifar10-small"),
    rounds: int = ROUNDS,
) -> dict:
    """Whether torch.compile pays for our training step. Some minutes, most of them its own; wants a C++ compiler."""
    torch._logging.set_logs(all=logging.ERROR)  # otherwise it says something of each version
    try:
        with (
            tempfile.TemporaryDirectory() as cache,
            patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache),
            torch._dynamo.config.patch(recompile_limit=VERSIONS),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            begun = {(way, name): _begun(name, *how) for name in names for way, how in WAYS.items()}
            found = _rows({key: one for key, (one, _) in begun.items()}, seconds, rounds)
    finally:
        torch._logging.set_logs()
    measured = []
    for (way, name), (row, examples) in found.items():
        over = [rate / ours for rate, ours in zip(examples, found["ours", name][1], strict=True)]
        first = begun[way, name][1]
        measured.append({"way": way, **row, "over_ours": summary(over), "first_seconds": first})
    return {"seed": 0, "seconds": seconds, "rounds": rounds, "device": device(), "measured": measured}
