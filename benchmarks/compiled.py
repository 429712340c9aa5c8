"""Whether torch.compile pays: our training step as it is, and with its networks compiled. `alikit bench compiled`
writes what it finds."""

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch

from alikit.errors import AlikitError
from alikit.models import Game
from alikit.recipes import RECIPES
from alikit.training import Trainer

from .common import device, few, in_turn, spread, stand_in, summary, table

NAMES = ("mixture-ali-paper", "digits", "cifar10-small")
WAYS = {  # name: whether the layers are the library's, as with --float32, and whether networks are compiled
    "ours": (False, False),
    "ours, compiled": (False, True),
    "library layers": (True, False),
    "library layers, compiled": (True, True),
}
STEPS = 3  # until all that is to be compiled is, backward too, and Adam has its averages
VERSIONS = 64  # of a function that is compiled for each of its layers; the default of 8 gives larger networks up
ROUNDS = 9
TITLE = "Does torch.compile pay?"


def compile_networks(model: Game) -> None:
    """Compiles what the players' networks do forward and backward, at the first batch; the losses around them stay."""
    for network in model.children():
        network.forward = torch.compile(network.forward, dynamic=False)


def trainer(name: str, library: bool, compiled: bool) -> tuple[Trainer, float]:
    """A trainer that has done its first steps, and the seconds that they took."""
    torch.manual_seed(0)
    recipe = replace(RECIPES[name], plain=library)
    data = stand_in(recipe, 4 * recipe.batch_size)
    made = recipe.trainer(recipe.build(data.shape, data.mean()).to(device()).train(), data)
    if compiled:
        compile_networks(made.model)
    begin = time.perf_counter()
    try:
        for _ in range(STEPS):
            made.one_step()
    except RuntimeError as error:  # of which the compiler's errors are kinds
        why = str(error).strip().splitlines()[0]
        raise AlikitError(f"torch.compile failed on {name}: {why}") from None
    return made, time.perf_counter() - begin


@contextmanager
def _afresh() -> Iterator[None]:
    """Lets the compiler begin from nothing, make as many versions as there are layers, and say nothing of each."""
    torch._logging.set_logs(all=logging.ERROR)
    versions = torch._dynamo.config.patch(recompile_limit=VERSIONS)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder),
            versions,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            yield
    finally:
        torch._logging.set_logs()


def measure(seconds: float = 120.0, names: tuple[str, ...] = NAMES, rounds: int = ROUNDS) -> dict:
    """Examples a second of each recipe in each way, in turn for about `seconds` after all is compiled."""
    jobs, first = {}, {}
    with _afresh():
        for name in names:
            for way, (library, compiled) in WAYS.items():
                made, first[name, way] = trainer(name, library, compiled)
                jobs[name, way] = made.one_step
        rates = in_turn(jobs, seconds, rounds)
    measured = [
        {
            "recipe": name,
            "batch": RECIPES[name].batch_size,
            "way": way,
            "first_seconds": float(f"{first[name, way]:.4g}"),
            "images_per_second": summary([RECIPES[name].batch_size * rate for rate in found]),
            "over_ours": summary([rate / ours for rate, ours in zip(found, rates[name, "ours"], strict=True)]),
        }
        for (name, way), found in rates.items()
    ]
    return {"seed": 0, "seconds": seconds, "rounds": rounds, "device": device(), "measured": measured}


def told(found: dict) -> list[str]:
    rows, pays = [], []
    for row in found["measured"]:
        rate, ratio = spread(row["images_per_second"]), spread(row["over_ours"])
        rows.append([row["recipe"], row["batch"], row["way"], rate, ratio, few(row["first_seconds"])])
        if WAYS[row["way"]][1] and row["over_ours"]["lower_quartile"] > 1:
            pays.append(f"{row['recipe']} ({row['way']})")
    where = f"it pays for {', '.join(pays)}" if pays else "it pays for none of these"
    return [
        f"**On {found['device']} {where}**: examples a second of one training step as it is, and with each network "
        "compiled by torch.compile for its fixed shapes; median and quartiles of "
        f"{found['rounds']} rounds in turn. It is said to pay where even the lower quartile is above ours. Library "
        f"layers are those of `--float32`. In the first {STEPS} steps it compiles all but what it has for a row above.",
        table(["recipe", "batch", "step", "examples a second", "over ours", f"first {STEPS} steps, s"], rows),
    ]
