"""Measure what a few labels are worth: results/semi-supervised.

    python tools/semi_supervised.py digits             every method at 10 to 200 labels; 3 hours on one core
    python tools/semi_supervised.py house-numbers      at 1000 labels, with the runs named below; an hour and a half
    python tools/semi_supervised.py cifar10            at 1000 labels, an SVM on recorded encoders; half an hour
    python tools/semi_supervised.py cifar10-games      the paper's networks at 1000 to 8000 labels, one run each; a GPU
    python tools/semi_supervised.py add RUN...         finished runs of recipes with labels, on all held-out data
    python tools/semi_supervised.py page               figure and tables again, from metrics.json

Every draw's error is written to metrics.json as soon as it is known, so a command that was stopped goes on; what is
there is not measured again: to repeat it all, name another folder with --out. Draws are the same on the same kind of
machine; on another one sums are added in another order, and a network trained on a draw comes out a little different.
cifar10 wants a folder of pictures, see --data. house-numbers wants the runs of which settings are kept in
results/what-z-keeps:

    alikit train house-numbers --out runs/house-numbers-seed0          alikit train house-numbers-vae
    alikit train house-numbers-gan

A draw's labelled examples are the same for every method. Of an SVM there are 100 draws, as in the paper; of a network
that is trained anew for each draw, its labels, first weights and noise all come from the draw's seed: draw 3 is that of
`alikit train digits-semi --labels 50 --seed 3`.
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
from alikit.runs import save_picture, trained_with, trainer, write_whole

RESULTS = Path(__file__).resolve().parents[1] / "results"
OUT = RESULTS / "semi-supervised"
DIGITS = (10, 20, 50, 100, 200)  # labels
SVM_DRAWS = 100
# Okabe and Ito's colours without their yellow, which cannot be seen on white; and grey, brown and indigo.
LINES = ("#009E73", "#0072B2", "#E69F00", "#999999", "#56B4E9", "#000000", "#D55E00", "#CC79A7", "#8C564B", "#332288")
GAMES = {  # and their recipes; house numbers have none with consistency
    "K+1": "semi",
    "K+1, consistent": "semi-consistent",
    "feature matching": "feature-matching",
    "supervised": "supervised",
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
        text = json.dumps(self.found, indent=1) + "\n"
        write_whole(self.file, lambda file: file.write_text(text))


def trained(recipe: str, train: Dataset, seed: int = 0, **changes) -> alikit.Game:
    """What `alikit train RECIPE --seed SEED` makes of the data."""
    row = alikit.RECIPES[recipe]
    settings = {"recipe": recipe, "decoder": None, "seed": seed, "steps": row.steps, **trained_with(row), **changes}
    loop = trainer(settings, train)
    loop.run(settings["steps"])
    return loop.result


def games(
    book: Book,
    data: str,
    parts: tuple[Dataset, Dataset],
    labels: int,
    draws: int,
    hardware: str,
    steps: int | None = None,
) -> None:
    """Trains every game with labels, once for each draw that is not known yet."""
    train, held_out = parts
    for method, name in GAMES.items():
        recipe = f"{data}-{name}"
        if recipe not in alikit.RECIPES:
            continue
        row, entry = alikit.RECIPES[recipe], book.entry(data, labels, method)
        if len(entry.get("errors", ())) >= draws:
            continue
        length = steps or row.steps
        entry |= {"recipe": recipe, "steps": length, "batch_size": row.batch_size, "n": len(held_out)}
        entry |= {"hardware": hardware, "torch": torch.__version__}
        errors, seconds = entry.setdefault("errors", []), entry.setdefault("seconds", [])
        for seed in range(len(errors), draws):
            begun = time.perf_counter()
            model = trained(recipe, train, seed, steps=length, labels=labels)
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


def digits(book: Book, hardware: str) -> None:
    """All methods, at all numbers of labels; the features come from runs made here, seed 0 each."""
    parts = alikit.load("digits")
    train = parts[0]
    models = {name: trained(recipe, train) for name, recipe in FEATURES["digits"].items()}
    for labels in DIGITS:
        machines(book, "digits", parts, labels, _kinds(models, train), hardware)
    for labels in DIGITS:
        games(book, "digits", parts, labels, 10, hardware)


def house_numbers(book: Book, runs: Path, hardware: str) -> None:
    """All methods at 1000 labels; the features are those of finished runs."""
    parts = alikit.load("house-numbers")
    models = {name: alikit.load_model(runs / f"{run}-seed0") for name, run in FEATURES["house-numbers"].items()}
    machines(book, "house-numbers", parts, 1000, _kinds(models, parts[0]), hardware)
    games(book, "house-numbers", parts, 1000, 3, hardware)


def cifar10(book: Book, data: str, hardware: str) -> None:
    """An SVM on recorded encoders, of CIFAR-10's own and of other photographs."""
    parts = alikit.load(data, size=32)
    models = {f"ALI of {name}": alikit.load_model(RESULTS / run) for name, run in FEATURES["cifar10"].items()}
    machines(book, "cifar10", parts, 1000, _kinds(models, parts[0]), hardware)


def cifar10_games(book: Book, data: str, steps: int | None, hardware: str) -> None:
    """One run of each game at each number of labels of the paper's table."""
    parts = alikit.load(data, size=32)
    for labels in (4000, 1000, 2000, 8000):  # first the one that most others report
        games(book, "cifar10", parts, labels, 1, hardware, steps)


FEATURES = {
    "digits": {"ALI": "digits", "VAE": "digits-vae", "DCGAN": "digits-gan"},
    "house-numbers": {"ALI": "house-numbers", "VAE": "house-numbers-vae", "DCGAN": "house-numbers-gan"},
    "cifar10": {"CIFAR-10": "cifar10-small", "Tiny ImageNet": "tiny-imagenet-small"},
}


def _kinds(models: dict[str, alikit.Game], train: Dataset) -> dict[str, Callable]:
    """Functions that give features by the name of their method: of models, of the first of them without training, and
    of none."""
    first = next(iter(models.values()))
    return {
        **{f"{name} + SVM": lambda model=model: network_features(model) for name, model in models.items()},
        "random encoder + SVM": lambda: random_features(first, train),
        "components + SVM": lambda: component_features(train, first.z_dim),
        "pixels + SVM": lambda: pixel_features,
    }


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
    book.entry(data, settings["labels"], game).update(
        errors=[round(found.error, 5)],
        n=found.n,
        recipe=settings["recipe"],
        command=settings["command"],
        seed=settings["seed"],
        pictures_seen=step * settings["labelled_batch" if game.startswith("supervised") else "batch_size"],
        hours=round(seconds / 3600, 2),
        hardware=hardware,
        torch=settings["versions"]["torch"],
    )
    book.write()
    print(f"{data}, {settings['labels']} labels, {game}: {found.error:.4f} ({found.low:.4f} to {found.high:.4f})")


def draw(digits: dict[str, dict]) -> Figure:
    """Error by number of labels, a line a method, with the 95 % interval of its mean over draws."""
    figure = Figure(figsize=(9, 5.5), dpi=100, layout="constrained")
    panel, labels = figure.subplots(), sorted(digits, key=int)
    for number, method in enumerate(digits[labels[0]]):
        errors = [100 * np.array(digits[n][method]["errors"]) for n in labels]
        low, high = np.array([ttest_1samp(e, 0).confidence_interval() for e in errors]).T
        colour, style = LINES[number % len(LINES)], "-" if method in GAMES else "--"
        x = [int(n) for n in labels]
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.plot(x, [e.mean() for e in errors], style, marker="o", markersize=4, color=colour, label=method)
    ticks = [2, 5, 10, 20, 50]
    panel.set(xscale="log", yscale="log", xlabel="labels", ylabel="error on held-out digits, %")
    panel.set_xticks([int(n) for n in labels], labels, minor=False)
    panel.set_yticks(ticks, map(str, ticks), minor=False)
    panel.minorticks_off()
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def table(by_labels: dict[str, dict]) -> str:
    """Mean and standard deviation over draws, in percent; of one draw its 95 % interval over pictures."""
    columns = sorted(by_labels, key=int)
    methods = list(dict.fromkeys(method for n in columns for method in by_labels[n]))
    lines = [f"| | {' | '.join(columns)} labels |", "| --- |" + " --- |" * len(columns)]
    for method in methods:
        lines.append(f"| {method} | {' | '.join(_cell(by_labels[n].get(method)) for n in columns)} |")
    return "\n".join(lines)


def _cell(entry: dict | None) -> str:
    if not entry:
        return ""
    errors = 100 * np.array(entry["errors"])
    if len(errors) == 1:
        low, high = (100 * end for end in interval(round(entry["errors"][0] * entry["n"]), entry["n"]))
        return f"{errors[0]:.1f} ({low:.1f} to {high:.1f}), one run"
    return f"{errors.mean():.1f} ± {errors.std(ddof=1):.1f} ({len(errors)})"


PAGE = """# A few labels

    python tools/semi_supervised.py digits
    python tools/semi_supervised.py house-numbers
    python tools/semi_supervised.py cifar10
    python tools/semi_supervised.py add runs/cifar10-semi-small-seed0 runs/cifar10-supervised-small-seed0
    python tools/semi_supervised.py page

What they need beforehand, and how to repeat them elsewhere, is told by `--help`. Error in percent on held-out
examples. Of several draws of the labelled examples: mean ± standard deviation (number of draws); every draw stands in
`metrics.json`, with the time it took, the hardware and, of an SVM, C, the fits that were stopped before their end, and
how many numbers an example has. A draw's labelled examples are the same for all methods. Networks with labels are runs
of the recipes that end in `-semi` (K+1), `-semi-consistent`, `-feature-matching` and `-supervised`; where there is one
run, the bracket is its 95 % interval over the held-out examples, which knows nothing of other draws, and
`metrics.json` has its command. An SVM's features are the last three hidden layers of the encoder and its means, of a
DCGAN the last three hidden layers of D(x); C is chosen on the first draw, on examples that are in no draw.
*Components*: as many principal components of the pixels as z has numbers; *random encoder*: ALI's, untrained. Encoders
are one run each, seed 0.

{sections}

`paper.json` has the rows of the paper's two tables, which notebook 05 sets beside these.
"""

SECTIONS = {
    "digits": ("Digits, 297 held out", "![Error by number of labels, a line a method](digits.png)"),
    "house-numbers": ("Rendered house numbers, 2,000 held out", ""),
    "cifar10": ("CIFAR-10 (JPEG copy), 10,000 held out", ""),
    "cifar10, short": (
        "The same, the paper's networks, short runs",
        "15 to 17 epochs of the pictures: the recipes are made for 45,000 steps, and what they reach then is not\n"
        "known. The rate fell to 0 within the steps that are named. One run each, at the same time on one NVIDIA H100\n"
        "80GB, torch 2.11.0+cu130.",
    ),
}


def write_page(book: Book) -> None:
    """README.md and the figure, of what metrics.json has."""
    sections = []
    for data, (title, picture) in SECTIONS.items():
        if data in book.found:
            sections += [f"## {title}", table(book.found[data]), *filter(None, [picture])]
    if "digits" in book.found:
        figure = draw(book.found["digits"])
        save_picture(few_colours(drawn(figure)), book.file.parent / "digits.png")
    text = PAGE.format(sections="\n\n".join(sections))
    write_whole(book.file.parent / "README.md", lambda file: file.write_text(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("digits", "house-numbers", "cifar10", "cifar10-games", "add", "page"))
    parser.add_argument("--steps", type=int, help="of each of cifar10-games, by default the recipe's own")
    parser.add_argument("folders", nargs="*", type=Path, metavar="RUN", help="of add: finished runs")
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads, no GPU"
    parser.add_argument("--hardware", default=hardware, help="what it is measured on, in words")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs lie, by default %(default)s")
    parser.add_argument("--data", default="folder:data/cifar10-jpeg", help="CIFAR-10, by default %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="by default %(default)s")
    asked = parser.parse_args()
    book = Book(asked.out / "metrics.json")
    try:
        if asked.what == "digits":
            digits(book, asked.hardware)
        elif asked.what == "house-numbers":
            house_numbers(book, asked.runs, asked.hardware)
        elif asked.what == "cifar10":
            cifar10(book, asked.data, asked.hardware)
        elif asked.what == "cifar10-games":
            cifar10_games(book, asked.data, asked.steps, asked.hardware)
        for folder in asked.folders:
            add(book, folder, asked.hardware)
        write_page(book)
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
