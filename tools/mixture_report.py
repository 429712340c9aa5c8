"""Turn the recorded runs on the mixture into results/mixture: metrics.json, the figures and the README with its tables.

    python tools/mixture_report.py                  from the studies' runs.jsonl and the run folders in results/mixture
    python tools/mixture_report.py --keep-best      first copy the best-covering runs' weights out of the study's runs/

Every number in the README comes from here; nothing is typed. What is not there yet is left out, and said so.
"""

import argparse
import json
import shutil
import string
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from scipy import stats

import alikit
from alikit.evaluation import measured
from alikit.figures import inference_figure

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "results" / "mixture"
MEASURES = {
    "modes": "modes, the paper's measure",
    "strict_modes": "modes, strict measure",
    "within_3std": "share within 3 sigma",
    "kl_uniform": "KL to equal weights, nats",
}
COLUMNS = {
    "ALI": "best-ali",
    "GAN + inverse mapping": "inverse",
    "GAN + post-hoc inference": "post-hoc",
    "VAE": "vae",
}
OF_ENCODERS = (
    "strict_modes",
    "within_3std",
    "reconstruction_drawn",
    "identity_drawn",
    "identity_mean",
    "identity_strict",
    "prior_distance",
    "prior_floor",
    "purity",
)


def lines(study: str) -> list[dict]:
    """The finished runs of a study, [] where it has not been run."""
    file = HOME / study / "runs.jsonl"
    return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []


def summary(values: list[float]) -> dict:
    """Mean, standard deviation, extremes, and the 95 % interval of the mean (Student's t)."""
    values = np.asarray(values, float)
    spread = values.std(ddof=1) if len(values) > 1 else float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * spread / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {
        "mean": values.mean(),
        "std": spread,
        "interval": [values.mean() - half, values.mean() + half],
        "min": values.min(),
        "max": values.max(),
    }


def compare(found: list[dict]) -> dict:
    """ALI against GAN on the same settings and seeds: each arm by itself, and the paired differences."""
    of = {arm: {line["run"]: line for line in found if line["arm"] == arm} for arm in ("ali", "gan")}
    both = sorted(of["ali"].keys() & of["gan"].keys())
    table = {}
    for measure in MEASURES:
        ali, gan = (np.array([of[arm][run][measure] for run in both], float) for arm in ("ali", "gan"))
        gap = ali - gan
        table[measure] = {
            "ali": summary(ali),
            "gan": summary(gan),
            "ali minus gan": summary(gap),
            "wilcoxon_p": float(stats.wilcoxon(gap).pvalue) if gap.any() else 1.0,
            "paired_t_p": float(stats.ttest_rel(ali, gan).pvalue) if gap.any() else 1.0,
        }
    diverged = {arm: sum(of[arm][run]["diverged"] for run in both) for arm in of}
    return {"pairs": len(both), "diverged": diverged, "measures": table}


def keep_best(found: list[dict]) -> None:
    """Copies the run folder of the best-covering run of each arm: most strict modes, then most samples within 3 sigma."""
    for arm in ("ali", "gan"):
        best = max((line for line in found if line["arm"] == arm), key=lambda x: (x["strict_modes"], x["within_3std"]))
        source, target = HOME / "study" / "runs" / f"{arm}-{best['run']:03d}", HOME / f"best-{arm}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoint.pt"))
