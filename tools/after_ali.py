"""Measure what each change since the paper is worth on faces, one at a time, beside celeba-small: results/after-ali.

    python tools/after_ali.py --data table:PATH    every arm with seed 0: five core hours
    python tools/after_ali.py --data table:PATH --arms bare r1-r2 --seeds 0 1 2 --seconds 1800
    python tools/after_ali.py --page               the page's tables, from what is finished and from the records

An arm trains for so many seconds of processor time, measurements apart, at 32x32, without decay. runs.jsonl gets a line
for each finished run, so the same command goes on if it was stopped, at the next run. README.md is written by hand,
except for what stands between two marks.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import alikit
from alikit import reading
from alikit.architectures import LAPTOP, MODERN
from alikit.data import Dataset
from alikit.errors import Diverged
from alikit.evaluation.measured import measured, same_chance
from alikit.figures import grid
from alikit.recipes import RECIPES, Recipe
from alikit.runs import save_picture, write_whole
from alikit.runs.report import filled
from alikit.runs.settings import upgraded

OUT = Path(__file__).resolve().parents[1] / "results" / "after-ali"
SHOWN = 12  # samples of each run on the page
# The paper's game; celeba-modern for a third of its steps and for all; as long with the cycle on z and without one.
RECORDS = ("celeba-small", "celeba-modern", "celeba-modern-long", "celeba-cycle-on-z", "celeba-without-cycle")
METRICS = ("reconstruction", "codes", "fidelity", "checkerboard")
COLUMNS = {
    "Frechet": "fidelity_frechet",
    "precision": "fidelity_precision",
    "recall": "fidelity_recall",
    "error": "reconstruction_mean",
    "error, drawn": "reconstruction_drawn",
    "cycle": "codes_cycle",
    "sigma": "codes_sigma",
    "spread": "codes_spread",
    "KL": "codes_kl",
    "energy": "codes_energy",
    "checkerboard": "checkerboard_luma",
    "chroma": "checkerboard_chroma",
}


def bare(rows: tuple) -> tuple:
    return tuple(replace(row, batch_norm=False, dropout=0.0) for row in rows)


PAPERS = replace(RECIPES["celeba-small"], decay=False)
BARE_NETWORKS = replace(LAPTOP, of_x=bare(LAPTOP.of_x), of_z=bare(LAPTOP.of_z), joint=bare(LAPTOP.joint), he=True)
# A weight_std would replace He's weights in D, so encoder and decoder begin with PyTorch's.
BARE = replace(PAPERS, networks=BARE_NETWORKS, weight_std=None, betas=(0.0, 0.99))
PENALISED = replace(BARE, r1=0.003, r2=0.003, penalty_every=4)
# celeba-modern's networks with the batch norm and the dropout of celeba-small's D.
RESIZED = replace(
    MODERN,
    of_x=tuple(replace(row, batch_norm=i > 0, dropout=0.2) for i, row in enumerate(MODERN.of_x)),
    of_z=LAPTOP.of_z,
    joint=LAPTOP.joint,
    he=False,
)
BOTH = replace(PAPERS, cycle_x=5.0, cycle_z=0.15, input_noise=0.1)
MODERN_RECIPE = replace(RECIPES["celeba-modern"], decay=False)
ALL = replace(MODERN_RECIPE, cycle_x=0.0, cycle_trains="both", cycle_z=0.2, input_noise=0.1)
RATES = {"lr": ALL.lr, "lr_discriminator": ALL.lr_discriminator}
# What it says, and the recipe; with "falling" the weights of cycles fall to a fifth over the run.
ARMS: dict[str, tuple[str, Recipe]] = {
    "celeba-small": ("the recipe as it is", PAPERS),
    "no-average": ("without averaged weights", replace(PAPERS, ema=0.0, ema_ramp=False)),
    "bare": ("D without batch norm and dropout, He's weights, beta1 = 0", BARE),
    "r1": ("bare, R1 of 0.003", replace(PENALISED, r2=0.0)),
    "r1-r2": ("bare, R1 and R2 of 0.003", PENALISED),
    "relativistic": ("r1-r2, relativistic loss", replace(PENALISED, loss="relativistic")),
    "resized": ("resized convolutions, padding, wider", replace(PAPERS, networks=RESIZED)),
    "cycle-x": ("cycle on x, l1, weight 5", replace(PAPERS, cycle_x=5.0)),
    "cycle-x-judged": ("cycle on x, adversarial, weight 1", replace(PAPERS, cycle_x=1.0, adversarial_cycle=True)),
    "cycle-z": ("cycle on z, weight 0.15", replace(PAPERS, cycle_z=0.15)),
    "cycle-both": ("both, 5 and 0.15, read through noise of 0.1", BOTH),
    "cycle-both-falling": ("the same, falling to a fifth", BOTH),
    "unary": ("D judges x and z alone as well", replace(PAPERS, unary=True)),
    "rates": ("the learning rates of celeba-modern", replace(PAPERS, **RATES)),
    "all-without-cycle": (
        "all without cycle and noise",
        replace(ALL, cycle_z=0.0, input_noise=0.0),
    ),
    "all-slower": (
        "all with celeba-small's rates",
        replace(ALL, lr=PAPERS.lr, lr_discriminator=None),
    ),
    "all-without-unary": ("all without s_x and s_z", replace(ALL, unary=False)),
    "all-without-noise": ("all without its noise", replace(ALL, input_noise=0.0)),
    "all": ("celeba-modern with a cycle on z of 0.2, read through noise of 0.1, instead of its own", ALL),
    "all-encoder": ("celeba-modern: the cycle on x, weight 6, trains the encoder alone", MODERN_RECIPE),
}


def settings_of(arm: str) -> dict:
    """What an arm trains with, as JSON gives it back."""
    return json.loads(json.dumps({"z_dim": ARMS[arm][1].z_dim, **ARMS[arm][1].config()}))


def trained(arm: str, parts: tuple[Dataset, Dataset], seed: int, seconds: float) -> tuple[alikit.Game, int]:
    """The model of an arm after so many seconds of processor time, and its steps."""
    row = ARMS[arm][1]
    torch.manual_seed(seed)
    model = row.build(parts[0].shape, parts[0].mean())
    loop, begun = row.trainer(model, parts[0], seed), time.process_time()

    def fall(progress: object) -> None:
        if arm.endswith("falling"):
            left = 1 - 0.8 * (time.process_time() - begun) / seconds
            model.cycle_x, model.cycle_z = left * row.cycle_x, left * row.cycle_z

    try:
        loop.run(10**9, 50, fall, stop=lambda: time.process_time() - begun >= seconds)
    except KeyboardInterrupt:  # by which a stop ends, and a person
        if time.process_time() - begun < seconds:
            raise
    loop.check_finite()
    return loop.result, loop.step


def finished(folder: Path) -> dict[tuple, dict]:
    """What is finished, by arm, seed and seconds. AlikitError unless the file is whole and its arms are today's."""
    file, known, way = folder / "runs.jsonl", {}, "put it right, or name another folder with --out"
    if file.is_file():
        with reading.boundary(file, way):
            for line in map(json.loads, file.read_text().splitlines()):
                arm = line["arm"]
                if arm not in ARMS or not settings_of(arm).items() <= upgraded(line["settings"]).items():
                    raise alikit.AlikitError(f"{file} has {arm} with other settings: name another folder with --out")
                # JSON has null for a number that was not finite; steps are null where a run diverged.
                numbers = {key: np.nan if line.get(key, 0) is None else line.get(key) for key in COLUMNS.values()}
                known[arm, line["seed"], line["seconds"]] = line | numbers
    return known


def sheet(arm: str, seed: int, seconds: float) -> str:
    return f"{arm}-{seed}-{seconds:g}.png"


def measure(given: argparse.Namespace) -> None:
    """Trains and measures what is not known yet, one line and one picture of samples each."""
    known, parts = finished(given.out), alikit.load(given.data, size=32)
    digest = alikit.runs.digest(parts)
    given.out.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ("alikit", "torch")}
    for arm, seed in ((arm, seed) for seed in given.seeds for arm in given.arms):
        if line := known.get((arm, seed, given.seconds)):
            if line.get("digest", digest) != digest:
                raise alikit.AlikitError(f"{given.out} has {arm} on other data: name another folder with --out")
            continue
        try:
            model, steps = trained(arm, parts, seed, given.seconds)
            found = measured(model, *parts, METRICS)
            with same_chance():
                save_picture(grid(model.sample(SHOWN), SHOWN, zoom=2), given.out / sheet(arm, seed, given.seconds))
        except Diverged:
            steps, found = None, {}
        line = {
            "arm": arm,
            "seed": seed,
            "seconds": given.seconds,
            "steps": steps,
            **found,
            "settings": settings_of(arm),
        }
        with (given.out / "runs.jsonl").open("a") as file:
            file.write(json.dumps(line | {"digest": digest, "hardware": given.hardware, "versions": versions}) + "\n")
        print(arm, seed, steps, {name: found.get(key) for name, key in COLUMNS.items()}, flush=True)


def tables(known: dict[tuple, dict]) -> list[str]:
    """For each length a table with a row for each run, the order of the arms, and pictures of samples."""
    texts = []
    for seconds in sorted({seconds for *_, seconds in known}):
        keys = sorted((seed, arm) for arm, seed, length in known if length == seconds)
        keys.sort(key=lambda key: [*ARMS].index(key[1]))
        rows = [["", "", "seed", "steps", *COLUMNS], ["---"] * (len(COLUMNS) + 4)]
        for seed, arm in keys:
            line = known[arm, seed, seconds]
            found = [f"{line[key]:.3g}" for key in COLUMNS.values()] if line["steps"] else ["diverged"]
            rows.append([arm, ARMS[arm][0], str(seed), f"{line['steps'] or 0:,}", *found])
        lines = {arm: [known[key] for key in known if key[::2] == (arm, seconds)] for _, arm in keys}
        arms = [arm for arm in lines if all(line["steps"] for line in lines[arm])]
        order = dict.fromkeys(arms, 0)
        for name in ("Frechet", "error"):
            mean = {arm: np.mean([line[COLUMNS[name]] for line in lines[arm]]) for arm in arms}
            for rank, arm in enumerate(sorted(arms, key=lambda arm: np.nan_to_num(mean[arm], nan=np.inf))):
                order[arm] += rank
        pictures = [["", "samples"], ["---"] * 2]
        pictures += [[arm, f"![Samples of {arm}]({sheet(arm, seed, seconds)})"] for seed, arm in keys if not seed]
        texts.append(f"After {seconds:g} seconds of processor time:")
        lists = ["\n".join(f"| {' | '.join(row)} |" for row in table) for table in (rows, pictures)]
        texts += [lists[0], f"By the sum of ranks: {', '.join(sorted(order, key=order.get))}.", lists[1]]
    return texts


def of_records() -> str:
    """A table with a row for each of `RECORDS`."""
    rows = [["", "cycle", "steps", "hours", *COLUMNS], ["---"] * (len(COLUMNS) + 4)]
    for folder in (OUT.parent / name for name in RECORDS):
        about, found = (json.loads((folder / f"{part}.json").read_text()) for part in ("settings", "metrics"))
        cycles = [f"on {name}, {about[key]:g}" for name in "xz" if about.get(key := f"cycle_{name}")]
        cycles += ["encoder alone"] if about.get("cycle_trains") == "encoder" else []
        steps = f"{about['images_seen'] // about['batch_size']:,}"
        own = [f"[{folder.name}](../{folder.name})", ", ".join(cycles) or "none", steps, f"{about['hours']:.1f}"]
        rows.append([*own, *(f"{found[key]:.3g}" for key in COLUMNS.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default="data/celeba", help="the folder with CelebA's table of attributes, see docs/data.md"
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS], help="all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="by default 0")
    parser.add_argument("--seconds", type=float, default=900.0, help="of processor time for each, %(default)s")
    parser.add_argument("--hardware", default="not said", help="what to write in the lines")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", action="store_true", help="only the tables of the page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if not given.page:
            measure(given)
        parts = {"records": [of_records()], "arms": tables(finished(given.out))}
        text = filled((OUT / "README.md").read_text(), OUT / "README.md", parts)
        write_whole(given.out / "README.md", lambda place: place.write_text(text))
    except alikit.AlikitError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
