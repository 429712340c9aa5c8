"""Turn the recorded runs on the mixture into results/mixture: metrics.json, the figures, and the numbers of the page.

    python tools/mixture_report.py

Reads runs.jsonl of each study there, and the run folders of the encoders. README.md is written by hand, except for what
stands between two marks.
"""

import json
from collections import Counter
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
from alikit.runs.report import filled
from alikit.studies import STUDIES

HOME = Path(__file__).resolve().parents[1] / "results" / "mixture"
NAMES = ("published", "solved", "running-bn", "ablation", "after-ali")
FOLDERS = {"mixture": ""} | {f"mixture-{name}": name for name in NAMES}
MEASURES = {
    "modes": "modes, the paper's measure",
    "strict_modes": "modes, strict measure",
    "within_3std": "share within 3 sigma",
    "kl_uniform": "KL to equal weights, nats",
}
TRAINED_AFTER = ("inverse", "post-hoc", "vae")
ENCODERS = {"ALI": "best-ali", "GAN, inverse mapping": "inverse", "GAN, post-hoc inference": "post-hoc"}
ENCODERS |= {"VAE": "vae", "ALI, solved": "solved-ali"}
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
    """The finished runs of a study."""
    if study == "after-ali" and not (HOME / study).exists():  # not measured yet
        return []
    return [json.loads(text) for text in (HOME / study / "runs.jsonl").read_text().splitlines()]


def summary(values) -> dict[str, float]:
    """Mean, standard deviation, extremes, and the 95 % interval of the mean (Student's t)."""
    values = np.asarray(values, float)
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    found = {"mean": mean, "std": values.std(ddof=1), "low": mean - half, "high": mean + half}
    found |= {"min": values.min(), "max": values.max()}
    return {name: round(float(value), 4) for name, value in found.items()}


def compare(found: list[dict]) -> dict:
    """ALI against GAN on the same settings and seeds: each by itself, and the paired differences."""
    runs = pd.DataFrame(found).set_index("run").sort_index()
    ali, gan = (runs[runs["arm"] == arm] for arm in ("ali", "gan"))
    pairs = ali.index.intersection(gan.index)
    ali, gan, table = ali.loc[pairs], gan.loc[pairs], {}
    for measure in MEASURES:
        one, other = ali[measure].to_numpy(float), gan[measure].to_numpy(float)
        table[measure] = {"ali": summary(one), "gan": summary(other), "difference": summary(one - other)}
        for name, test in (("wilcoxon_p", stats.wilcoxon), ("paired_t_p", stats.ttest_rel)):
            p = test(one, other).pvalue if (one != other).any() else 1.0
            table[measure][name] = round(float(p), 4)
    gap, ranks = ali["strict_modes"] - gan["strict_modes"], {}
    drawn = {"learning rate": ali["lr"], "beta1": ali["betas"].str[0], "weight std": ali["weight_std"]}
    for setting, values in drawn.items():
        rank = stats.spearmanr(values, gap)
        ranks[setting] = {"rho": round(float(rank.statistic), 4), "p": round(float(rank.pvalue), 4)}
    diverged = {"ali": int(ali["diverged"].sum()), "gan": int(gan["diverged"].sum())}
    return {"pairs": len(pairs), "diverged": diverged, "measures": table, "strict_modes_gap_against": ranks}


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
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ["---"] * len(head), *rows])


def comparison(report: dict) -> list[str]:
    """The paragraphs about ALI against GAN."""

    def spread(s: dict) -> str:
        return f"{s['mean']:.3g} ± {s['std']:.2g} ({s['min']:.3g} to {s['max']:.3g})"

    compared, steps = report["comparison"], report["studies"]["mixture"][0]["steps"]
    rows = []
    for measure, row in compared["measures"].items():
        d = row["difference"]
        difference = f"{d['mean']:+.3g} [{d['low']:+.3g}, {d['high']:+.3g}]"
        p = [f"{row[test]:.2g}" for test in ("wilcoxon_p", "paired_t_p")]
        rows.append([MEASURES[measure], spread(row["ali"]), spread(row["gan"]), difference, *p])
    settled = compared["measures"]["strict_modes"]["wilcoxon_p"] < 0.05
    ranks = compared["strict_modes_gap_against"].items()
    listed = ", ".join(f"{setting} {found['rho']:+.2f} (p = {found['p']:.2g})" for setting, found in ranks)
    return [
        f"{compared['pairs']} settings, {steps:,} steps each. Diverged, and counted: "
        f"ALI {compared['diverged']['ali']}, GAN {compared['diverged']['gan']}.",
        table(["", "ALI", "GAN", "ALI minus GAN, 95 % interval", "Wilcoxon p", "paired t p"], rows),
        f"**By the strict measure, {'the runs differ' if settled else 'these runs do not show a difference'}.**",
        "Looked at afterwards, so a lead to follow and not a test: Spearman's rank correlation of ALI's lead in strict "
        f"modes with each drawn setting: {listed}.",
    ]


def of_arms(name: str, found: list[dict]) -> str:
    """A row for each arm of a study: how many runs, how long, how many cover all, each measure's mean and worst."""
    rows = []
    for arm in STUDIES[name].arms:
        runs = [line for line in found if line["arm"] == arm]
        row = [arm, len(runs), f"{runs[0]['steps']:,}", sum(run["strict_modes"] == 25 for run in runs)]
        for measure in ("strict_modes", "within_3std", "identity_drawn"):
            values = [run[measure] for run in runs if run.get(measure) is not None]
            row.append(f"{np.mean(values):.4g} (worst {min(values):.4g})" if values else "no encoder")
        rows.append(row)
    return table(["", "runs", "steps", "with all modes", "strict modes", "within 3 sigma", "mode kept"], rows)


def against_recipe(found: list[dict]) -> str:
    """Each arm of `mixture-after-ali` beside the recipe with the same seeds. The tests are paired, of the share within
    3 sigma; each p is multiplied by how many they are (Bonferroni). Only seeds that all arms have run count."""
    arms, number = STUDIES["mixture-after-ali"].arms, Counter(line["run"] for line in found)
    found = [line for line in found if number[line["run"]] == len(arms)]
    if len(found) < 2 * len(arms):
        return "Not measured yet."
    runs, rows = pd.DataFrame(found).pivot(index="run", columns="arm"), []
    recipe = runs.xs("recipe", axis=1, level=1)
    for arm in arms:
        these = runs.xs(arm, axis=1, level=1)
        gain = these["within_3std"] - recipe["within_3std"]
        row = [arm, f"{these['strict_modes'].mean():.4g} (worst {these['strict_modes'].min()})"]
        row += [f"{these['within_3std'].mean():.3f}", "", ""]
        if arm != "recipe":
            d, p = summary(gain), stats.ttest_1samp(gain, 0).pvalue * (len(arms) - 1)
            row[-2:] = f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]", f"{min(1, p):.2g}"
        seconds = these["seconds"].median() / recipe["seconds"].median()
        rows.append([*row, f"{these['identity_drawn'].mean():.3f}", f"{seconds:.2f}"])
    head = ["", "strict modes", "within 3 sigma", "minus the recipe's, 95 % interval", "p", "mode kept"]
    return table([*head, "seconds, of the recipe's"], rows)


def readme(report: dict) -> str:
    """The page of the results, every number between its marks taken from `report`."""
    studies, page = report["studies"], HOME / "README.md"
    hours = sum(line["seconds"] for found in studies.values() for line in found) / 3600
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    encoders = [
        [title, *("" if found[name] is None else f"{found[name]:.3g}" for name in OF_ENCODERS)]
        for title, found in report["encoders"].items()
    ]
    floor = next(iter(report["encoders"].values()))["prior_floor"]
    parts = {
        "setting": [f"Measured with {versions}; {hours:.1f} core hours for the studies."],
        "comparison": comparison(report),
        "commands": ["\n".join(f"    {command}" for command in report["commands"])],
        "encoders": [
            f"The distance between two sets of as many draws of the prior is {floor:.2g}.",
            table(["", *OF_ENCODERS.values()], encoders),
        ],
        **{name: [of_arms(name, studies[name])] for name in list(FOLDERS)[1:-1]},
        "mixture-after-ali": [against_recipe(studies["mixture-after-ali"])],
    }
    return filled(page.read_text(), page, parts)


def main() -> None:
    parts, studies = alikit.load("mixture"), {name: lines(at) for name, at in FOLDERS.items()}
    models = {title: alikit.load_model(HOME / name) for title, name in ENCODERS.items()}
    report = {
        "versions": {name: version(name) for name in ("alikit", "torch", "scipy")},
        "comparison": compare(studies["mixture"]),
        "commands": [json.loads((HOME / name / "settings.json").read_text())["command"] for name in TRAINED_AFTER],
        "encoders": {title: measured(model, *parts) for title, model in models.items()},
    }
    (HOME / "metrics.json").write_text(json.dumps(report) + "\n")
    study_figure(studies["mixture"]).savefig(HOME / "study.png", dpi=110)
    inference_figure(models, parts[1].x, parts[1].labels).savefig(HOME / "figure.png", dpi=110)
    (HOME / "README.md").write_text(readme(report | {"studies": studies}))


if __name__ == "__main__":
    main()
