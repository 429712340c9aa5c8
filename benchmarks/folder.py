"""Memory of training on a folder against its number of pictures. `alikit bench folder` writes what it finds.

Each training is a process of its own: `python -m benchmarks.folder PATH` is one, and prints a line of JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

import alikit
from alikit import runs
from alikit.recipes import RECIPES

from .common import device, few, run, table
from .loading import SIZE, make_folder, own_cache
from .memory import highest, mib

NUMBERS = (20_000, 200_000)
RECIPE, STEPS = "cifar10-small", 20
TITLE = "A folder larger than memory"


def train(folder: str) -> dict:
    """What `alikit train` does with a folder of pictures, but for the run's own files; memory in MiB."""
    torch.manual_seed(0)
    imported = mib("RssAnon")

    def job() -> None:
        parts = alikit.load(f"folder:{folder}")
        runs.digest(parts)
        recipe = RECIPES[RECIPE]
        model = recipe.build(parts[0].shape, parts[0].mean()).to(device())
        recipe.trainer(model, parts[0]).run(STEPS)

    peak = highest(job)
    return {"imported": round(imported, 1), "peak": round(peak, 1), "total_peak": round(mib("VmHWM"), 1)}


def apart(folder: Path) -> dict:
    """`train` in a fresh process, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return json.loads(run(["-m", "benchmarks.folder", folder], "no memory measured", env=environment).stdout)


def measure(numbers: tuple[int, ...] = NUMBERS) -> dict:
    """Each folder without a cache, and then with the one that was made."""
    mib("RssAnon")  # or the first process would say that there is none
    measured = []
    with tempfile.TemporaryDirectory() as place, own_cache(Path(place) / "cache"):
        for n in tqdm(numbers, unit=" folders", disable=None):
            make_folder(Path(place) / str(n), n)
            for how in ("first", "cached"):
                measured.append({"pictures": n, "how": how, **apart(Path(place) / str(n))})
    return {"seed": 0, "size": SIZE, "steps": STEPS, "recipe": RECIPE, "threads": 1, "measured": measured}


def told(found: dict) -> list[str]:
    names = {"first": "the first time, decoding", "cached": "from the cache"}
    one = 3 * found["size"] ** 2 / 2**20
    rows = [
        [
            f"{row['pictures']:,}",
            few(one * row["pictures"]),
            names[row["how"]],
            few(row["peak"]),
            few(row["total_peak"]),
        ]
        for row in found["measured"]
    ]
    return [
        "Pictures are decoded into a file and read from it through a memory map, so that a folder may be larger than "
        f"memory. {found['steps']} steps of {found['recipe']} on folders of JPEG pictures of "
        f"{found['size']}x{found['size']}, each in a fresh process with one thread: the private peak (as above) does "
        "not grow with the pictures. The total counts pages of the file as well, which the system drops where memory "
        "is wanted. Each was measured once.",
        table(["pictures", "their size, MiB", "", "private peak, MiB", "total peak, MiB"], rows),
    ]


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1])))
