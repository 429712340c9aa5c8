"""Peak memory of training: of each recipe, and on folders of pictures. Each training is a process of its own.

It is private memory, RssAnon of Linux: what the process alone fills. The total, VmHWM, also holds pages of library
files, which all processes share and which the system may drop.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import torch
from tqdm import tqdm

import alikit
from alikit import runs
from alikit.errors import AlikitError
from alikit.recipes import RECIPES

from .common import apart, device, stand_in, summary
from .scaling import SIZE, make_folder
from .step import trainer

STATUS = Path("/proc/self/status")
STEPS, ENOUGH = 3, 10.0  # full steps of a recipe, or two if they take longer than so many seconds
EVERY = 0.002  # seconds between two looks
FOLDER_RECIPE, FOLDER_STEPS = "cifar10-small", 20


def mib(field: str) -> float:
    """A field of this process's status, which Linux gives in kB. AlikitError on other systems."""
    for row in STATUS.read_text().splitlines() if STATUS.is_file() else ():
        if row.startswith(f"{field}:"):
            return int(row.split()[1]) / 1024
    raise AlikitError(f"{STATUS} has no {field}: memory is measured on Linux")


def peak(job: Callable[[], object]) -> dict[str, float]:
    """The highest RssAnon before and during the job, and VmHWM, in MiB. Linux keeps no record of the highest RssAnon,
    so a thread looks at it in short intervals."""
    imported, done = mib("RssAnon"), threading.Event()
    seen = [imported]

    def look() -> None:
        while not done.wait(EVERY):
            seen.append(mib("RssAnon"))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(look)
        try:
            job()
        finally:
            done.set()
    highest = max(*seen, mib("RssAnon"))
    return {"imported": round(imported, 1), "peak": round(highest, 1), "total_peak": round(mib("VmHWM"), 1)}


def train_recipe(name: str) -> dict:
    """Some steps of a recipe on data of its shape, in this process; memory in MiB."""
    torch.manual_seed(0)
    recipe = RECIPES[name]

    def job() -> None:
        # Twice as many examples as have labels, because a fifth of all are kept for the choice of settings.
        loop = trainer(recipe, stand_in(recipe, max(2 * recipe.batch_size, 2 * recipe.labels)))
        begin = time.perf_counter()
        # Adam makes its averages at the end of the first step: the second has them and pictures of its own.
        for done in range(STEPS):
            if done < 2 or time.perf_counter() - begin <= ENOUGH:
                loop.one_step()

    found = {"recipe": name, "batch": recipe.batch_size, "labelled_batch": recipe.labelled_batch, **peak(job)}
    return found | {"cuda_peak": round(torch.cuda.max_memory_allocated() / 2**20, 1) if device() == "cuda" else None}


def memory(names: tuple[str, ...] = tuple(RECIPES)) -> dict:
    """Peak memory of a few steps of each recipe, each in a process of its own. Some minutes; on Linux."""
    measured = [apart(train_recipe, name) for name in tqdm(names, unit=" recipes", disable=None)]
    imported = summary([row["imported"] for row in measured])
    return {"seed": 0, "threads": 1, "device": device(), "imported": imported, "measured": measured}


def train_folder(folder: str) -> dict:
    """What `alikit train` does with a folder of pictures, except for the run's own files; memory in MiB."""
    torch.manual_seed(0)

    def job() -> None:
        parts = alikit.load(f"folder:{folder}")
        runs.digest(parts)
        trainer(RECIPES[FOLDER_RECIPE], parts[0]).run(FOLDER_STEPS)

    return peak(job)


def folder(numbers: tuple[int, ...] = (20_000, 200_000)) -> dict:
    """Memory of training on a folder of 20,000 pictures, and of 200,000. Some minutes, and 1 GB of disk; on Linux.

    Each folder is read without a cache, and then with the one that was made.
    """
    measured = []
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, ALIKIT_CACHE=f"{name}/cache"):
        for n in tqdm(numbers, unit=" folders", disable=None):
            make_folder(Path(name) / str(n), n)
            for how in ("first", "cached"):
                measured.append({"pictures": n, "how": how, **apart(train_folder, f"{name}/{n}")})
    fixed = {"seed": 0, "size": SIZE, "steps": FOLDER_STEPS, "recipe": FOLDER_RECIPE, "threads": 1}
    return {**fixed, "measured": measured}
