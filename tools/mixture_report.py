"""Turn the recorded runs on the mixture into results/mixture: metrics.json, the figures, and the README's tables.

    python tools/mixture_report.py --keep-best      first copy the best-covering ALI and GAN out of the study's runs/
    python tools/mixture_report.py

Reads runs.jsonl of each study there and the run folders beside them. Every number of the README comes from here. The
study of ALI against GAN and the encoders must have been run; of the other studies the page says which were not.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from scipy import stats

import alikit
from alikit import storage
from alikit.evaluation import measured
from alikit.figures import inference_figure
from alikit.studies import STUDIES

HOME = Path(__file__).resolve().parents[1] / "results" / "mixture"
FOLDERS = {
    "mixture": "",
    "mixture-published": "published",
    "mixture-solved": "solved",
    "mixture-running-bn": "running-bn",
    "mixture-ablation": "ablation",
}
MEASURES = {
    "modes": "modes, the paper's measure",
    "strict_modes": "modes, strict measure",
    "within_3std": "share within 3 sigma",
    "kl_uniform": "KL to equal weights, nats",
}
TRAINED_AFTER = ("inverse", "post-hoc", "vae")
ENCODERS = {
    "ALI": "best-ali",
    "GAN, inverse mapping": "inverse",
    "GAN, post-hoc inference": "post-hoc",
    "VAE": "vae",
    "ALI, solved": "solved-ali",
}
OF_ENCODERS = {
    "strict_modes": "strict modes",
    "within_3std": "within 3 sigma",
    "reconstruction_drawn": "squared error",
    "identity_drawn": "mode kept",
    "identity_strict": "kept, within 3 sigma",
    "prior_distance": "distance of q(z) from the prior",
    "purity": "purity of the latent plane",
}


def lines(study: str = "") -> list[dict]:
    """The finished runs of a study, [] where it has not been run."""
    file = HOME / study / "runs.jsonl"
    return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []


def by_arm(found: list[dict]) -> dict[str, list[dict]]:
    arms: dict[str, list[dict]] = {}
    for line in found:
        arms.setdefault(line["arm"], []).append(line)
    return arms


def summary(values) -> dict[str, float]:
    """Mean, standard deviation, extremes, and the 95 % interval of the mean (Student's t)."""
    values = np.asarray(values, float)
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    found = {"mean": mean, "std": values.std(ddof=1), "low": mean - half, "high": mean + half}
    found |= {"min": values.min(), "max": values.max()}
    return {name: round(float(value), 4) for name, value in found.items()}


def compare(found: list[dict]) -> dict:
    """ALI against GAN on the same settings and seeds: each by itself, and the paired differences."""
    ali, gan = ({line["run"]: line for line in by_arm(found)[arm]} for arm in ("ali", "gan"))
    pairs = sorted(ali.keys() & gan.keys())
    table = {}
    for measure in MEASURES:
        of_ali, of_gan = (np.array([arm[run][measure] for run in pairs], float) for arm in (ali, gan))
        p = {
            "wilcoxon_p": stats.wilcoxon(of_ali, of_gan).pvalue if (of_ali != of_gan).any() else 1.0,
            "paired_t_p": stats.ttest_rel(of_ali, of_gan).pvalue if (of_ali != of_gan).any() else 1.0,
        }
        table[measure] = {
            "ali": summary(of_ali),
            "gan": summary(of_gan),
            "difference": summary(of_ali - of_gan),
            **{name: round(float(value), 4) for name, value in p.items()},
        }
    diverged = {name: sum(arm[run]["diverged"] for run in pairs) for name, arm in (("ali", ali), ("gan", gan))}
    gap = [ali[run]["strict_modes"] - gan[run]["strict_modes"] for run in pairs]
    drawn = {
        "learning rate": [ali[run]["lr"] for run in pairs],
        "beta1": [ali[run]["betas"][0] for run in pairs],
        "weight std": [ali[run]["weight_std"] for run in pairs],
    }
    ranks = {}
    for setting, values in drawn.items():
        found = stats.spearmanr(values, gap)
        ranks[setting] = {"rho": round(float(found.statistic), 4), "p": round(float(found.pvalue), 4)}
    return {"pairs": len(pairs), "diverged": diverged, "measures": table, "strict_modes_gap_against": ranks}


# Notebook 02 measures the slope of their discriminators.
ASKED_HOW_STEEP = ("best-ali", "solved-ali")


def keep(study: str, arm: str, name: str, which: Callable = max) -> None:
    """Copies the best run of an arm, or with `min` the worst, to the folder `name`: by strict modes, then 3 sigma."""
    run = which(by_arm(lines(study))[arm], key=lambda line: (line["strict_modes"], line["within_3std"]))["run"]
    shutil.rmtree(HOME / name, ignore_errors=True)
    shutil.copytree(HOME / study / "runs" / f"{arm}-{run:03d}", HOME / name)


def lighten(name: str, discriminator: bool = False) -> None:
    """Of a kept run's weights, halves those of its layers (what is measured is measured of these), and leaves out the
    discriminator of one that only samples and encodes from now on; one that is only asked how steep it is, is kept in
    8 bits. A decoder that another kept run has trained is kept there alone."""
    model, settings = alikit.load_model(HOME / name), alikit.runs.settings(HOME / name)
    kept = {key: _half(tensor) for key, tensor in model.state_dict().items() if not key.startswith("discriminator.")}
    if discriminator:
        packed = storage.pack(model.discriminator, limit=0)
        kept |= {f"discriminator.{key}": tensor for key, tensor in packed.items()}
    if settings["decoder"]:
        other = HOME / Path(settings["decoder"]).name
        same = zip(model.decoder.parameters(), alikit.load_model(other).decoder.parameters(), strict=True)
        if all(_half(one).equal(_half(two)) for one, two in same):
            kept = {key: tensor for key, tensor in kept.items() if not key.startswith("decoder.")}
            alikit.runs.write_settings(HOME / name, settings | {"decoder_from_run": f"../{other.name}"})
    alikit.runs.save_weights(HOME / name, kept)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.ndim > 1 else tensor


def study_figure(found: list[dict]) -> plt.Figure:
    """Every run of the study by three measures, ALI and GAN of the same settings joined by a line."""
    table = pd.DataFrame(found).sort_values("run")
    table["arm"] = table["arm"].str.upper()
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    for axis, measure in zip(axes, ("modes", "strict_modes", "within_3std"), strict=True):
        sns.lineplot(table, x="arm", y=measure, units="run", estimator=None, color="0.8", lw=1, ax=axis)
        sns.stripplot(table, x="arm", y=measure, hue="arm", order=["GAN", "ALI"], size=6, jitter=False, ax=axis)
        axis.set(title=MEASURES[measure], xlabel="", ylabel="", ylim=(-0.04, 1.04) if "3" in measure else (-1, 26))
    sns.despine(figure)
    return figure


def table(head: list[str], rows: list[list]) -> str:
    cells = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def spread(s: dict) -> str:
    return f"{s['mean']:.3g} ± {s['std']:.2g} ({s['min']:.3g} to {s['max']:.3g})"


def settled(p: float) -> str:
    return "the runs tell them apart" if p < 0.05 else "these runs do not tell them apart"


def readme(report: dict) -> str:
    """The page of the results, every number taken from `report`."""
    compared, studies = report["comparison"], report["studies"]
    head = ["", "ALI", "GAN", "ALI minus GAN, 95 % interval", "Wilcoxon p", "paired t p"]
    pairs = [
        [
            MEASURES[measure],
            spread(row["ali"]),
            spread(row["gan"]),
            f"{row['difference']['mean']:+.3g} [{row['difference']['low']:+.3g}, {row['difference']['high']:+.3g}]",
            f"{row['wilcoxon_p']:.2g}",
            f"{row['paired_t_p']:.2g}",
        ]
        for measure, row in compared["measures"].items()
    ]
    encoders = [
        [title, *("" if found[name] is None else f"{found[name]:.3g}" for name in OF_ENCODERS)]
        for title, found in report["encoders"].items()
    ]
    return TEMPLATE.substitute(
        pairs=compared["pairs"],
        steps=f"{studies['mixture'][0]['steps']:,}",
        diverged=f"ALI {compared['diverged']['ali']}, GAN {compared['diverged']['gan']}",
        comparison=table(head, pairs),
        verdict=settled(compared["measures"]["strict_modes"]["wilcoxon_p"]),
        ranks=", ".join(
            f"{setting} {found['rho']:+.2f} (p = {found['p']:.2g})"
            for setting, found in compared["strict_modes_gap_against"].items()
        ),
        commands="\n".join(f"    {command}" for command in report["commands"]),
        encoders=table(["", *OF_ENCODERS.values()], encoders),
        floor=f"{next(iter(report['encoders'].values()))['prior_floor']:.2g}",
        solved=of_arms("mixture-solved", studies),
        running_bn=of_arms("mixture-running-bn", studies),
        ablation=of_arms("mixture-ablation", studies),
        published=of_arms("mixture-published", studies),
        versions=", ".join(f"{name} {number}" for name, number in report["versions"].items()),
        hours=f"{sum(line['seconds'] for found in studies.values() for line in found) / 3600:.1f}",
    )


def of_arms(name: str, studies: dict[str, list[dict]]) -> str:
    """A row for each arm of a study: how many runs, how long, how many cover all, each measure's mean and worst."""
    if not studies[name]:
        return "*Not run yet.*"
    head = ["", "runs", "steps", "with all modes", "strict modes", "within 3 sigma", "mode kept"]
    rows = []
    found = by_arm(studies[name])
    for arm in filter(found.get, STUDIES[name].arms):
        runs = found[arm]
        row = [arm, len(runs), f"{runs[0]['steps']:,}", sum(run["strict_modes"] == 25 for run in runs)]
        for measure in ("strict_modes", "within_3std", "identity_drawn"):
            values = [run[measure] for run in runs if run.get(measure) is not None]
            row.append(f"{np.mean(values):.4g} (worst {min(values):.4g})" if values else "no encoder")
        rows.append(row)
    return table(head, rows)


TEMPLATE = Template("""# The mixture of 25 Gaussians

Does learning inference jointly help (paper section 4.5)? Every number here is written by `tools/mixture_report.py` from
the lines that the studies left, `runs.jsonl` here and in the folders below; `metrics.json` holds all of it.

Measured with $versions.
On the CPU of a shared server, one thread a worker; $hours core hours for the studies. "Strict" counts modes that hold
at least 20 of 10,000 samples within 3 standard deviations (of real data 98.9 % lie there).

## ALI against GAN on the same random settings

    alikit study mixture --out results/mixture

$pairs settings, each for both games with the same seed, $steps steps (the paper's 200,000 want a GPU, and have not been
run). Learning rate log-uniform in 1e-5 to 1e-3, beta1 uniform in 0 to 0.9, weight std log-uniform in 0.004 to 0.1.
Diverged, and counted: $diverged.

$comparison

Mean ± standard deviation (least to most). The paper reports 13.4 ± 5.8 modes for ALI and 10.4 ± 9.2 for the GAN by its
measure. **By the strict measure, $verdict.**

![Every run by three measures](study.png)

*A line joins ALI and GAN of the same settings.*

Looked at afterwards, so a lead to follow and no test: Spearman's rank correlation of ALI's lead in strict modes with
each drawn setting: $ranks.

## Four ways to an encoder

$commands

The best-covering ALI and GAN of the study, two encoders for that GAN with its own settings, and a VAE, which plays no
game that a quick learning rate could upset; each trained once and asked about 10,000 held-out points. The last row is
the best of twenty runs of the recipe of the next section, and it alone has precise statistics of batch norm. The
distance between two sets of as many draws of the prior is $floor.

$encoders

![Five rows for each model](figure.png)

*Rows: held-out points; their codes; their reconstructions; draws from the prior; samples.*

## The grid, solved

    alikit study mixture-solved --out results/mixture/solved

`mixture-ali`: no reconstruction term. Its seeds, 2000 and on, had not been looked at when the recipe was settled.
"With all modes" counts the runs that cover 25 strictly.

$solved

### With running statistics

    alikit study mixture-running-bn --out results/mixture/running-bn

The recipe as it first was, sampled with batch norm's running statistics, on other seeds. Seed 1000 was looked at while
it was chosen, the later ones were not. A batch of 100 that is scaled to variance 1 has 100/99 when counted without
bias, and the next layer's running statistics take that in, so that in sampling each layer but the first divides by
about half a percent too much. The outer modes are then drawn too far in, and in seed 1019, kept in `failed-ali`, so far
that one is at the border of being lost: some draws of 10,000 samples have it, the recorded one has not. `precise_bn`
counts the statistics anew, over 10,000 examples; notebook 02 does it for that run.

$running_bn

### One thing changed at a time

    alikit study mixture-ablation --out results/mixture/ablation

The recipe, then without R1, without averaged weights, with running statistics, with a constant learning rate, with more
momentum, with one deviation for the first weights of all layers, with larger batches, with noise in the encoder, and
without an encoder. A third of the length, so that the recipe itself has not arrived. Notebook 02 reads the table.

$ablation

### The published single setting

    alikit study mixture-published --out results/mixture/published

One run each, of 30,000 of the paper's 200,000 steps. beta1 was written as 0.8, in a framework whose Adam took 1 - beta;
most likely 0.2 was meant.

$published
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep-best", action="store_true", help="copy the best runs out of the studies' runs/")
    if parser.parse_args().keep_best:
        keep("", "ali", "best-ali")
        keep("", "gan", "best-gan")
        if lines("solved"):
            keep("solved", "ali", "solved-ali")
        if lines("running-bn"):
            keep("running-bn", "ali", "failed-ali", min)
        for folder in HOME.glob("*/weights.safetensors"):
            lighten(folder.parent.name, discriminator=folder.parent.name in ASKED_HOW_STEEP)

    parts = alikit.load("mixture")
    models = {title: alikit.load_model(HOME / name) for title, name in ENCODERS.items() if (HOME / name).exists()}
    report = {
        "versions": {name: version(name) for name in ("alikit", "torch", "optuna", "scipy")},
        "studies": {name: lines(folder) for name, folder in FOLDERS.items()},
        "comparison": compare(lines()),
        "commands": [json.loads((HOME / name / "settings.json").read_text())["command"] for name in TRAINED_AFTER],
        "encoders": {title: measured(model, *parts) for title, model in models.items()},
    }
    # The lines of the studies lie beside it. A third smaller than with a line a number.
    kept = {name: found for name, found in report.items() if name != "studies"}
    (HOME / "metrics.json").write_text(json.dumps(kept) + "\n")
    study_figure(lines()).savefig(HOME / "study.png", dpi=110)
    inference_figure(models, parts[1].x, parts[1].labels).savefig(HOME / "figure.png", dpi=110)
    (HOME / "README.md").write_text(readme(report))


if __name__ == "__main__":
    main()
