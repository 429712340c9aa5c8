"""Measure what codes keep of rendered house numbers and what they let go: results/what-z-keeps.

    alikit train house-numbers-vae
    alikit train house-numbers-gan
    alikit train house-numbers-post-hoc --decoder runs/house-numbers-gan-seed0
    python tools/what_z_keeps.py --judge      train the judge, 7 minutes on one core
    python tools/what_z_keeps.py              measure these and the recorded ALI run, some minutes

For each factor of pictures that no run was trained on: how well a linear probe reads it from z, and how well the judge
reads it off the reconstruction, beside what the judge reads off the originals. All have the same encoder and decoder
and saw as many pictures. Of the runs named here settings and logs are kept, of ALI, in results/house-numbers, all.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

import alikit
from alikit import storage
from alikit.data import Dataset
from alikit.evaluation.factors import Judge, Score, asked, read, read_pixels, score, trained_judge, uninformed
from alikit.evaluation.measured import same_chance
from alikit.figures import DATA, ENCODER, MODEL, drawn, few_colours, strips
from alikit.runs import save_picture, write_whole

RESULTS = Path(__file__).resolve().parents[1] / "results"
OUT = RESULTS / "what-z-keeps"
MODELS = ("ALI", "VAE", "post-hoc GAN")
COLOURS = {"ALI": ENCODER, "VAE": DATA, "post-hoc GAN": MODEL}
LEAST = -0.3  # where the figure ends
HELD_OUT, SEED = 5_000, 2  # seeds 0 and 1 drew the pictures of the runs
JUDGE = {"pictures": 60_000, "seed": 3, "epochs": 8, "batch_size": 128, "lr": 4e-3}


def train_judge(data: Dataset, epochs: int, batch_size: int, lr: float) -> Judge:
    """Trains a judge by Adam at a rate that rises once to `lr` and falls to 0."""
    judge, truth = Judge(data).to(memory_format=torch.channels_last), asked(data.factors)
    steps = len(data) // batch_size
    optimiser = torch.optim.Adam(judge.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=epochs * steps)
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        for index in torch.randperm(len(data)).split(batch_size)[:steps]:
            with torch.autocast("cpu", torch.bfloat16):  # half the time
                loss = judge.loss(data.floats(index), {name: v[index] for name, v in truth.items()})
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
        print(f"epoch {epoch}  loss {loss.item():.3f}  {time.perf_counter() - started:.0f} s", flush=True)
    return judge.eval()


def answers(judge: Judge, pictures: list[Tensor]) -> dict[str, Tensor]:
    """The judge's answers about all pictures of some batches."""
    found = [judge(x) for x in pictures]
    return {name: torch.cat([part[name] for part in found]) for name in judge.names}


def measure(models: dict[str, alikit.Game], judge: Judge, train: Dataset, held_out: Dataset) -> dict[str, dict]:
    """Of each factor: the judge on originals, who knows nothing, a probe of pixels; and by name of each model `read`,
    by a probe of z, `kept`, by the judge on reconstructions from the mean code, `kept_drawn` from a drawn one."""
    truth, known = asked(held_out.factors), asked(train.factors)
    originals = answers(judge, [*held_out.batches(500)])
    pixels = read_pixels(next(iter(models.values())).z_dim, train, held_out)
    found = {
        name: {
            "judge": _numbers(score(originals[name], of)),
            "uninformed": round(uninformed(known[name], of).value, 4),
            "pixels": _numbers(pixels[name]),
            "models": {},
        }
        for name, of in truth.items()
    }
    for model_name, model in models.items():
        readings = read(model, train, held_out)
        with same_chance():
            kept = {
                key: answers(judge, [model.reconstruct(x, sample=drawn) for x in held_out.batches(500)])
                for key, drawn in (("kept", False), ("kept_drawn", True))
            }
        for name, of in truth.items():
            found[name]["models"][model_name] = {"read": _numbers(readings[name])} | {
                key: _numbers(score(said[name], of)) for key, said in kept.items()
            }
    return found


def _numbers(of: Score) -> list[float]:
    """Value and 95 % interval."""
    return [round(number, 4) for number in (of.value, *of.interval())]


def draw(factors: dict[str, dict], models: list[str]) -> Figure:
    """A row a factor, a mark a model: left what is read from z, right what comes back in the reconstruction."""
    figure = Figure(figsize=(10, 0.5 * len(factors) + 1.7), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, limit, title in (
        (panels[0], "read", "pixels", "read from z by a linear probe (black: from pixels)"),
        (panels[1], "kept", "judge", "kept in the reconstruction, says the judge (black: of originals)"),
    ):
        for row, known in enumerate(factors.values()):
            panel.plot(2 * [known["uninformed"]], [row - 0.35, row + 0.35], color="0.6", linewidth=1.5)
            panel.plot(2 * [known[limit][0]], [row - 0.35, row + 0.35], color="black", linewidth=1.5)
            for place, name in enumerate(models):
                value, low, high = known["models"][name][key]
                y = row + 0.22 * (place - (len(models) - 1) / 2)
                panel.plot([max(low, LEAST), max(high, LEAST)], [y, y], color=COLOURS[name], linewidth=1)
                panel.plot(max(value, LEAST), y, "o" if value > LEAST else "<", color=COLOURS[name], markersize=6)
        panel.set(xlim=(LEAST - 0.03, 1.02), xlabel="share right; of numbers (ink to blur) $R^2$")
        panel.set_title(title, size="medium")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(yticks=range(len(factors)), yticklabels=list(factors), ylim=(len(factors) - 0.5, -0.5))
    marks = [Line2D([], [], color=COLOURS[name], marker="o", linewidth=1, label=name) for name in models]
    marks += [Line2D([], [], color="0.6", label="knowing nothing")]
    marks += [Line2D([], [], color="0.3", marker="<", linewidth=0, label=f"below {LEAST}")]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
    return figure


def table(factors: dict[str, dict], models: list[str]) -> str:
    """The numbers behind `draw`, as Markdown."""
    heads = [f"{name}: {what}" for name in models for what in ("read", "kept")]
    lines = [
        f"| | knowing nothing | originals | pixels | {' | '.join(heads)} |",
        "| --- |" + " --- |" * (3 + len(heads)),
    ]
    for name, known in factors.items():
        cells = [known["models"][model][key][0] for model in models for key in ("read", "kept")]
        numbers = (known["uninformed"], known["judge"][0], known["pixels"][0], *cells)
        lines.append(f"| {name} | {' | '.join(f'{number:.3f}' for number in numbers)} |")
    return "\n".join(lines)


PAGE = """# What z keeps

    alikit train house-numbers-vae
    alikit train house-numbers-gan
    alikit train house-numbers-post-hoc --decoder runs/house-numbers-gan-seed0
    python tools/what_z_keeps.py --judge
    python tools/what_z_keeps.py

The first three take half an hour to three quarters each on one thread, the judge 7 minutes. ALI is the recorded run
[house-numbers](../house-numbers); of the others settings and logs are kept here, not their weights. What the last two
commands write takes the place of what lies here. Runs by other names are told by `--vae`, `--gan` and `--post-hoc`.

{held_out:,} house numbers that no run was trained on (seed {seed}), each of whose factors is known. *Read*: a linear
probe of the encoder's mean code, fitted on the {train:,} training pictures; *pixels* is the same probe on as many
principal components of the pixels. *Kept*: what a judge reads off the reconstruction from the mean code; *originals* is
what it reads off the pictures themselves. Digit and font: share right; neighbours: share of both sides on which it is
right whether there is one; the others: R^2, 1 less the squared error over the variance, which falls below 0 where the
answer is worse than the mean. 95 % intervals, by resampling the pictures, are in `metrics.json`: none is wider than
{widest:.3f}. They know nothing of how another seed of training would differ; each model is one run, seed 0.

{table}

![What is read from z and what is kept in the reconstruction, by factor and model](figure.png)

![Twelve originals and what the three models make of them](reconstructions.png)

From a code drawn from q(z|x) in place of the mean one, the digit is kept by {drawn}.

The judge (`judge.safetensors`) is a small convolutional network, trained on {pictures:,} other house numbers
(`python tools/what_z_keeps.py --judge`, seed {judge_seed}). It has seen clean pictures only: what it says of
smeared ones is a guess like any other.

{runs}

The GAN, whose decoder the last one has, saw as many pictures before. {hardware}; torch {torch}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="store_true", help="train the judge, which takes 7 minutes, and keep it")
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads, no GPU"
    parser.add_argument("--hardware", default=hardware, help="what it is measured on, in words")
    parser.add_argument(
        "--ali", type=Path, default=Path("results/house-numbers"), help="run folder or record, by default %(default)s"
    )
    parser.add_argument(
        "--vae", type=Path, default=Path("runs/house-numbers-vae-seed0"), help="run folder, by default %(default)s"
    )
    parser.add_argument(
        "--gan", type=Path, default=Path("runs/house-numbers-gan-seed0"), help="run folder, by default %(default)s"
    )
    parser.add_argument(
        "--post-hoc",
        type=Path,
        default=Path("runs/house-numbers-post-hoc-seed0"),
        help="run folder, by default %(default)s",
    )
    arguments = parser.parse_args()
    if arguments.judge:
        settings = dict(JUDGE)
        torch.manual_seed(settings["seed"])
        judge = train_judge(alikit.house_numbers(settings.pop("pictures"), settings.pop("seed")), **settings)
        OUT.mkdir(exist_ok=True)
        in_8_bits = storage.to_file(judge, limit=0)
        write_whole(OUT / "judge.safetensors", lambda file: file.write_bytes(in_8_bits))
        return
    folders = dict(zip(MODELS, (arguments.ali, arguments.vae, arguments.post_hoc), strict=True))
    try:
        models = {name: alikit.load_model(folder) for name, folder in folders.items()}
        judge = trained_judge(OUT / "judge.safetensors")
        kept = {folder: keep(folder) for folder in (arguments.vae, arguments.gan, arguments.post_hoc)}
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")
    known = {name: kept.get(folder) or alikit.runs.settings(folder) for name, folder in folders.items()}
    train, held_out = alikit.house_numbers(20_000, seed=0), alikit.house_numbers(HELD_OUT, SEED)
    report = {
        "held_out": {"n": HELD_OUT, "seed": SEED},
        "judge": JUDGE,
        "hardware": arguments.hardware,
        "torch": torch.__version__,
        "runs": {name: {k: of[k] for k in ("recipe", "seed", "steps", "batch_size")} for name, of in known.items()},
        "factors": measure(models, judge, train, held_out),
    }
    write_whole(OUT / "metrics.json", lambda file: file.write_text(json.dumps(report, indent=1) + "\n"))
    figure = draw(report["factors"], list(models))
    save_picture(few_colours(drawn(figure)), OUT / "figure.png")
    x = held_out.floats(slice(12))
    rows = {"originals": x} | {name: model.reconstruct(x, sample=False) for name, model in models.items()}
    save_picture(few_colours(strips(rows)), OUT / "reconstructions.png")
    write_whole(OUT / "README.md", lambda file: file.write_text(page(report, len(train))))


def keep(run: Path) -> dict:
    """Copies settings and log of a finished run beside the results, without its weights; returns the settings."""
    settings, place = alikit.runs.settings(run), OUT / f"{run.name.removesuffix('-seed0')}"
    if (step := alikit.runs.checkpoint(run)["step"]) < settings["steps"]:
        raise alikit.AlikitError(f"{run} is at step {step} of {settings['steps']}: finish it with: alikit resume {run}")
    alikit.runs.write_settings(place, settings)
    log = "".join(json.dumps(line) + "\n" for line in alikit.runs.metrics(run))
    write_whole(place / "metrics.jsonl", lambda file: file.write_text(log))
    return settings


def page(report: dict, train: int) -> str:
    """The page of the results, every number taken from `report`."""
    numbers = [n for f in report["factors"].values() for m in f["models"].values() for n in m.values()]
    return PAGE.format(
        held_out=report["held_out"]["n"],
        seed=report["held_out"]["seed"],
        train=train,
        widest=max(high - low for _, low, high in numbers),
        table=table(report["factors"], list(report["runs"])),
        drawn=", ".join(
            f"{name} in {m['kept_drawn'][0]:.3f}" for name, m in report["factors"]["digit"]["models"].items()
        ),
        pictures=report["judge"]["pictures"],
        judge_seed=report["judge"]["seed"],
        runs="\n".join(
            f"- {name}: recipe `{run['recipe']}`, seed {run['seed']}, {run['steps']:,} steps of {run['batch_size']}"
            for name, run in report["runs"].items()
        ),
        hardware=report["hardware"],
        torch=report["torch"],
    )


if __name__ == "__main__":
    main()
