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


def of_arm(found: list[dict], arm: str) -> list[dict]:
    return [line for line in found if line["arm"] == arm]


def summary(values) -> dict:
    """Mean, standard deviation, extremes, and the 95 % interval of the mean (Student's t)."""
    values = np.asarray(values, float)
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    found = {"mean": values.mean(), "std": values.std(ddof=1), "low": low, "high": high}
    return {**{name: round(float(value), 4) for name, value in found.items()}, "min": values.min(), "max": values.max()}


def compare(found: list[dict]) -> dict:
    """ALI against GAN on the same settings and seeds: each by itself, and the paired differences."""
    ali, gan = ({line["run"]: line for line in of_arm(found, arm)} for arm in ("ali", "gan"))
    pairs = sorted(ali.keys() & gan.keys())
    table = {}
    for measure in MEASURES:
        of_ali, of_gan = (np.array([arm[run][measure] for run in pairs], float) for arm in (ali, gan))
        gap = of_ali - of_gan
        p = {"wilcoxon_p": stats.wilcoxon(gap).pvalue, "paired_t_p": stats.ttest_rel(of_ali, of_gan).pvalue}
        table[measure] = {
            "ali": summary(of_ali),
            "gan": summary(of_gan),
            "difference": summary(gap),
            **{name: round(float(value), 4) for name, value in p.items()},
        }
    diverged = {name: sum(arm[run]["diverged"] for run in pairs) for name, arm in (("ali", ali), ("gan", gan))}
    return {"pairs": len(pairs), "diverged": diverged, "measures": table}


def keep_best(found: list[dict]) -> None:
    """Copies the best-covering run of each arm: most modes by the strict measure, then most samples within 3 sigma."""
    for arm in ("ali", "gan"):
        best = max(of_arm(found, arm), key=lambda line: (line["strict_modes"], line["within_3std"]))
        target = HOME / f"best-{arm}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(HOME / "runs" / f"{arm}-{best['run']:03d}", target)
