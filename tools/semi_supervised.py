"""Measure what a few labels are worth: results/semi-supervised.

    python tools/semi_supervised.py digits                every method at 10 to 200 labels; 3 hours on one core
    python tools/semi_supervised.py house-numbers         at 1000 labels, with the runs named below; an hour and a half
    python tools/semi_supervised.py cifar10               at 1000 labels, an SVM on recorded encoders; half an hour
    python tools/semi_supervised.py cifar10-small-games   our networks at 4000 labels, one run each; 3 hours each
    python tools/semi_supervised.py cifar10-games         the paper's at 1000 to 8000 labels, one run each; a GPU
    python tools/semi_supervised.py page                  figure and tables again, from metrics.json

Every draw's error is written to metrics.json as soon as it is known, so the same command goes on if it was stopped, and
measures nothing again: to repeat everything, name another folder with --out. Another kind of machine adds sums in
another order, so a network trained on a draw comes out a little different. README.md is written by hand there, except
for what stands between two marks. cifar10 needs a folder of pictures, see --data; house-numbers needs the runs
house-numbers, house-numbers-vae and house-numbers-gan of seed 0, as results/what-z-keeps names them.

The labelled examples of a draw are the same for every method. An SVM has 100 draws, as in the paper. A network takes
everything from the draw's seed: draw 3 is that of `alikit train digits-semi --labels 50 --seed 3`.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import ttest_1samp

import alikit
from alikit.data import Dataset
from alikit.evaluation import classification
from alikit.evaluation.svm import component_features, interval, network_features, pixel_features, random_features, svm
from alikit.figures import drawn
from alikit.runs import save_picture, trainer, write_whole
from alikit.runs.report import filled

RESULTS = Path(__file__).resolve().parents[1] / "results"
OUT = RESULTS / "semi-supervised"
SECTIONS = ("digits", "house-numbers", "cifar10", "cifar10, short")  # of the page, and keys of metrics.json
SVM_DRAWS = 100
LABELS = {  # numbers of labels, and draws of each game
    "digits": ((10, 20, 50, 100, 200), 10),
    "house-numbers": ((1000,), 3),
    "cifar10": ((1000,), 0),
    "cifar10-small-games": ((4000,), 1),
    "cifar10-games": ((4000, 1000, 2000, 8000), 1),  # first the one that most others report
}
# Okabe and Ito's colours without their yellow, which cannot be seen on white; and grey, brown and indigo.
LINES = ("#009E73", "#0072B2", "#E69F00", "#999999", "#56B4E9", "#000000", "#D55E00", "#CC79A7", "#8C564B", "#332288")
GAMES = {  # and their recipes; house numbers have none with consistency
    "K+1": "semi",
    "K+1, consistent": "semi-consistent",
    "feature matching": "feature-matching",
    "supervised": "supervised",
}
FEATURES = {  # runs, by the names of their methods
    "digits": {"ALI": "digits", "VAE": "digits-vae", "DCGAN": "digits-gan"},
    "house-numbers": {"ALI": "house-numbers", "VAE": "house-numbers-vae", "DCGAN": "house-numbers-gan"},
    "cifar10": {"ALI of CIFAR-10": "cifar10-small", "ALI of Tiny ImageNet": "tiny-imagenet-small"},
}


class Book:
    """metrics.json: for data, number of labels and method what was found, written at every change."""

    def __init__(self, file: Path):
        self.file = file
        self.found = json.loads(file.read_text()) if file.is_file() else {}

    def entry(self, data: str, labels: int, method: str) -> dict:
        """What is known of a method so far, to be changed in place."""
        return self.found.setdefault(data, {}).setdefault(str(labels), {}).setdefault(method, {})

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, lambda file: file.write_text(json.dumps(self.found, indent=1) + "\n"))


def trained(recipe: str, train: Dataset, seed: int = 0, **changes) -> alikit.Game:
    """What `alikit train RECIPE --seed SEED` makes of the data."""
    row = alikit.RECIPES[recipe]
    settings = {"recipe": recipe, "decoder": None, "seed": seed, "steps": row.steps, **row.config(), **changes}
    loop = trainer(settings, train)
    loop.run(settings["steps"])
    return loop.result


def games(
    book: Book, data: str, parts: tuple[Dataset, Dataset], labels: int, draws: int, hardware: str, small: bool = False
) -> None:
    """Trains every game with labels, once for each draw that is not known yet; `small` for our own networks."""
    train, held_out = parts
    for method, name in GAMES.items():
        recipe = f"{data}-{name}-small" if small else f"{data}-{name}"
        if recipe not in alikit.RECIPES:
            continue
        method += ", laptop networks" if small else ""
        row, entry = alikit.RECIPES[recipe], book.entry(data, labels, method)
        if len(entry.get("errors", ())) >= draws:
            continue
        entry |= {"recipe": recipe, "steps": row.steps, "batch_size": row.batch_size, "n": len(held_out)}
        entry |= {"hardware": hardware, "torch": torch.__version__}
        errors, seconds = entry.setdefault("errors", []), entry.setdefault("seconds", [])
        for seed in range(len(errors), draws):
            begun = time.perf_counter()
            model = trained(recipe, train, seed, labels=labels)
            errors.append(round(classification(model, held_out).error, 5))
            seconds.append(round(time.perf_counter() - begun))
            book.write()
            print(f"{data}, {labels} labels, {method}, draw {seed}: {errors[-1]:.4f}, {seconds[-1]} s", flush=True)


def machines(
    book: Book, data: str, parts: tuple[Dataset, Dataset], labels: int, kinds: dict[str, Callable], hardware: str
) -> None:
    """An SVM on each kind of features; `kinds` has a function for each that gives them."""
    for method, features in kinds.items():
        entry = book.entry(data, labels, method)
        if entry:
            continue
        begun = time.perf_counter()
        found = svm(features(), *parts, labels, SVM_DRAWS)
        entry |= {"errors": [round(error, 5) for error in found.errors], "n": found.n, "dims": found.dims}
        entry |= {"cost": found.cost, "validation": round(found.validation, 5), "unconverged": found.unconverged}
        entry |= {"seconds": round(time.perf_counter() - begun), "hardware": hardware}
        book.write()
        print(f"{data}, {labels} labels, {method}: {found.error:.4f} +- {found.std:.4f}", flush=True)


def features(data: str, train: Dataset, runs: Path) -> dict[str, Callable]:
    """What an SVM is tried on: features of runs, of the first one untrained, and of none. Of digits the runs are made
    here, seed 0 each."""
    models = {}
    for name, run in FEATURES[data].items():
        folder = RESULTS / run if data == "cifar10" else runs / f"{run}-seed0"
        models[name] = trained(run, train) if data == "digits" else alikit.load_model(folder)
    first = next(iter(models.values()))
    return {
        **{f"{name} + SVM": lambda model=model: network_features(model) for name, model in models.items()},
        "random encoder + SVM": lambda: random_features(first, train),
        "components + SVM": lambda: component_features(train, first.z_dim),
        "pixels + SVM": lambda: pixel_features,
    }


def draw(digits: dict[str, dict]) -> Figure:
    """Error by number of labels, a line a method, with the 95 % interval of its mean over draws."""
    figure = Figure(figsize=(9, 5.5), dpi=100, layout="constrained")
    panel, labels = figure.subplots(), sorted(digits, key=int)
    x = [int(n) for n in labels]
    for method, colour in zip(digits[labels[0]], LINES, strict=False):
        errors = [100 * np.array(digits[n][method]["errors"]) for n in labels]
        low, high = np.array([ttest_1samp(e, 0).confidence_interval() for e in errors]).T
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        style = {"marker": "o", "markersize": 4, "color": colour, "linestyle": "-" if method in GAMES else "--"}
        panel.plot(x, [e.mean() for e in errors], label=method, **style)
    panel.set(xscale="log", yscale="log", xlabel="labels", ylabel="error on held-out digits, %")
    panel.minorticks_off()
    panel.set_xticks(x, labels)
    panel.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def table(by_labels: dict[str, dict]) -> str:
    """Mean and standard deviation over draws, in percent; of one draw its 95 % interval over pictures."""

    def cell(entry: dict | None) -> str:
        if not entry:
            return ""
        errors = 100 * np.array(entry["errors"])
        if len(errors) == 1:
            low, high = (100 * end for end in interval(round(entry["errors"][0] * entry["n"]), entry["n"]))
            return f"{errors[0]:.1f} ({low:.1f} to {high:.1f}), one run"
        return f"{errors.mean():.1f} ± {errors.std(ddof=1):.1f} ({len(errors)})"

    columns = sorted(by_labels, key=int)
    methods = dict.fromkeys(method for n in columns for method in by_labels[n])
    lines = [f"| | {' | '.join(columns)} labels |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {method} | {' | '.join(cell(by_labels[n].get(method)) for n in columns)} |" for method in methods]
    return "\n".join(lines)


def write_page(book: Book) -> None:
    """README.md and the figure, from metrics.json."""
    page, folder, found = OUT / "README.md", book.file.parent, book.found
    parts = {data: [table(found[data]) if data in found else "Not measured here."] for data in SECTIONS}
    text = filled(page.read_text(), page, parts)
    if "digits" in book.found:
        save_picture(drawn(draw(book.found["digits"])), folder / "digits.png")
    write_whole(folder / "README.md", lambda file: file.write_text(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*LABELS, "page"))
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads, no GPU"
    parser.add_argument("--hardware", default=hardware, help="what it is measured on, in words")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs lie, by default %(default)s")
    parser.add_argument("--data", default="folder:data/cifar10-jpeg", help="CIFAR-10, by default %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="by default %(default)s")
    given = parser.parse_args()
    book, data = Book(given.out / "metrics.json"), given.what.removesuffix("-games").removesuffix("-small")
    try:
        if given.what != "page":
            parts = alikit.load(given.data, size=32) if data == "cifar10" else alikit.load(data)
            numbers, draws = LABELS[given.what]
            kinds = features(data, parts[0], given.runs) if given.what in FEATURES else {}
            for labels in numbers:
                machines(book, data, parts, labels, kinds, given.hardware)
            for labels in numbers if draws else ():
                games(book, data, parts, labels, draws, given.hardware, "small" in given.what)
        write_page(book)
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
