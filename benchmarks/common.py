"""What the benchmarks share: jobs that take turns, fresh processes, summaries, and how tables and curves are made.

A measured number is kept as a median with its quartiles, {"median", "lower_quartile", "upper_quartile"}: `summary`.
"""

import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from tqdm import tqdm

import alikit
from alikit import runs
from alikit.data import Dataset, GridMixture
from alikit.errors import AlikitError
from alikit.figures import DATA, DISCRIMINATOR, ENCODER, MODEL, drawn, few_colours
from alikit.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]
COLOURS = (DATA, MODEL, ENCODER, DISCRIMINATOR, "#E69F00", "#56B4E9")  # told apart by colour-blind readers too


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
    """Where alikit trains: on a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def stand_in(recipe: Recipe, n: int) -> Dataset:
    """n examples that cost as much as the recipe's own: points of the grid or pictures of noise, with classes or
    attributes where the recipe wants them."""
    size = recipe.networks.size
    channels = 1 if recipe.data == "digits" else 3
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
    """Calls a second, until the last is really done."""
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
    """Each job's rate, calls a second, in each of some rounds: short and in turn, so that other work on the machine
    slows all jobs alike.

    seconds   about how long; a job is called as often in a round as fits its share of them, and once at least
    fewest    rounds; where jobs take longer than that, only so many. None makes all `rounds`, however long they take
    """
    share, calls = seconds / rounds / len(jobs), {}
    for name, job in jobs.items():
        first = _rate(job, 1)  # also chooses kernels and finds memory
        # A job that takes far longer than its share is called once a round, whatever a second look would say.
        calls[name] = 1 if first * share < 0.2 else max(1, round(share * _rate(job, 3 if first > 1 else 1)))
    begin, found = time.perf_counter(), []
    with tqdm(unit=" rounds", disable=None) as bar:
        while len(found) < (fewest or rounds) or (len(found) < rounds and time.perf_counter() - begin < 1.5 * seconds):
            found.append({name: _rate(job, calls[name]) for name, job in jobs.items()})
            bar.update()
    return {name: [rates[name] for rates in found] for name in jobs}


def process(*arguments: object, failure: str, threads: int | None = None) -> subprocess.CompletedProcess:
    """A fresh Python process, started from the checkout. AlikitError, beginning with `failure`, where it fails."""
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


def summary(numbers: list[float], method: str = "inclusive") -> dict[str, float]:
    """Median and quartiles, to four significant digits.

    method   of `statistics.quantiles`; by the default the quartiles of few numbers lie between them, not outside
    """
    low, median, high = statistics.quantiles(numbers if len(numbers) > 1 else 2 * numbers, n=4, method=method)
    found = {"median": median, "lower_quartile": low, "upper_quartile": high}
    return {name: float(f"{number:.4g}") for name, number in found.items()}


def check_writable(out: Path) -> None:
    """Makes the folder if it is missing. AlikitError where a file cannot be written into it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise AlikitError(f"cannot write to {out} ({error.strerror}): choose another --out") from None


def write(file: Path, found: dict) -> None:
    """Writes what was found as JSON, whole or not at all."""
    runs.write_whole(file, lambda place: place.write_text(json.dumps(found, indent=1) + "\n"))


def few(number: float) -> str:
    """A number to three significant digits. ValueError for one that is not finite."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def spread(found: dict) -> str:
    """A summary as text: the median, and in brackets the quartiles."""
    return f"{few(found['median'])} [{few(found['lower_quartile'])}, {few(found['upper_quartile'])}]"


def cell(value: object) -> str:
    """A value as a table shows it."""
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, dict):
        return spread(value)
    return f"{value:,}" if isinstance(value, int) else few(value) if isinstance(value, float) else str(value)


def table(rows: list[dict]) -> str:
    """A Markdown table with a line for each of `rows`, under their keys; a cell is empty where a row has not that key
    or None under it."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[head.replace("_", " ") for head in heads], ["---"] * len(heads)]
    cells += [[cell(row.get(head)) for head in heads] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def curves(file: Path, rows: list[dict], x: str, y: list[str], by: str | None = None) -> None:
    """Draws rows into a PNG file: medians with their quartiles as error bars.

    x    the key that a line runs along
    y    keys of summaries, a line for each
    by   the key whose values each have a line of their own
    """
    figure = Figure(figsize=(5.6, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[tuple[float, dict]]] = {}
    for row in rows:
        for key in y:
            lines.setdefault(row[by] if by else key, []).append((row[x], row[key]))
    for (name, points), colour, marker in zip(lines.items(), COLOURS, "osD^vP", strict=False):
        middle = [of["median"] for _, of in points]
        below = [of["median"] - of["lower_quartile"] for _, of in points]
        above = [of["upper_quartile"] - of["median"] for _, of in points]
        style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2, "capsize": 3}
        axes.errorbar([place for place, _ in points], middle, (below, above), label=name.replace("_", " "), **style)
    axes.set(xscale="log", xlabel=x.replace("_", " "), ylabel=(y[0] if len(y) == 1 else "seconds").replace("_", " "))
    places = sorted({row[x] for row in rows})
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.set_xticks([], minor=True)
    middles = [of["median"] for points in lines.values() for _, of in points]
    if max(middles) < 10 * min(middles):
        axes.set_ylim(0, None)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: few(value))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", frameon=False)
    runs.save_picture(few_colours(drawn(figure)), file)
