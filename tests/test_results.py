"""The recorded results: what the pages say is what was measured, and what the weights still do."""

import json
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import stats
from test_study_tools import mixture_report, tool

import alikit
from alikit.cli import _changes
from alikit.evaluation import found_modes
from alikit.runs import read_settings
from alikit.runs.report import filled, write_report
from alikit.storage import unpack

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
MIXTURE = RESULTS / "mixture"


@pytest.fixture(scope="module")
def report() -> dict:
    """What is kept, with the lines of the studies, which lie beside it."""
    studies = {name: mixture_report.lines(folder) for name, folder in mixture_report.FOLDERS.items()}
    return {"studies": studies} | json.loads((MIXTURE / "metrics.json").read_text())


def test_the_page_is_what_the_report_says_and_the_report_what_the_studies_say(report):
    assert all(report["studies"][name] for name in mixture_report.FOLDERS if name != "mixture-after-ali")
    assert report["comparison"] == mixture_report.compare(report["studies"]["mixture"])
    assert (MIXTURE / "README.md").read_text() == mixture_report.readme(report)


@pytest.mark.parametrize(
    ("folder", "of", "arm", "which"),
    [
        ("best-ali", "mixture", "ali", max),
        ("best-gan", "mixture", "gan", max),
        ("solved-ali", "mixture-solved", "ali", max),
        ("failed-ali", "mixture-running-bn", "ali", min),
    ],
)
def test_shipped_weights_are_the_best_or_the_worst_and_cover_what_was_recorded(report, folder, of, arm, which):
    lines = [line for line in report["studies"][of] if line["arm"] == arm]
    line = which(lines, key=lambda line: (line["strict_modes"], line["within_3std"]))
    assert json.loads((MIXTURE / folder / "settings.json").read_text())["seed"] == line["seed"]
    found = found_modes(alikit.load_model(MIXTURE / folder))
    assert {name: line[name] for name in found} == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("folder", ["inverse", "post-hoc"])
def test_a_decoder_that_two_share_is_kept_once(folder):
    found, gan = (alikit.load_model(MIXTURE / name).decoder.parameters() for name in (folder, "best-gan"))
    assert all(one.equal(two) for one, two in zip(found, gan, strict=True))
    assert (MIXTURE / folder / "weights.safetensors").stat().st_size < 400_000


# Runs on pictures.


def test_the_page_of_records_is_what_the_report_writes(tmp_path):
    for folder in RESULTS.iterdir():
        if folder.is_dir():
            (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / "README.md").write_text((RESULTS / "README.md").read_text())
    assert write_report(tmp_path) == 16
    assert (tmp_path / "README.md").read_text() == (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*/settings.json")), ids=lambda file: file.parent.name)
def test_the_command_of_a_record_gives_its_settings_today_too(file):
    settings, words = read_settings(file.parent), shlex.split(json.loads(file.read_text())["command"])
    changes = [value for option, value in pairwise(words) if option == "--set"]
    rate = {"lr": float(words[words.index("--lr") + 1])} if "--lr" in words else {}
    today = replace(alikit.RECIPES[words[2]], **_changes(rate, changes))
    assert words[:2] == ["alikit", "train"] and settings["recipe"] == words[2]
    assert json.loads(json.dumps(today.config())).items() <= settings.items()
    assert "--steps" not in words or settings["steps"] == int(words[words.index("--steps") + 1])


def both(*names: str) -> list[dict]:
    return [json.loads((RESULTS / name / "metrics.json").read_text()) for name in names]


def test_what_notebook_07_says_of_faces():
    names = ("celeba-small", "celeba-modern", "celeba-modern-long", "celeba-cycle-on-z", "celeba-without-cycle")
    settings = {name: json.loads((RESULTS / name / "settings.json").read_text()) for name in names}
    old, *later = both(*names)
    short, long, on_z, without = later
    assert old["codes_cycle"] > 1 > max(run["codes_cycle"] for run in later)
    for number in ("codes_kl", "fidelity_frechet", "checkerboard_luma", "checkerboard_chroma"):
        assert max(run[number] for run in later) < old[number]
    assert without["fidelity_frechet"] < old["fidelity_frechet"] / 3
    assert 0.95 < without["reconstruction_mean"] / old["reconstruction_mean"] < 1.05
    assert max(run["reconstruction_mean"] for run in (short, long, on_z)) < 0.65 * without["reconstruction_mean"]
    for number in ("codes_cycle", "reconstruction_mean"):
        assert min(later, key=lambda run: run[number]) is on_z
    assert 1.05 < long["reconstruction_mean"] / on_z["reconstruction_mean"] < 1.15
    assert long["fidelity_frechet"] < without["fidelity_frechet"] < on_z["fidelity_frechet"]
    assert long["fidelity_recall"] > without["fidelity_recall"] > on_z["fidelity_recall"]
    assert long["codes_sigma"] < 0.01 and 0.45 < long["codes_cycle"] < 0.5
    assert 0.6 < on_z["codes_sigma"] ** 2 / on_z["codes_cycle"] < 0.7
    assert [settings[name]["steps"] for name in names[1:]] == [7_000, 21_000, 21_000, 21_000]
    hours = [settings[name]["hours"] for name in names]
    assert max(hours[1:]) < 0.65 * hours[0] and hours[1] < hours[0] / 3 and hours[2] < hours[3]


def test_the_page_of_one_change_at_a_time_is_what_the_tool_writes():
    after_ali, folder = tool("after_ali"), RESULTS / "after-ali"
    text = (folder / "README.md").read_text()
    parts = {"records": [after_ali.of_records()], "arms": after_ali.tables(after_ali.finished(folder))}
    assert filled(text, folder, parts) == text


def test_what_notebook_07_says_of_one_change_at_a_time():
    lines = map(json.loads, (RESULTS / "after-ali" / "runs.jsonl").read_text().splitlines())
    found = {line["arm"]: line for line in lines if (line["seconds"], line["seed"]) == (900, 0)}
    frechet, error = ({a: f[k] for a, f in found.items()} for k in ("fidelity_frechet", "reconstruction_mean"))
    alone = [arm for arm in found if not arm.startswith("all")]
    without_cycle = [arm for arm in alone if not arm.startswith("cycle")]
    assert min(alone, key=frechet.get) == min(without_cycle, key=error.get) == "bare"
    assert frechet["resized"] < 0.85 * frechet["celeba-small"] > frechet["rates"] / 1.1
    assert max(frechet, key=frechet.get) == max(error, key=error.get) == "no-average"
    assert abs(frechet["relativistic"] / frechet["r1-r2"] - 1) < 0.02 and frechet["r1-r2"] > frechet["bare"]
    assert frechet["unary"] > frechet["celeba-small"] and error["unary"] > error["celeba-small"]
    cycles = set(alone) - set(without_cycle)
    assert all(frechet[arm] > 1.2 * frechet["celeba-small"] for arm in cycles)
    assert 0.9 < error["cycle-z"] / error["celeba-small"] < 1
    assert [round(frechet[arm]) for arm in ("all-slower", "all")] == [10, 4]
    assert min(frechet, key=frechet.get) == "all-encoder" and 3 * frechet["all-without-cycle"] < frechet["bare"]
    assert error["all-without-cycle"] < 0.85 * error["celeba-small"]
    assert 0.9 < frechet["all"] - frechet["all-without-cycle"] < 1.1
    assert [round(error[arm], 3) for arm in ("all-without-cycle", "all", "all-encoder")] == [0.038, 0.021, 0.024]


def test_what_notebook_07_says_of_house_numbers():
    names = ("house-numbers-without-noise", "house-numbers-cycle-on-z", "house-numbers-modern")
    without, on_z, found = both(*names)
    assert without["checkerboard_chroma"] > 20 and max(on_z["checkerboard_luma"], on_z["checkerboard_chroma"]) < 1.5
    for name, low, high in ((names[0], 0.7, 1.0), (names[1], 0.15, 0.25)):
        model = alikit.load_model(RESULTS / name)
        torch.manual_seed(0)
        z = model.prior(500)
        x = model.decode(z)
        mu = model.encode((x + 0.05 * torch.randn_like(x)).clamp(0, 1), sample=False)
        assert low < (z - mu).square().mean() < high
    assert without["codes_cycle"] < 0.025 and found["codes_cycle"] < 0.5
    digits = {}
    for name in ("metrics", "later"):
        report = json.loads((RESULTS / "what-z-keeps" / f"{name}.json").read_text())
        digits |= report["factors"]["digit"]["models"]
    kept, read = ({name: round(digits[name][kind][0], 2) for name in digits} for kind in ("kept", "read"))
    assert [kept[name] for name in (names[0], "ALI", *names[1:], "1", "2")] == [0.70, 0.76, 0.90, 0.96, 0.93, 0.96]
    assert round(digits["VAE"]["kept"][0], 3) == 0.998
    assert [read[name] for name in ("ALI", *names[1:], "1", "2")] == [0.83, 0.26, 0.86, 0.38, 0.69]
    hours = [json.loads((RESULTS / name / "settings.json").read_text())["hours"] for name in names]
    assert hours[2] < 0.55 * hours[1] and found["reconstruction_mean"] < on_z["reconstruction_mean"]


def test_what_is_said_of_pictures_by_class():
    found, old = both("cifar10-conditional-modern", "cifar10-small")
    assert found["classes_accuracy"] > 0.65 < found["classes_switched"] and found["classes_judge"] < 0.85
    assert [round(run["fidelity_frechet"], 1) for run in (found, old)] == [1.5, 6.0]
    assert [round(run["reconstruction_mean"], 3) for run in (found, old)] == [0.032, 0.047]
    settings = ("cifar10-small/settings.json", "cifar10-conditional-modern/settings.json")
    sheets = json.loads((RESULTS / "cifar10-conditional-modern/naming.json").read_text())["sheets"]
    right = [[a for a, b in zip(sheet["asked"], sheet["named"], strict=True) if a == b] for sheet in sheets]
    assert [*map(len, right)] == [37, 39] and all(len(sheet["asked"]) == 60 for sheet in sheets)
    of_each = {name: sum(names.count(name) for names in right) for name in sheets[0]["asked"]}
    assert of_each["ship"] == max(of_each.values()) == 11 and min(of_each.values()) == 6
    old_hours, hours = (json.loads((RESULTS / file).read_text())["hours"] for file in settings)
    assert hours < 0.8 * old_hours


def test_what_the_page_says_of_anomalies():
    methods = json.loads((RESULTS / "anomaly" / "metrics.json").read_text())["methods"]

    def of(method, score):
        return np.array([row["auroc"] for row in methods[method]["scores"][score]["classes"].values()])

    means = {(name, score): of(name, score).mean() for name, method in methods.items() for score in method["scores"]}
    best = of("digits-modern", "discriminator")
    assert max(means, key=means.get) == ("digits-modern", "discriminator")
    for other in (("digits", "egbad"), ("principal components", "reconstruction")):
        assert (best > of(*other)).sum() in (5, 6) and stats.ttest_rel(best, of(*other)).pvalue > 0.05
        assert round(best.mean(), 2) == 0.91 and round(of("principal components", "reconstruction").mean(), 2) == 0.85
    ends = methods["digits"]["scores"]["prior"]["auroc"]["over_classes"]
    assert ends["low"] < 0.5 < ends["high"] and means["digits-modern", "prior"] > 0.75
    assert all(value < 0.52 for (name, _), value in means.items() if "ALAD" in name)


@pytest.mark.parametrize("name", ["conditional-faces", "conditional-celeba-small", "conditional-celeba"])
def test_what_the_page_says_of_conditional_runs(name):
    found = json.loads((RESULTS / name / "metrics.json").read_text())
    rise = {a: row["asked"] - row["unasked"] for a, row in found["attributes_of"].items()}
    assert all(rise[a] > row["interval"] and 0 < row["share"] < 1 for a, row in found["attributes_of"].items())
    order = sorted(rise, key=rise.get)
    if name == "conditional-faces":
        assert found["attributes_grid"] > 0.95 and order[:3] == ["Smiling", "Bald", "Young"]
    else:
        assert sum(value < 0.1 for value in rise.values()) == (8 if name == "conditional-celeba" else 18)
        assert (order[-1] == "Double_Chin") == (name == "conditional-celeba")
    with Image.open(RESULTS / name / "grid.png") as picture:
        assert picture.width > 1200
    if name != "conditional-celeba":  # its weights are not kept
        kept = alikit.recorded(RESULTS / name)
        y = kept.codes["grid"].flatten(0, 1)
        x = kept.model.decode(kept.model.prior(1).expand(48, -1), y=y)
        assert x.shape == (48, 3, 32, 32) and (kept.classifier is None or kept.classifier(x).shape == y.shape)


def test_the_stored_probe_of_the_papers_network_reads_y():
    """From codes in half precision, of means alone; of codes with their noise it does not."""
    codes = unpack(load_file(RESULTS / "conditional-celeba" / "probe.safetensors"))
    weight, bias, y = codes["probe_weight"], codes["probe_bias"], codes["labels"] > 0
    torch.manual_seed(0)
    noisy = codes["codes"] + 0.91 * torch.randn_like(codes["codes"])
    read, lost = (((z @ weight.T + bias > 0) == y).float().mean() for z in (codes["codes"], noisy))
    assert read > 0.999 and 0.55 < lost < 0.7
    assert codes["grid"].shape == (4, 12, 40)
