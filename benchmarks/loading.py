"""The time to load a folder of pictures against their number. `alikit bench loading` writes what it finds."""

import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

import alikit
from alikit.data import coloured_shapes

from .common import line, log_axes, spread, summary, table

NUMBERS = (1000, 3000, 10_000, 30_000, 100_000)
ROUNDS = 3
SIZE, DIFFERENT = 32, 500  # pixels a side, and pictures of which the folder holds copies: drawing is no part of this
TITLE = "Loading a folder"


def make_folder(folder: Path, n: int) -> None:
    """n JPEG files in ten class folders."""
    drawn = coloured_shapes(min(n, DIFFERENT), SIZE)
    files = []
    for x in drawn.x:
        file = io.BytesIO()
        Image.fromarray(x.permute(1, 2, 0).numpy()).save(file, "jpeg", quality=90)
        files.append(file.getvalue())
    for k in range(10):
        (folder / str(k)).mkdir(parents=True)
    for i in range(n):
        (folder / str(i % 10) / f"{i:06d}.jpg").write_bytes(files[i % len(files)])


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """The cache in this folder, whatever the environment says otherwise."""
    before = os.environ.get("ALIKIT_CACHE")
    os.environ["ALIKIT_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("ALIKIT_CACHE")
        if before is not None:
            os.environ["ALIKIT_CACHE"] = before


def _seconds(folder: Path) -> float:
    begin = time.perf_counter()
    parts = alikit.load(f"folder:{folder}")
    seconds = time.perf_counter() - begin
    del parts  # outside of the time
    return seconds


def measure(numbers: tuple[int, ...] = NUMBERS, rounds: int = ROUNDS) -> dict:
    """Each folder is loaded without a cache and then from the one that was made, in each of some rounds."""
    found: dict[int, dict[str, list[float]]] = {n: {"first": [], "cached": []} for n in numbers}
    with tempfile.TemporaryDirectory() as place, own_cache(Path(place) / "cache"):
        for n in numbers:
            make_folder(Path(place) / str(n), n)
        _seconds(Path(place) / str(min(numbers)))  # what is imported at the first use is no part of it
        for _ in tqdm(range(rounds), unit=" rounds", disable=None):
            for n in numbers:
                shutil.rmtree(Path(place) / "cache", ignore_errors=True)
                for how in ("first", "cached"):
                    found[n][how].append(_seconds(Path(place) / str(n)))
    measured = [
        {"pictures": n, **{how: summary(seconds) for how, seconds in kept.items()}} for n, kept in found.items()
    ]
    return {"seed": 0, "size": SIZE, "rounds": rounds, "measured": measured}


NAMES = {"first": "the first time, decoding", "cached": "from the cache"}


def draw(found: dict) -> Figure:
    figure, axes = log_axes((row["pictures"] for row in found["measured"]), "pictures in the folder", "seconds to load")
    for look, (how, name) in enumerate(NAMES.items()):
        line(axes, {row["pictures"]: row[how] for row in found["measured"]}, look, name)
    axes.legend(fontsize="small", frameon=False)
    return figure


def told(found: dict) -> list[str]:
    rows = [[f"{row['pictures']:,}", *(spread(row[how]) for how in NAMES)] for row in found["measured"]]
    size = f"{found['size']}x{found['size']}"
    return [
        "![Seconds to load a folder against its number of pictures](loading.png)",
        f"*Seconds until `alikit.load` returns both parts of a folder of JPEG pictures of {size}, without a cache and "
        "with one. The files were just written, so they come from memory: a slow disk adds its own time. Median and "
        f"quartiles of {found['rounds']} rounds.*",
        table(["pictures", *(f"seconds, {name}" for name in NAMES.values())], rows),
    ]
