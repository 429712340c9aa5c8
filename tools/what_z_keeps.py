"""Measure what codes keep of rendered house numbers and what they let go: results/what-z-keeps.

    alikit train house-numbers-vae
    alikit train house-numbers-gan
    alikit train house-numbers-post-hoc --decoder runs/house-numbers-gan-seed0
    python tools/what_z_keeps.py --judge      train the factor classifier, 7 minutes on one core
    python tools/what_z_keeps.py              measure these and the recorded ALI run, some minutes
    python tools/what_z_keeps.py --later      measure the recorded runs with what came after instead, and the last of
                                              them with the seeds 1 and 2 too: alikit train house-numbers-modern
                                              --steps 7500 --seed 1

For each factor of pictures that no run was trained on: how well a linear probe reads it from z, and how well the factor
classifier reads it off the reconstruction, beside the originals. ALI, VAE and GAN have the same encoder and decoder and
saw as many pictures. Settings and logs of the runs above are kept; of recorded runs, in their own folders, everything.
README.md is written by hand there, except for what stands between two marks.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

import alikit
from alikit import storage
from alikit.data import Dataset
from alikit.evaluation.factors import (
    FactorClassifier,
    Score,
    read,
    read_pixels,
    score,
    targets,
    trained_factor_classifier,
    uninformed,
)
from alikit.evaluation.measured import same_chance
from alikit.figures import DATA, ENCODER, MODEL, drawn, strips
from alikit.runs import save_picture, write_whole
from alikit.runs.report import filled
from alikit.runs.settings import OFF

RESULTS = Path(__file__).resolve().parents[1] / "results"
OUT = RESULTS / "what-z-keeps"
# What came after, see notebook 07; other networks, other lengths.
LATER = ("house-numbers-without-noise", "house-numbers-cycle-on-z", "house-numbers-modern")
LATER_SEEDS = (1, 2)  # of the last one too
COLOURS = {"ALI": ENCODER, "VAE": DATA, "post-hoc GAN": MODEL}
LEAST = -0.3  # where the figure ends
TRAIN = 20_000
HELD_OUT, SEED = 5_000, 2  # seeds 0 and 1 drew the pictures of the runs
JUDGE = {"pictures": 60_000, "seed": 3, "epochs": 8, "batch_size": 128, "lr": 4e-3}


def train_classifier(data: Dataset, epochs: int, batch_size: int, lr: float) -> FactorClassifier:
    """Trains a factor classifier by Adam at a rate that rises once to `lr` and falls to 0."""
    classifier, truth = FactorClassifier(data).to(memory_format=torch.channels_last), targets(data.factors)
    steps = len(data) // batch_size
    optimiser = torch.optim.Adam(classifier.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=epochs * steps)
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        for index in torch.randperm(len(data)).split(batch_size)[:steps]:
            with torch.autocast("cpu", torch.bfloat16):  # half the time
                loss = classifier.loss(data.floats(index), {name: v[index] for name, v in truth.items()})
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
        print(f"epoch {epoch}  loss {loss.item():.3f}  {time.perf_counter() - started:.0f} s", flush=True)
    return classifier.eval()


def measure(
    models: dict[str, alikit.Game], classifier: FactorClassifier, train: Dataset, held_out: Dataset
) -> dict[str, dict]:
    """For each factor: the classifier on originals, the best constant, a probe of pixels; and of each model `read`, by
    a probe of z, `kept`, by the classifier on reconstructions from the mean code, `kept_drawn` from a drawn one."""

    def numbers(of: Score) -> list[float]:
        """Value and 95 % interval."""
        return [round(number, 4) for number in (of.value, *of.interval())]

    def judged(pictures: Iterable[Tensor]) -> dict[str, list[float]]:
        answers = [classifier(x) for x in pictures]
        return {name: numbers(score(torch.cat([part[name] for part in answers]), of)) for name, of in truth.items()}

    truth, known, found = targets(held_out.factors), targets(train.factors), {}
    originals = judged(held_out.batches(500))
    pixels = read_pixels(next(iter(models.values())).z_dim, train, held_out)
    for name, of in truth.items():
        least = round(uninformed(known[name], of).value, 4)
        found[name] = {"judge": originals[name], "uninformed": least, "pixels": numbers(pixels[name]), "models": {}}
    for model_name, model in models.items():
        readings = read(model, train, held_out)
        with same_chance():
            kept, kept_drawn = (
                judged(model.reconstruct(x, sample=sample) for x in held_out.batches(500)) for sample in (False, True)
            )
        for name in truth:
            of = {"read": numbers(readings[name]), "kept": kept[name], "kept_drawn": kept_drawn[name]}
            found[name]["models"][model_name] = of
    return found


def draw(factors: dict[str, dict], models: list[str]) -> Figure:
    """A row a factor, a mark a model: left what is read from z, right what the reconstruction keeps."""
    figure = Figure(figsize=(10, 0.5 * len(factors) + 1.7), dpi=110, layout="constrained")
    panels, rows, known = figure.subplots(1, 2, sharey=True), np.arange(len(factors)), factors.values()
    for panel, key, limits, title in (
        (panels[0], "read", "pixels", "read from z by a linear probe (black: from pixels)"),
        (panels[1], "kept", "judge", "kept in the reconstruction, by a classifier (black: originals)"),
    ):
        panel.vlines([of["uninformed"] for of in known], rows - 0.35, rows + 0.35, "0.6", label="knowing nothing")
        panel.vlines([of[limits][0] for of in known], rows - 0.35, rows + 0.35, "black")
        for place, name in enumerate(models):
            value, low, high = np.array([of["models"][name][key] for of in known]).clip(LEAST).T
            y = rows + 0.22 * (place - (len(models) - 1) / 2)
            panel.hlines(y, low, high, COLOURS[name], linewidth=1)
            seen = value > LEAST
            panel.plot(value[seen], y[seen], "o", color=COLOURS[name], label=name)
            panel.plot(value[~seen], y[~seen], "<", color=COLOURS[name])
        panel.set(xlim=(LEAST - 0.03, 1.02), xlabel="share right; of numbers (ink to blur) $R^2$")
        panel.set_title(title, size="medium")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(yticks=rows, yticklabels=list(factors), ylim=(len(factors) - 0.5, -0.5))
    panels[1].plot([], [], "<", color="0.3", label=f"below {LEAST}")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=9, frameon=False)
    return figure


def table(factors: dict[str, dict], models: list[str]) -> str:
    """The numbers behind `draw`, as Markdown."""
    both = [(model, key) for model in models for key in ("read", "kept")]
    heads = ["", "knowing nothing", "originals", "pixels", *(f"{model}: {key}" for model, key in both)]
    lines = [heads, ["---"] * len(heads)]
    for name, known in factors.items():
        cells = [known["models"][model][key][0] for model, key in both]
        numbers = (known["uninformed"], known["judge"][0], known["pixels"][0], *cells)
        lines.append([name, *(f"{number:.3f}" for number in numbers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def setting(runs: dict[str, dict]) -> list[str]:
    return [
        f"- {name}: recipe `{run['recipe']}`, seed {run['seed']}, {run['steps']:,} steps of {run['batch_size']}"
        for name, run in runs.items()
    ]


def over_seeds(of: dict[str, dict]) -> str:
    """What becomes of the digit in the last of `LATER`, over its seeds."""
    found = {}
    for kind in ("read", "kept"):
        values = [of[name][kind][0] for name in (LATER[-1], *map(str, LATER_SEEDS))]
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        found[kind] = f"{np.mean(values):.3f} ± {half:.3f}"
    seeds = ", ".join(map(str, (0, *LATER_SEEDS)))
    kept, read = found["kept"], found["read"]
    what = f"{LATER[-1]} keeps the digit in {kept}, and a probe of its codes reads it in {read}"
    return f"Over the seeds {seeds}, {what}: mean and 95 % interval (Student's t)."


def page(report: dict, later: dict) -> str:
    """The page of the results, every number between its marks taken from these."""
    factors, classifier, file = report["factors"], report["judge"], OUT / "README.md"
    intervals = [high - low for f in factors.values() for m in f["models"].values() for _, low, high in m.values()]
    from_drawn = ", ".join(f"{name} in {m['kept_drawn'][0]:.3f}" for name, m in factors["digit"]["models"].items())
    lines = [
        *setting(report["runs"]),
        f"- probe: {TRAIN:,} training pictures of the runs",
        f"- factor classifier: {classifier['pictures']:,} other house numbers, seed {classifier['seed']}",
        f"- held out: {report['held_out']['n']:,} pictures, seed {report['held_out']['seed']}",
        f"- {report['hardware']}; torch {report['torch']}",
    ]
    parts = {
        "setting": ["\n".join(lines)],
        "factors": [table(factors, list(report["runs"])), f"No interval is wider than {max(intervals):.3f}."],
        "drawn": [f"From a code drawn from q(z|x) in place of the mean one, the digit is kept by {from_drawn}."],
        "later": [
            "\n".join(setting({name: later["runs"][name] for name in LATER})),
            table(later["factors"], list(LATER)),
            over_seeds(later["factors"]["digit"]["models"]),
        ],
    }
    return filled(file.read_text(), file, parts)


def keep(run: Path) -> dict:
    """Copies settings and log of a finished run beside the results, without its weights; returns the settings."""
    settings, place = alikit.runs.read_settings(run), OUT / run.name.removesuffix("-seed0")
    if (step := alikit.runs.checkpoint(run)["step"]) < settings["steps"]:
        raise alikit.AlikitError(f"{run} is at step {step} of {settings['steps']}: finish it with: alikit resume {run}")
    alikit.runs.write_settings(place, settings)
    shutil.copy(run / "metrics.jsonl", place)
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--judge", action="store_true", help="train the factor classifier, 7 minutes, and keep it")
    one.add_argument("--later", action="store_true", help="measure the recorded runs with what came after")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs lie, by default %(default)s")
    given = parser.parse_args()
    if given.judge:
        settings = dict(JUDGE)
        torch.manual_seed(settings["seed"])
        classifier = train_classifier(alikit.house_numbers(settings.pop("pictures"), settings.pop("seed")), **settings)
        in_8_bits = storage.to_file(classifier, limit=0)
        write_whole(OUT / "judge.safetensors", lambda file: file.write_bytes(in_8_bits))
        return
    vae, gan, post_hoc = (given.runs / f"house-numbers-{game}-seed0" for game in ("vae", "gan", "post-hoc"))
    folders, seeds = {"ALI": RESULTS / "house-numbers", "VAE": vae, "post-hoc GAN": post_hoc}, {}
    if given.later:
        seeds = {str(seed): given.runs / f"{LATER[-1]}-seed{seed}" for seed in LATER_SEEDS}
        folders = {name: RESULTS / name for name in LATER} | seeds
    try:
        models = {name: alikit.load_model(folder) for name, folder in folders.items()}
        classifier = trained_factor_classifier(OUT / "judge.safetensors")
        known = {name: alikit.runs.read_settings(folder) for name, folder in folders.items()}
        for folder in seeds.values() if given.later else (vae, gan, post_hoc):
            keep(folder)
        for seed in seeds:
            wanted = known[LATER[-1]] | {"seed": int(seed)}
            if any(known[seed][key] != wanted[key] for key in ("recipe", "seed", "steps", *OFF)):
                run = f"{LATER[-1]}, {wanted['steps']} steps, seed {seed}"
                raise alikit.AlikitError(f"{folders[seed]} is not {run}: train that")
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")
    train, held_out = alikit.house_numbers(TRAIN, seed=0), alikit.house_numbers(HELD_OUT, SEED)
    report = {
        "held_out": {"n": HELD_OUT, "seed": SEED},
        "judge": JUDGE,
        "hardware": f"{torch.get_num_threads()} threads, no GPU",
        "torch": torch.__version__,
        "runs": {name: {k: of[k] for k in ("recipe", "seed", "steps", "batch_size")} for name, of in known.items()},
        "factors": measure(models, classifier, train, held_out),
    }
    names = ("later", "later") if given.later else ("metrics", "reconstructions")
    write_whole(OUT / f"{names[0]}.json", lambda file: file.write_text(json.dumps(report, indent=1) + "\n"))
    if not given.later:
        save_picture(drawn(draw(report["factors"], list(models))), OUT / "figure.png")
    x = held_out.floats(slice(12))
    shown = {name: models[name] for name in (LATER if given.later else models)}
    rows = {"originals": x} | {name: model.reconstruct(x, sample=False) for name, model in shown.items()}
    save_picture(strips(rows), OUT / f"{names[1]}.png")
    both = (json.loads((OUT / f"{name}.json").read_text()) for name in ("metrics", "later"))
    text = page(*both)
    write_whole(OUT / "README.md", lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
