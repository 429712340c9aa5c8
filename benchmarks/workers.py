"""The time of a small study against its number of workers. `alikit bench workers` writes what it finds."""

import os
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from alikit.studies import STUDIES

from .common import line, log_axes, run, spread, summary, table

STUDY, RUNS, STEPS = "mixture", 2, 500
WORKERS = (1, 2, 4)
ROUNDS = 3
TITLE = "Workers of a study"


def study(workers: int, number: int, steps: int) -> float:
    """Seconds that the command takes, from nothing to the last line."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "alikit", "study", STUDY, "--runs", number, "--steps", steps, "--workers", workers]
        begin = time.perf_counter()
        run([*command, "--threads", 1, "--out", Path(folder) / "study"], "the study did not run through")
        return time.perf_counter() - begin


def measure(workers: tuple[int, ...] = WORKERS, number: int = RUNS, steps: int = STEPS, rounds: int = ROUNDS) -> dict:
    """The numbers of workers take turns. Each study is a new one, in a folder that is thrown away."""
    seconds: dict[int, list[float]] = {count: [] for count in workers}
    for _ in tqdm(range(rounds), unit=" rounds", disable=None):
        for count in workers:
            seconds[count].append(study(count, number, steps))
    return {
        "study": STUDY,
        "runs": number * len(STUDIES[STUDY].arms),
        "steps": steps,
        "rounds": rounds,
        "threads": 1,
        "cores": os.cpu_count(),
        "measured": [{"workers": count, "seconds": summary(found)} for count, found in seconds.items()],
    }


def draw(found: dict) -> Figure:
    points = {row["workers"]: row["seconds"] for row in found["measured"]}
    figure, axes = log_axes(points, "workers", "seconds for the study")
    line(axes, points, 0, "measured")
    one, most = min(points), max(points)
    shares = [one + (most - one) * i / 50 for i in range(51)]
    shared = [points[one]["median"] * one / share for share in shares]
    axes.plot(shares, shared, color="0.5", linewidth=1, linestyle=":", label=f"that of {one}, shared out evenly")
    axes.set_yscale("linear")  # from 0, for the whole is less than a factor of ten
    axes.set_ylim(0, None)
    axes.axvline(found["cores"], color="0.7", linewidth=1, zorder=0)
    axes.annotate(
        f" {found['cores']} cores",
        (found["cores"], 0.02),
        xycoords=("data", "axes fraction"),
        size="small",
        color="0.4",
    )
    axes.legend(fontsize="small", frameon=False)
    return figure


def told(found: dict) -> list[str]:
    rows = [
        [row["workers"], spread(row["seconds"]), "more than cores" if row["workers"] > found["cores"] else ""]
        for row in found["measured"]
    ]
    return [
        "![Seconds for a study against workers](workers.png)",
        f"*Seconds for {found['runs']} runs of {found['steps']} steps of the study {found['study']}, one thread a "
        "worker, with all that the command does: its own start, that of each worker, the books. Dotted: one worker's "
        f"time divided by the number of workers. This machine has {found['cores']} cores, at the grey line; beyond it "
        f"workers share them. Median and quartiles of {found['rounds']} studies each, in turn.*",
        table(["workers", "seconds", ""], rows),
    ]
