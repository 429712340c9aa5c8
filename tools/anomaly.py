"""Measure how well ALI finds digits of a class that it has never seen: results/anomaly.

    python -m pip install pyod==3.6.7            for PyOD's ALAD, which is left out otherwise; it also needs pandas
    python tools/anomaly.py                      recipes digits, digits-bigan, digits-modern, all other methods: an hour
    python tools/anomaly.py --recipes NAME       another recipe of ALI beside what is finished
    python tools/anomaly.py --page               metrics.json and the tables of the page again, from runs.jsonl

One class at a time is left out of the training examples; the held-out examples of that class are the anomalies, those
of the other nine are normal. All methods have the same examples, pixels in [0, 1].

runs.jsonl gets a line for each finished class, seed and method, so the same command goes on if it was stopped, and
measures nothing again: to repeat everything, or to try it with --steps, name another folder with --out. README.md is
written by hand, except for what stands between two marks.
"""

import argparse
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import alikit
from alikit.data import Dataset
from alikit.evaluation import anomaly_scores, detection
from alikit.evaluation.anomaly import ALPHA
from alikit.recipes import named
from alikit.runs import write_whole
from alikit.runs.report import filled

OUT = Path(__file__).resolve().parents[1] / "results" / "anomaly"
RECIPES = ["digits", "digits-bigan", "digits-modern"]
DRAWS = 1000  # of the bootstrap
CALLS = 20  # of PyOD's ALAD, which are averaged
Scores = dict[str, np.ndarray]  # by name, each (N,), larger for what is more anomalous


def ali(recipe: str, steps: int, train: Dataset, held_out: Dataset, seed: int) -> Scores:
    """All scores of a model as `alikit train RECIPE --seed SEED` makes it of such data."""
    torch.manual_seed(seed)
    row = named(recipe)
    loop = row.trainer(row.build(train.shape, train.mean()), train, seed)
    loop.run(steps)
    return {name: score.numpy() for name, score in anomaly_scores(loop.result, held_out).items()}


def alad(settings: dict, train: Dataset, held_out: Dataset, seed: int) -> Scores:
    """PyOD's ALAD. Its dropout stays on when it scores, so that calls differ: one call as it is, the mean of several,
    and one with all networks in evaluation mode."""
    from pyod.models.alad import ALAD

    np.random.seed(seed)
    torch.manual_seed(seed)
    detector, x = ALAD(**settings).fit(pixels(train)), pixels(held_out)
    calls = [detector.decision_function(x) for _ in range(CALLS)]
    for network in (detector.enc, detector.dec, detector.disc_xx, detector.disc_zz, detector.disc_xz):
        network.eval()
    found = {"one call": calls[0], f"mean of {CALLS} calls": np.mean(calls, axis=0)}
    return found | {"dropout off": detector.decision_function(x)}


def forest(settings: dict, train: Dataset, held_out: Dataset, seed: int) -> Scores:
    from sklearn.ensemble import IsolationForest

    found = IsolationForest(**settings, random_state=seed).fit(pixels(train))
    return {"path length": -found.score_samples(pixels(held_out))}


def components(settings: dict, train: Dataset, held_out: Dataset, seed: int) -> Scores:
    """What is lost by as many principal components as z has numbers, |x - x_hat|_1: a linear encoder and decoder."""
    from sklearn.decomposition import PCA

    found, x = PCA(**settings, random_state=seed).fit(pixels(train)), pixels(held_out)
    return {"reconstruction": np.abs(x - found.inverse_transform(found.transform(x))).sum(1)}


def pixels(data: Dataset) -> np.ndarray:
    """(N, F), in [0, 1]."""
    return data.floats().flatten(1).numpy()


def methods(recipes: list[str], steps: int | None) -> dict[str, tuple[dict, Callable]]:
    """For each method its settings, as JSON has them, and what scores held-out examples by (train, held_out, seed)."""
    table, row = {}, named("digits")
    for name in recipes:
        own = steps or named(name).steps
        settings = {"steps": own, "z_dim": named(name).z_dim, "alpha": ALPHA, **named(name).config()}
        table[name] = settings, lambda *given, name=name, own=own: ali(name, own, *given)
    own = {"epochs": steps or row.steps, "batch_size": row.batch_size, "latent_dim": row.z_dim}
    listed = {
        "IsolationForest": ({"n_estimators": 100}, forest),
        "principal components": ({"n_components": row.z_dim}, components),
        "PyOD's ALAD": ({}, alad),
        "PyOD's ALAD, as long as ALI": (own, alad),
    }
    for name, (settings, of) in listed.items():
        if of is not alad or importlib.util.find_spec("pyod"):
            table[name] = settings, lambda *given, of=of, settings=settings: of(settings, *given)
    return {name: (json.loads(json.dumps(settings)), of) for name, (settings, of) in table.items()}


def lines(folder: Path) -> dict[tuple, dict]:
    """What is finished, by class, seed and method."""
    file = folder / "runs.jsonl"
    found = map(json.loads, file.read_text().splitlines() if file.is_file() else ())
    return {(line["class"], line["seed"], line["method"]): line for line in found}


def measure(given: argparse.Namespace) -> None:
    """Measures what is not known yet, one line each."""
    train, held_out = alikit.load("digits")
    table, known = methods(given.recipes, given.steps), lines(given.out)
    versions = {name: version(name) for name in ("alikit", "torch", "scikit-learn", "numpy")}
    if importlib.util.find_spec("pyod"):
        versions["pyod"] = version("pyod")
    else:
        print("pyod is not installed, so its ALAD is left out: pip install pyod==3.6.7", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    for key in ((c, s, m) for s in range(given.seeds) for c in given.classes for m in table):
        held_out_class, seed, method = key
        settings, scored = table[method]
        if key in known:
            if known[key]["settings"] != settings:
                way = "name another folder with --out, or move runs.jsonl away"
                raise alikit.AlikitError(f"{method} is in {given.out} with other settings: {way}")
            continue
        begun, is_anomaly = time.perf_counter(), held_out.labels == held_out_class
        scores = scored(train.select(train.labels != held_out_class), held_out, seed)
        seconds = round(time.perf_counter() - begun, 1)
        found = {name: vars(detection(score, is_anomaly, DRAWS)) for name, score in scores.items()}
        found = {name: {k: round(v, 5) for k, v in values.items()} for name, values in found.items()}
        line = {"class": held_out_class, "seed": seed, "method": method, "scores": found, "seconds": seconds}
        line |= {"settings": settings, "hardware": given.hardware, "versions": versions}
        with (given.out / "runs.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        said = ", ".join(f"{name} {of['auroc']:.3f}" for name, of in found.items())
        print(f"class {held_out_class}, seed {seed}, {method}: {said}; {seconds} s", flush=True)


def summary(values: np.ndarray) -> dict[str, float | None]:
    """The mean of shares and its 95 % interval (Student's t), cut at 0 and 1; a single value has none."""
    if len(values) == 1:
        return {"mean": round(float(values[0]), 4), "low": None, "high": None}
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    mean, low, high = np.clip(values.mean() + np.array([0, -half, half]), 0, 1).round(4).tolist()
    return {"mean": mean, "low": low, "high": high}


def report(known: dict[tuple, dict]) -> dict:
    """metrics.json: of each method the seeds for which all classes are finished, its settings, and of each score

    auroc, ap  the mean over seeds and classes: its interval `over_classes`, of the means of the classes, says what
               another class might give, and `over_seeds`, of the means of the seeds, what other weights might
    classes    for each class the mean over seeds, the mean ends of the bootstrap's intervals over held-out examples,
               and every seed's value
    """
    classes, found = sorted({c for c, _, _ in known}), {}
    for method in dict.fromkeys(method for _, _, method in known):
        of = {(c, s): line for (c, s, m), line in known.items() if m == method}
        seeds = [s for s in sorted({s for _, s in of}) if all((c, s) in of for c in classes)]
        if not seeds:
            continue
        first, scores = of[classes[0], seeds[0]], {}
        for name in first["scores"]:
            cells = {c: [of[c, s]["scores"][name] for s in seeds] for c in classes}
            scores[name] = {"classes": {}}
            for kind in ("auroc", "ap"):
                values = np.array([[cell[kind] for cell in cells[c]] for c in classes])  # (classes, seeds)
                scores[name][kind] = {"over_classes": summary(values.mean(1)), "over_seeds": summary(values.mean(0))}
            for c, of_class in cells.items():
                ends = {end: round(float(np.mean([cell[end] for cell in of_class])), 4) for end in of_class[0]}
                scores[name]["classes"][str(c)] = ends | {"seeds": [cell["auroc"] for cell in of_class]}
        seconds = float(np.mean([of[c, s]["seconds"] for c in classes for s in seeds]))
        found[method] = {"seeds": seeds, "settings": first["settings"], "seconds": round(seconds, 1), "scores": scores}
    unique = sorted({json.dumps(line[what]) for line in known.values() for what in ("hardware", "versions")})
    with_ = [json.loads(text) for text in unique]
    return {"classes": classes, "draws": DRAWS, "measured_with": with_, "methods": found}


def table(head: list, rows: list[list]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ["---"] * len(head), *rows])


def leads(report: dict) -> list[str]:
    """The score with the largest mean AUROC beside the best one of each other method, class by class."""
    values = {
        (method, name): np.array([score["classes"][str(c)]["auroc"] for c in report["classes"]])
        for method, of in report["methods"].items()
        for name, score in of["scores"].items()
    }
    best, rows = max(values, key=lambda key: values[key].mean()), []
    for method in {method: None for method, _ in values if method != best[0]}:
        other = max((key for key in values if key[0] == method), key=lambda key: values[key].mean())
        lead = values[best] - values[other]
        half = stats.t.ppf(0.975, len(lead) - 1) * stats.sem(lead)
        cell = f"{lead.mean():+.3f} [{lead.mean() - half:+.3f}, {lead.mean() + half:+.3f}]"
        rows.append([*other, cell, f"{(lead > 0).sum()} of {len(lead)}"])
    said = f"Largest AUROC: *{best[1]}* of {best[0]}. Its lead over each other method's best score, chosen afterwards:"
    return [said, table(["method", "score", "lead in AUROC, over classes", "ahead in classes"], rows)]


def page(report: dict, text: str, file: Path) -> str:
    """The page's text with every number between its marks taken from `report`."""

    def cell(of: dict) -> str:
        return f"{of['mean']:.3f}" + ("" if of["low"] is None else f" [{of['low']:.3f}, {of['high']:.3f}]")

    means, classes, settings = [], [], []
    for method, of in report["methods"].items():
        seeds, length = len(of["seeds"]), of["settings"].get("steps") or of["settings"].get("epochs")
        said = f"- {method}: {seeds} seeds, {of['seconds']:.1f} s each"
        settings.append(said + (f", {length:,} steps" if length else ""))
        for name, score in of["scores"].items():
            kinds = [cell(score[kind][over]) for kind in ("auroc", "ap") for over in ("over_classes", "over_seeds")]
            means.append([method, name, *kinds])
            classes.append([method, name, *(f"{score['classes'][str(c)]['auroc']:.3f}" for c in report["classes"])])
    cells = [c for of in report["methods"].values() for s in of["scores"].values() for c in s["classes"].values()]
    if not cells:
        return filled(text, file, {name: ["Not measured yet."] for name in ("setting", "means", "classes")})
    shares = [cell["share"] for cell in cells]
    width = np.mean([cell["auroc_high"] - cell["auroc_low"] for cell in cells])
    for with_ in report["measured_with"]:
        said = ", ".join(f"{k} {v}" for k, v in with_.items()) if isinstance(with_, dict) else with_
        settings.append(f"- {said}")
    head = ["AUROC, over classes", "AUROC, over seeds", "AP, over classes", "AP, over seeds"]
    return filled(
        text,
        file,
        {
            "setting": ["\n".join(settings)],
            "means": [
                table(["method", "score", *head], means),
                f"Knowing nothing: AUROC 0.5, and AP {np.mean(shares):.3f}, the share of anomalies "
                f"({min(shares):.3f} to {max(shares):.3f} of {cells[0]['n']:.0f} examples).",
                *(leads(report) if len(report["classes"]) > 1 else ()),
            ],
            "classes": [
                table(["method", "score", *report["classes"]], classes),
                f"Intervals over held-out examples, by {report['draws']:,} draws of a bootstrap, are in metrics.json; "
                f"they are {width:.3f} wide on average.",
            ],
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="by default %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="how many, by default %(default)s")
    parser.add_argument(
        "--classes", type=int, nargs="+", choices=range(10), default=[*range(10)], help="all by default"
    )
    parser.add_argument("--steps", type=int, help="of ALI and of ALAD, by default each recipe's own")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads, no GPU"
    parser.add_argument("--hardware", default=hardware, help="what it is measured on, in words")
    parser.add_argument("--out", type=Path, default=OUT, help="by default %(default)s")
    given = parser.parse_args()
    try:
        if not given.page:
            measure(given)
        found = report(lines(given.out))
        text = page(found, (OUT / "README.md").read_text(), OUT / "README.md")
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")
    write_whole(given.out / "metrics.json", lambda file: file.write_text(json.dumps(found, indent=1) + "\n"))
    write_whole(given.out / "README.md", lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
