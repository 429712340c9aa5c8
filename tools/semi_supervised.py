"""Measure what a few labels are worth: results/semi-supervised.

    python tools/semi_supervised.py digits             every method at 10 to 200 labels; 3 hours on one core
    python tools/semi_supervised.py house-numbers      at 1000 labels, with the runs named below; an hour and a half
    python tools/semi_supervised.py cifar10            at 1000 labels, an SVM on recorded encoders; half an hour
    python tools/semi_supervised.py cifar10-games      the paper's networks at 1000 to 8000 labels, one run each; a GPU
    python tools/semi_supervised.py add RUN...         finished runs of recipes with labels, on all held-out data
    python tools/semi_supervised.py page               figure and tables again, from metrics.json

Every draw's error is written to metrics.json as soon as it is known, so a command that was stopped goes on, and what is
there is not measured again: to repeat it all, name another folder with --out. On another kind of machine sums are added
in another order, and a network trained on a draw comes out a little different. README.md is written by hand there,
except for what stands between two marks. cifar10 wants a folder of pictures, see --data; house-numbers wants the runs
house-numbers, house-numbers-vae and house-numbers-gan of seed 0, as results/what-z-keeps names them.

A draw's labelled examples are the same for every method. Of an SVM there are 100 draws, as in the paper; of a network
everything comes from the draw's seed: draw 3 is that of `alikit train digits-semi --labels 50 --seed 3`.
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
from alikit.evaluation.svm import (
    component_features,
    interval,
    network_features,
    pixel_features,
    random_features,
    svm,
)
from alikit.figures import drawn, few_colours
from alikit.runs import save_picture, trainer, write_whole
from alikit.runs.report import filled

RESULTS = Path(__file__).resolve().parents[1] / "results"
OUT = RESULTS / "semi-supervised"
SECTIONS = ("digits", "house-numbers", "cifar10", "cifar10, short")  # of the page, and keys of metrics.json
DIGITS = (10, 20, 50, 100, 200)  # labels
LABELS = {"digits": (DIGITS, 10), "house-numbers": ((1000,), 3), "cifar10": ((1000,), 0)}  # and draws of each game
SVM_DRAWS = 100
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
        """Keeps what is known."""
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
    book: Book, data: str, parts: tuple[Dataset, Dataset], labels: int, draws: int, hardware: str, steps: int = 0
) -> None:
    """Trains every game with labels, once for each draw that is not known yet; `steps` other than the recipe's."""
    train, held_out = parts
    for method, name in GAMES.items():
        recipe = f"{data}-{name}"
        if recipe not in alikit.RECIPES:
            continue
        row, entry = alikit.RECIPES[recipe], book.entry(data, labels, method)
        if len(entry.get("errors", ())) >= draws:
            continue
        entry |= {"recipe": recipe, "steps": steps or row.steps, "batch_size": row.batch_size, "n": len(held_out)}
        entry |= {"hardware": hardware, "torch": torch.__version__}
        errors, seconds = entry.setdefault("errors", []), entry.setdefault("seconds", [])
        for seed in range(len(errors), draws):
            begun = time.perf_counter()
            model = trained(recipe, train, seed, steps=entry["steps"], labels=labels)
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


def measure(book: Book, data: str, parts: tuple[Dataset, Dataset], runs: Path, hardware: str) -> None:
    """All methods at all numbers of labels: an SVM on features of runs, of the first one untrained and of none, and
    games. Of digits the runs are made here, seed 0 each."""
    models = {}
    for name, run in FEATURES[data].items():
        folder = RESULTS / run if data == "cifar10" else runs / f"{run}-seed0"
        models[name] = trained(run, parts[0]) if data == "digits" else alikit.load_model(folder)
    first = next(iter(models.values()))
    kinds = {
        **{f"{name} + SVM": lambda model=model: network_features(model) for name, model in models.items()},
        "random encoder + SVM": lambda: random_features(first, parts[0]),
        "components + SVM": lambda: component_features(parts[0], first.z_dim),
        "pixels + SVM": lambda: pixel_features,
    }
    labels, draws = LABELS[data]
    for n in labels:
        machines(book, data, parts, n, kinds, hardware)
    for n in labels if draws else ():
        games(book, data, parts, n, draws, hardware)


def add(book: Book, folder: Path, hardware: str) -> None:
    """The error of a finished run of a recipe with labels, on all held-out data, with what it took."""
    settings, model = alikit.runs.settings(folder), alikit.load_model(folder)
    if not model.classes:
        raise alikit.AlikitError(f"{folder} is no run of a recipe with labels: see alikit recipes")
    if (step := alikit.runs.checkpoint(folder)["step"]) < settings["steps"]:
        raise alikit.AlikitError(
            f"{folder} is at step {step} of {settings['steps']}: finish it: alikit resume {folder}"
        )
    parts = alikit.load(alikit.runs.source(folder, settings), settings["size"])
    alikit.runs.check_same(settings, parts)
    found = classification(model, parts[1])
    recipe = settings["recipe"].removesuffix("-small")
    game = next(method for method, name in GAMES.items() if recipe.endswith(name))
    data = recipe.removesuffix("-" + GAMES[game])
    game += ", laptop networks" if recipe != settings["recipe"] else ""
    seconds = max(line.get("seconds", 0) for line in alikit.runs.metrics(folder))
    seen = step * settings["labelled_batch" if game.startswith("supervised") else "batch_size"]
    entry = book.entry(data, settings["labels"], game)
    entry |= {"errors": [round(found.error, 5)], "n": found.n, "pictures_seen": seen, "hours": round(seconds / 3600, 2)}
    entry |= {name: settings[name] for name in ("recipe", "command", "seed")}
    entry |= {"hardware": hardware, "torch": settings["versions"]["torch"]}
    book.write()
    print(f"{data}, {settings['labels']} labels, {game}: {found.error:.4f} ({found.low:.4f} to {found.high:.4f})")


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
    """README.md and the figure, of what metrics.json has."""
    text, folder = (OUT / "README.md").read_text(), book.file.parent
    for data in SECTIONS:
        part = table(book.found[data]) if data in book.found else "Not measured here."
        text = filled(text, OUT / "README.md", (f"<!-- {data} -->", f"<!-- end of {data} -->"), [part])
    if "digits" in book.found:
        save_picture(few_colours(drawn(draw(book.found["digits"]))), folder / "digits.png")
    write_whole(folder / "README.md", lambda file: file.write_text(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*FEATURES, "cifar10-games", "add", "page"))
    parser.add_argument("--steps", type=int, default=0, help="of each of cifar10-games, by default the recipe's own")
    parser.add_argument("folders", nargs="*", type=Path, metavar="RUN", help="of add: finished runs")
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads, no GPU"
    parser.add_argument("--hardware", default=hardware, help="what it is measured on, in words")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs lie, by default %(default)s")
    parser.add_argument("--data", default="folder:data/cifar10-jpeg", help="CIFAR-10, by default %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="by default %(default)s")
    given = parser.parse_args()
    book, data = Book(given.out / "metrics.json"), given.what.removesuffix("-games")
    try:
        if data in FEATURES:
            parts = alikit.load(given.data, size=32) if data == "cifar10" else alikit.load(data)
        if given.what in FEATURES:
            measure(book, data, parts, given.runs, given.hardware)
        elif data in FEATURES:
            for labels in (4000, 1000, 2000, 8000):  # first the one that most others report
                games(book, data, parts, labels, 1, given.hardware, given.steps)
        for folder in given.folders:
            add(book, folder, given.hardware)
        write_page(book)
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
