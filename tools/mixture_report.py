"""Turn the recorded runs on the mixture into results/mixture: metrics.json, the figures, and the README's tables.

    python tools/mixture_report.py --keep-best      first copy the best-covering ALI and GAN out of the study's runs/
    python tools/mixture_report.py

Reads runs.jsonl of each study there and the run folders beside them. Every number of the README comes from here; what
has not been run yet is named in it.
"""

import argparse
import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from scipy import stats

import alikit
from alikit.evaluation import measured
from alikit.figures import inference_figure

HOME = Path(__file__).resolve().parents[1] / "results" / "mixture"
MEASURES = {
    "modes": "modes, the paper's measure",
    "strict_modes": "modes, strict measure",
    "within_3std": "share within 3 sigma",
    "kl_uniform": "KL to equal weights, nats",
}
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
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    found = {"mean": values.mean(), "std": values.std(ddof=1), "low": low, "high": high}
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
    return {"pairs": len(pairs), "diverged": diverged, "measures": table}


def keep(study: str, arm: str, name: str) -> None:
    """Copies the best run of an arm to the folder `name`: most strict modes, then most samples within 3 sigma."""
    best = max(by_arm(lines(study))[arm], key=lambda line: (line["strict_modes"], line["within_3std"]))
    shutil.rmtree(HOME / name, ignore_errors=True)
    shutil.copytree(HOME / study / "runs" / f"{arm}-{best['run']:03d}", HOME / name)


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


def table(rows: list[list], head: list[str]) -> str:
    cells = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells) + "\n"


def spread(s: dict) -> str:
    return f"{s['mean']:.3g} ± {s['std']:.2g} ({s['min']:.3g} to {s['max']:.3g})"


def interval(s: dict) -> str:
    return f"{s['mean']:+.3g} [{s['low']:+.3g}, {s['high']:+.3g}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep-best", action="store_true", help="copy the best runs out of the studies' runs/")
    if parser.parse_args().keep_best:
        keep("", "ali", "best-ali")
        keep("", "gan", "best-gan")
        if lines("solved"):
            keep("solved", "ali", "solved-ali")

    report = {
        "versions": {name: version(name) for name in ("alikit", "torch", "optuna", "scipy")},
        "hardware": f"{platform.machine()} CPU, one thread a worker",
        "studies": {name or "mixture": lines(name) for name in ("", "published", "solved", "ablation") if lines(name)},
        "comparison": compare(lines()),
        "encoders": {},
    }
    parts = alikit.load("mixture")
    models = {title: alikit.load_model(HOME / name) for title, name in ENCODERS.items() if (HOME / name).exists()}
    for title, model in models.items():
        report["encoders"][title] = measured(model, *parts)
    (HOME / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
    study_figure(lines()).savefig(HOME / "study.png", dpi=110)
    if len(models) > 1:
        shown = parts[1].select(slice(10_000))
        inference_figure(models, shown.x, shown.labels).savefig(HOME / "figure.png", dpi=110)


if __name__ == "__main__":
    main()
