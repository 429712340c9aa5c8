"""What the benchmarks share: jobs that take turns, fresh processes, summaries and tables.

A measured number is kept as a median with its quartiles, {"median", "lower_quartile", "upper_quartile"}: `summary`.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

import alikit
from alikit.data import Dataset, GridMixture
from alikit.errors import AlikitError
from alikit.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]
QUARTILES = ("lower_quartile", "median", "upper_quartile")


def setting(command: str) -> dict:
    """What a measurement depends on besides the code: machine, its load in the minute before, threads and versions."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # Windows has none
    versions = {"python": platform.python_version(), "torch": torch.__version__, "alikit": alikit.__version__}
    of_now = {"command": command, "date": date.today().isoformat(), "hardware": hardware(), "load": load}
    return {**of_now, "threads": torch.get_num_threads(), "versions": versions}


def hardware() -> str:
    """This machine in words: its processor, and its GPU if it has one."""
    about = Path("/proc/cpuinfo")  # only Linux names the processor
    found = re.search(r"model name\s*: (.*)", about.read_text()) if about.is_file() else None
    processor = found[1].strip() if found else platform.machine()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {os.cpu_count()} cores, {gpu}"


def device() -> str:
    """Where alikit trains: on a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def stand_in(recipe: Recipe, n: int) -> Dataset:
    """n examples that cost as much as the recipe's own: points of the grid or pictures of noise, with classes or
    attributes if the recipe wants them."""
    size, channels = recipe.networks.size, 1 if recipe.data == "digits" else 3
    data = GridMixture().sample(n)
    if size is not None:
        data = Dataset("noise", torch.randint(256, (n, channels, size, size), dtype=torch.uint8))
    attributes = {"celeba": 40, "faces": 14}.get(recipe.data)
    if recipe.is_conditional and attributes:
        return replace(data, labels=torch.randint(2, (n, attributes), dtype=torch.uint8))
    if recipe.has_labels or recipe.is_conditional:
        return replace(data, labels=torch.arange(n) % 10, classes=tuple("0123456789"))
    return data


def _rate(job: Callable[[], object], calls: int) -> float:
    """Calls a second, with everything done that they started on a GPU."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    begin = time.perf_counter()
    for _ in range(calls):
        job()
    wait()
    return calls / (time.perf_counter() - begin)


def in_turn(
    jobs: dict[object, Callable[[], object]], seconds: float, rounds: int, fewest: int | None = None
) -> dict[object, list[float]]:
    """Each job's rate, calls a second, in each of several short rounds. The jobs take turns, so that other work on the
    machine slows all of them alike.

    seconds   about how long; a job is called as often in a round as fits its share of them, and at least once
    fewest    rounds if they take longer than that; None makes all `rounds`, however long they take
    """
    share, calls = seconds / rounds / len(jobs), {}
    for name, job in jobs.items():
        rate = _rate(job, 1)  # also chooses kernels and finds memory
        if rate * share >= 0.2:  # otherwise it is called once a round, whatever a second look would say
            rate = _rate(job, 3)
        calls[name] = max(1, round(share * rate))
    begin, found = time.perf_counter(), []
    with tqdm(unit=" rounds", disable=None) as bar:
        while len(found) < (fewest or rounds) or (len(found) < rounds and time.perf_counter() - begin < 1.5 * seconds):
            found.append({name: _rate(job, calls[name]) for name, job in jobs.items()})
            bar.update()
    return {name: [rates[name] for rates in found] for name in jobs}


def process(*arguments: object, failure: str, threads: int | None = None) -> subprocess.CompletedProcess:
    """A fresh Python process, started in the checkout. AlikitError, beginning with `failure`, if it fails."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if finished.returncode:
        why = (finished.stderr.strip() or f"ended with status {finished.returncode}").splitlines()[-1]
        raise AlikitError(f"{failure}: {why}")
    return finished


def apart(job: Callable[[str], dict], argument: str) -> dict:
    """What a function of a benchmark's module returns, called in a fresh process with one thread."""
    call = f"import json; from {job.__module__} import {job.__name__} as job; print(json.dumps(job({argument!r})))"
    return json.loads(process("-c", call, failure=f"nothing measured of {argument}", threads=1).stdout)


def summary(numbers: list[float]) -> dict[str, float]:
    """Median and quartiles, to four significant digits."""
    found = statistics.quantiles(numbers if len(numbers) > 1 else 2 * numbers, n=4, method="inclusive")
    low, median, high = (float(f"{number:.4g}") for number in found)
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def few(number: float) -> str:
    """A number to three significant digits."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def cell(value: object) -> str:
    """A value as a table shows it; a summary is its median, and in brackets its quartiles."""
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, dict):
        low, median, high = (few(value[name]) for name in QUARTILES)
        return f"{median} [{low}, {high}]"
    return f"{value:,}" if isinstance(value, int) else few(value) if isinstance(value, float) else str(value)


def table(rows: list[dict]) -> str:
    """A Markdown table with a line for each row, under their keys; a cell without a value is empty."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[head.replace("_", " ") for head in heads], ["---"] * len(heads)]
    cells += [[cell(row.get(head)) for head in heads] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
