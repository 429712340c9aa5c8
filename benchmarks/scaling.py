"""How the cost grows: the time of a study against its workers, and to load a folder against its number of pictures."""

import io
import os
import shutil
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from tqdm import tqdm

import alikit
from alikit.data import coloured_shapes
from alikit.studies import STUDIES

from .common import process, summary

STUDY = "mixture"
SIZE, DIFFERENT = 32, 500  # pixels a side, and pictures of which a folder holds copies, because drawing takes long


def workers(counts: tuple[int, ...] = (1, 2, 4), number: int = 2, steps: int = 500, rounds: int = 3) -> dict:
    """The time of a small study against its number of workers. Some minutes.

    The numbers of workers take turns. Each study is a new one of `number` runs an arm, and thrown away.
    """
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    command = ["-m", "alikit", "study", STUDY, "--runs", number, "--steps", steps]
    for _ in tqdm(range(rounds), unit=" rounds", disable=None):
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                begin = time.perf_counter()
                options = ("--workers", count, "--threads", 1, "--out", Path(folder) / "study")
                process(*command, *options, failure="the study failed")
                seconds[count].append(time.perf_counter() - begin)
    measured = [{"workers": count, "seconds": summary(found)} for count, found in seconds.items()]
    runs = number * len(STUDIES[STUDY].arms)
    fixed = {"study": STUDY, "runs": runs, "steps": steps, "rounds": rounds, "threads": 1, "cores": os.cpu_count()}
    return {**fixed, "measured": measured}


def make_folder(folder: Path, n: int) -> None:
    """n JPEG files in ten class folders."""
    files = []
    for x in coloured_shapes(min(n, DIFFERENT), SIZE).x:
        file = io.BytesIO()
        Image.fromarray(x.permute(1, 2, 0).numpy()).save(file, "jpeg", quality=90)
        files.append(file.getvalue())
    for k in range(10):
        (folder / str(k)).mkdir(parents=True)
    for i in range(n):
        (folder / str(i % 10) / f"{i:06d}.jpg").write_bytes(files[i % len(files)])


def _load(source: object) -> float:
    """Seconds until both parts are there."""
    begin = time.perf_counter()
    parts = alikit.load(source)
    seconds = time.perf_counter() - begin
    del parts  # outside of the time
    return seconds


def loading(
    numbers: tuple[int, ...] = (1000, 3000, 10_000, 30_000, 100_000), rounds: int = 3, of_array: int = 60_000
) -> dict:
    """The time to load a folder against its number of pictures, made for it and thrown away. Some minutes.

    Each folder is loaded without a cache and then from the one that was made, in each round; then an array of as many
    pictures as MNIST has, as bytes and as floats.
    """
    found: dict[int, dict[str, list[float]]] = {n: {"first": [], "cached": []} for n in numbers}
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, ALIKIT_CACHE=f"{name}/cache"):
        place = Path(name)
        for n in numbers:
            make_folder(place / str(n), n)
        _load(f"folder:{place / str(min(numbers))}")  # what is imported at the first use is no part of it
        for _ in tqdm(range(rounds), unit=" rounds", disable=None):
            for n in numbers:
                shutil.rmtree(place / "cache", ignore_errors=True)
                for how in ("first", "cached"):
                    found[n][how].append(_load(f"folder:{place / str(n)}"))
    measured = [{"pictures": n, **{how: summary(times) for how, times in kept.items()}} for n, kept in found.items()]
    x, y = np.random.default_rng(0).integers(0, 256, (of_array, 28, 28), np.uint8), np.arange(of_array) % 10
    arrays = {"array": (x, y), "array_of_floats": (x / np.float32(255), y)}
    times = {name: summary([_load(each) for _ in range(rounds)]) for name, each in arrays.items()}
    measured.append({"pictures": of_array, **times})
    return {"seed": 0, "size": SIZE, "rounds": rounds, "measured": measured}
