"""What the benchmarks share: how one is kept in a folder, and how its curves are drawn.

A benchmark is a module here, named in `report.NAMES`, with

    measure(...) -> dict          what goes into NAME.json, beside `setting`
    told(found) -> list[str]      paragraphs of the page, from the contents of that file alone
    draw(found) -> Figure         where it is a curve: NAME.png, likewise

Measured numbers are medians with their quartiles, {"median", "lower_quartile", "upper_quartile"}: `summary`.
"""

import importlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import alikit
from alikit import reading, runs
from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.figures import DATA, MODEL, drawn, few_colours
from alikit.recipes import Recipe
from alikit.runs.report import plain

from .step import _rate as rate
from .step import _stand_in as examples

ROOT = Path(__file__).resolve().parents[1]
LOOKS = ((DATA, "o"), (MODEL, "s"))  # colour and marker of one line after the other
MOST = 2**18  # bytes of a kept file, some hundred times those of the longest
NOT_WELL_FORMED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
)  # what reading a damaged file may come to


def benchmark(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def keep(name: str, out: Path, command: str, **how) -> None:
    """Measures benchmark `name` with the arguments `how` and writes out/NAME.json, and NAME.png where it is a curve.

    AlikitError, before anything is measured, where `out` cannot be written.
    """
    check_writable(out)
    module, begun = benchmark(name), setting(command)  # before it loads the machine itself
    found = {**begun, **module.measure(**how)}
    _write(out / f"{name}.json", found)
    if hasattr(module, "draw"):
        picture(module, found, out / f"{name}.png")


def check_writable(out: Path) -> None:
    """AlikitError where a file cannot be written into `out`, which is made if it is missing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise AlikitError(f"cannot write to {out} ({error.strerror}): choose another --out") from None


def keep_step(file: Path, begun: dict, found: dict) -> None:
    """Writes a line of `alikit bench step`, and in what setting it was found."""
    _write(file, {**begun, **found})


def _write(file: Path, found: dict) -> None:
    text = json.dumps(found, indent=1) + "\n"
    runs.write_whole(file, lambda place: place.write_text(text))


def picture(module: ModuleType, found: dict, file: Path) -> None:
    """Draws a benchmark's curves into a PNG file."""
    runs.save_picture(few_colours(drawn(module.draw(found))), file)


def setting(command: str) -> dict:
    """What a measurement depends on beside the code: machine, its load in the minute before, threads and versions."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,  # Windows has none
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "alikit": alikit.__version__,
        },
    }


def hardware() -> str:
    """This machine in words: its processor, and its GPU if it has one."""
    processor, about = platform.machine(), Path("/proc/cpuinfo")  # elsewhere than on Linux nothing names the processor
    for line in about.read_text().splitlines() if about.is_file() else ():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {os.cpu_count()} cores, {gpu}"


def run(arguments: list, what: str, **how) -> subprocess.CompletedProcess:
    """A Python process of its own, started from the checkout. AlikitError, beginning with `what`, where it fails."""
    command = [sys.executable, *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **how)
    if finished.returncode:
        why = (finished.stderr.strip() or f"ended with status {finished.returncode}").splitlines()[-1]
        raise AlikitError(f"{what}: {why}")
    return finished


def read(file: Path, command: str) -> dict:
    """The contents of a kept file, as a page can hold it. AlikitError, naming the command that makes it anew, where
    it is damaged."""
    try:
        found = reading.parsed(reading.content(file, MOST))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise damaged(file, command)
    return plain(found)


def damaged(file: Path, command: str) -> AlikitError:
    return AlikitError(f"{file} is damaged or of an older version: measure again with: {command}")


def device() -> str:
    """Where alikit trains: on a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def stand_in(recipe: Recipe, n: int) -> Dataset:
    """n examples that cost as much as the recipe's own, with classes or attributes where it wants them."""
    data = examples(recipe, n)
    attributes = {"celeba": 40, "faces": 14}.get(recipe.data)
    if recipe.is_conditional and attributes:
        return replace(data, labels=torch.randint(2, (n, attributes), dtype=torch.uint8))
    if recipe.has_labels or recipe.is_conditional:
        return replace(data, labels=torch.arange(n) % 10, classes=tuple("0123456789"))
    return data


def in_turn(jobs: dict[object, Callable[[], object]], seconds: float, rounds: int) -> dict[object, list[float]]:
    """Each job's rate, calls a second, in each of some rounds, so that other work on the machine slows all of them
    alike. A job is called once a round at least, and otherwise as often as fits its share of the seconds."""
    wait = torch.cuda.synchronize if device() == "cuda" else lambda: None
    share, calls = seconds / rounds / len(jobs), {}
    for name, job in jobs.items():
        rate(job, 1, wait)  # the first call also chooses kernels and finds memory
        calls[name] = max(1, round(share * rate(job, 1, wait)))
    found = [{name: rate(job, calls[name], wait) for name, job in jobs.items()} for _ in range(rounds)]
    return {name: [rates[name] for rates in found] for name in jobs}


def log_axes(places: Iterable[float], x: str, y: str) -> tuple[Figure, Axes]:
    """A small figure with logarithmic axes, marked where something was measured."""
    figure = Figure(figsize=(5.6, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    places = sorted(set(places))
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: few(value))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def line(axes: Axes, points: dict[float, dict], look: int, name: str, **how) -> None:
    """Draws {x: summary}: medians, and as error bars their quartiles; `look` counts the lines of a figure."""
    median = [point["median"] for point in points.values()]
    below = [point["median"] - point["lower_quartile"] for point in points.values()]
    above = [point["upper_quartile"] - point["median"] for point in points.values()]
    colour, marker = LOOKS[look]
    style = {"markersize": 5, "linewidth": 1.2, "elinewidth": 1.2, "capsize": 3, **how}
    axes.errorbar([*points], median, (below, above), color=colour, marker=marker, label=name, **style)


def summary(numbers: list[float]) -> dict[str, float]:
    """Median and quartiles, with four digits that count. Of few numbers the quartiles lie between them, not outside."""
    if len(numbers) < 2:
        numbers = [*numbers, *numbers]
    low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
    found = {"median": median, "lower_quartile": low, "upper_quartile": high}
    return {name: float(f"{number:.4g}") for name, number in found.items()}


def few(number: float) -> str:
    """A number with three digits that count. ValueError for one that is not finite."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def spread(found: dict) -> str:
    """A summary as text: the median, and in brackets the quartiles."""
    return f"{few(found['median'])} [{few(found['lower_quartile'])}, {few(found['upper_quartile'])}]"


def table(head: list, rows: list[list]) -> str:
    cells = [[*map(str, head)], ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
