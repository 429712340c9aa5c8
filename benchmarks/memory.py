"""Peak memory of each recipe's training. `alikit bench memory` writes what it finds.

Each recipe trains in a process of its own: `python -m benchmarks.memory RECIPE` is one, and prints a line of JSON.

What is told is private memory, RssAnon of Linux: what the process alone fills, and what is gone from the machine. The
total, VmHWM, holds besides the pages of library files that were looked at, which all processes share and which the
system may drop.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from alikit.errors import AlikitError
from alikit.recipes import RECIPES

from .common import device, few, run, spread, stand_in, summary, table

STATUS = Path("/proc/self/status")
STEPS, ENOUGH = 3, 10.0  # full steps of a recipe, but after the second none once so many seconds are over
EVERY = 0.002  # seconds between two looks
AT_ONCE, ROOM = 2, 16 * 2**30  # processes of one thread each, where there are so many bytes for the two largest
TITLE = "Memory"


def mib(field: str) -> float:
    """A field of this process's status, which Linux gives in kB."""
    for row in STATUS.read_text().splitlines():
        name, _, value = row.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise AlikitError(f"{STATUS} does not tell {field}: memory is measured on Linux")


def highest(job: Callable[[], None]) -> float:
    """The highest RssAnon while the job ran, in MiB: looked at in short intervals, for Linux keeps no record of it."""
    seen, done = [mib("RssAnon")], threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            seen.append(mib("RssAnon"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        job()
    finally:
        done.set()
        watcher.join()
    return max(*seen, mib("RssAnon"))


def train(name: str) -> dict:
    """Some steps of a recipe on data of its shape, in this process; memory in MiB."""
    imported = mib("RssAnon")
    torch.manual_seed(0)
    recipe = RECIPES[name]

    def job() -> None:
        # Twice as many examples as have labels, for a fifth of all are kept for the choice of settings.
        data = stand_in(recipe, max(2 * recipe.batch_size, 2 * recipe.labels))
        kinds = data.conditions(slice(2)).shape[1] if data.labels is not None else None
        model = recipe.build(data.shape, data.mean(), classes=kinds, attributes=kinds)
        trainer = recipe.trainer(model.to(device()).train(), data)
        begin = time.perf_counter()
        # Adam's averages are made at the end of the first step: the second has them and its own pictures.
        for done in range(STEPS):
            if done >= 2 and time.perf_counter() - begin > ENOUGH:
                break
            trainer.one_step()

    peak = highest(job)
    cuda = torch.cuda.max_memory_allocated() / 2**20 if device() == "cuda" else None
    return {
        "recipe": name,
        "batch": recipe.batch_size,
        "labelled_batch": recipe.labelled_batch,
        "imported": round(imported, 1),
        "peak": round(peak, 1),
        "total_peak": round(mib("VmHWM"), 1),
        "cuda_peak": None if cuda is None else round(cuda, 1),
    }


def apart(name: str) -> dict:
    """`train` in a fresh process, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = run(["-m", "benchmarks.memory", name], f"no memory measured of {name}", env=environment)
    return json.loads(finished.stdout)


def measure(names: tuple[str, ...] = tuple(RECIPES)) -> dict:
    """Every recipe once; what importing adds to, over all the processes."""
    mib("RssAnon")  # or the first process would say that there is none
    has_room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > ROOM
    at_once = min(AT_ONCE, os.cpu_count()) if has_room and device() == "cpu" else 1
    with ThreadPoolExecutor(at_once) as pool:
        measured = list(tqdm(pool.map(apart, names), total=len(names), unit=" recipes", disable=None))
    return {
        "seed": 0,
        "threads": 1,
        "device": device(),
        "imported": summary([row["imported"] for row in measured]),
        "measured": measured,
    }


def told(found: dict) -> list[str]:
    head = ["recipe", "batch", "private peak, MiB", "of it training, MiB", "total peak, MiB"]
    on_gpu = any(row["cuda_peak"] is not None for row in found["measured"])
    rows = []
    for row in found["measured"]:
        batch = f"{row['batch']} + {row['labelled_batch']}" if row["labelled_batch"] else row["batch"]
        numbers = [row["peak"], row["peak"] - row["imported"], row["total_peak"]]
        rows.append([row["recipe"], batch, *map(few, numbers), *([few(row["cuda_peak"])] if on_gpu else [])])
    return [
        f"Importing alikit, and what makes the data here, takes {spread(found['imported'])} MiB of private memory. "
        f"The rest is training: a few steps on {found['device']} with the recipe's own batch (+ labelled examples), "
        "of noise in the recipe's shape, in a fresh process with one thread. Private memory is what the process alone "
        "fills (RssAnon, its peak as seen in short intervals); the total (VmHWM) counts the pages of library files as "
        "well, which processes share. Data are few here: add those of a real data set, one byte for each value of a "
        "picture. Each recipe was measured once.",
        table([*head, *(["peak on the GPU, MiB"] if on_gpu else [])], rows),
    ]


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1])))
