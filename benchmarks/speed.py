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
from torch.utils.flop_counter import FlopCounterMode

from alikit.errors import AlikitError
from alikit.recipes import RECIPES
from alikit.training import Trainer

from .common import device, in_turn, stand_in, summary
from .step import trainer

ROUNDS = 9


def _trainer(name: str, batch: int | None = None, library: bool = False) -> Trainer:
    recipe = replace(RECIPES[name], batch_size=batch or RECIPES[name].batch_size)
    return trainer(recipe, stand_in(recipe, 4 * recipe.batch_size), library)


def _precision(of: Trainer) -> str:
    return "bfloat16" if of.bf16 else "float32"


# Batches.


def batch(
    seconds: float = 90.0,
    names: tuple[str, ...] = ("cifar10-small", "mixture-ali-paper"),  # pictures by the laptop networks, and the toy
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256),
) -> dict:
    """Examples a second against the size of the batch: pictures by the laptop networks, and the toy."""
    torch.manual_seed(0)
    trainers = {(name, size): _trainer(name, size) for name in names for size in batches}
    rates = in_turn({key: one.one_step for key, one in trainers.items()}, seconds, ROUNDS)
    measured = [
        {
            "recipe": name,
            "batch": size,
            "precision": _precision(trainers[name, size]),
            "images_per_second": summary([rate * size for rate in found]),
        }
        for (name, size), found in rates.items()
    ]
    return {"seed": 0, "seconds": seconds, "device": device(), "measured": measured}


# Sizes of pictures.

FAMILIES = {
    "laptop networks": ("digits", "cifar10-small"),
    "the paper's networks": ("svhn", "cifar10", "tiny-imagenet", "celeba"),
}


def size(
    seconds: float = 60.0,
    families: dict[str, tuple[str, ...]] = FAMILIES,
    batch: int = 16,  # for all alike: of 100 pictures a step of celeba takes half a minute on a slow core
    rounds: int = 7,
) -> dict:
    """Pictures a second against their size, of recipes with 8, 32 and 64 pixels a side; slow ones take longer."""
    torch.manual_seed(0)
    trainers, gflop = {name: _trainer(name, batch) for names in families.values() for name in names}, {}
    for name, one in trainers.items():
        with FlopCounterMode(display=False) as counter:
            one.one_step()
        gflop[name] = counter.get_total_flops() / 1e9 / batch
    rates = in_turn({name: one.one_step for name, one in trainers.items()}, seconds, rounds)
    measured = [
        {
            "networks": family,
            "recipe": name,
            "size": RECIPES[name].networks.size,
            "precision": _precision(trainers[name]),
            "gflop_an_image": round(gflop[name], 4),
            "images_per_second": summary([rate * batch for rate in rates[name]]),
            "ms_an_image": summary([1000 / rate / batch for rate in rates[name]]),
        }
        for family, names in families.items()
        for name in names
    ]
    return {"seed": 0, "seconds": seconds, "batch": batch, "device": device(), "measured": measured}


# torch.compile.

WAYS = {  # name: whether the layers are the library's, as with --float32, and whether networks are compiled
    "ours": (False, False),
    "ours, compiled": (False, True),
    "library layers": (True, False),
    "library layers, compiled": (True, True),
}
STEPS = 3  # until everything is compiled, backward too, and Adam has its averages
VERSIONS = 64  # of a function that is compiled for each of its layers; the default of 8 gives larger networks up


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
        why = str(error).strip().splitlines()[0]
        raise AlikitError(f"torch.compile failed on {name}: {why}") from None
    return made, time.perf_counter() - begin


def compiled(
    seconds: float = 120.0,
    names: tuple[str, ...] = ("mixture-ali-paper", "digits", "cifar10-small"),
    rounds: int = ROUNDS,
) -> dict:
    """Whether torch.compile pays for our training step. Some minutes, most of them its own; wants a C++ compiler."""
    torch._logging.set_logs(all=logging.ERROR)  # or it says something of each version
    try:
        with (
            tempfile.TemporaryDirectory() as cache,
            patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache),
            torch._dynamo.config.patch(recompile_limit=VERSIONS),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            begun = {(name, way): _begun(name, *how) for name in names for way, how in WAYS.items()}
            rates = in_turn({key: one.one_step for key, (one, _) in begun.items()}, seconds, rounds)
    finally:
        torch._logging.set_logs()
    measured = [
        {
            "recipe": name,
            "batch": RECIPES[name].batch_size,
            "way": way,
            "first_seconds": float(f"{begun[name, way][1]:.4g}"),
            "images_per_second": summary([RECIPES[name].batch_size * rate for rate in found]),
            "over_ours": summary([rate / ours for rate, ours in zip(found, rates[name, "ours"], strict=True)]),
        }
        for (name, way), found in rates.items()
    ]
    return {"seed": 0, "seconds": seconds, "rounds": rounds, "device": device(), "measured": measured}
