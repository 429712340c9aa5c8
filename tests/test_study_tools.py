"""The tools behind the recorded studies: on small data whose answers are known, and their pages against the numbers."""

import importlib.util
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.stats import ttest_1samp
from torch import nn

import alikit
from alikit.data import Dataset
from alikit.evaluation import FeatureNetwork, classification, feature_network
from alikit.evaluation.factors import score, targets, trained_factor_classifier
from alikit.networks import Deterministic
from alikit.runs import running
from alikit.studies import STUDIES

TOOLS = Path(__file__).resolve().parents[1] / "tools"
RESULTS = TOOLS.parent / "results"
JUDGE = RESULTS / "what-z-keeps" / "judge.safetensors"


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


few_labels, what_z_keeps, mixture_report = map(tool, ("semi_supervised", "what_z_keeps", "mixture_report"))

# What codes keep.


def test_grey_and_coarse_pictures_keep_light_and_dark_but_not_the_font():
    """The code is 8x8 brightnesses, from which a grey picture comes."""
    grey, colour = nn.Conv2d(3, 1, 1, bias=False), nn.Conv2d(1, 3, 1, bias=False)
    nn.init.constant_(grey.weight, 1 / 3), nn.init.ones_(colour.weight)
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(8), grey, nn.Flatten())
    decoder = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Upsample(32, mode="bilinear"), colour)
    classifier = trained_factor_classifier(JUDGE)
    model = alikit.Game(Deterministic(decoder), 64, Deterministic(encoder))
    train, held_out = alikit.house_numbers(500, seed=0), alikit.house_numbers(300, seed=2)
    found = what_z_keeps.measure({"half": model}, classifier, train, held_out)
    for known in found.values():
        half = known["models"]["half"]
        assert all(low <= value <= high for value, low, high in (*half.values(), known["judge"], known["pixels"]))
        assert half["kept"] == half["kept_drawn"]  # nothing is drawn here
    assert found["digit"]["judge"][0] > 0.99 and found["font"]["judge"][0] > 0.95
    assert found["font"]["models"]["half"]["kept"][0] < 0.5 and found["paper"]["models"]["half"]["kept"][0] > 0.3
    said = classifier(model.reconstruct(held_out.floats(), sample=False))["digit"]  # one of them by hand
    right = (said == held_out.labels).double().mean().item()
    assert found["digit"]["models"]["half"]["kept"][0] == pytest.approx(right, abs=1e-4)


def test_other_seeds_are_of_the_same_run(monkeypatch, tmp_path):
    record = alikit.runs.read_settings(JUDGE.parents[1] / what_z_keeps.LATER[-1])
    monkeypatch.setattr("sys.argv", ["what_z_keeps", "--later", "--runs", str(tmp_path)])
    monkeypatch.setattr(what_z_keeps.alikit, "load_model", lambda folder: None)
    monkeypatch.setattr(what_z_keeps, "keep", lambda run: None)
    for seed in (1, 2):
        found = record | {"seed": 1, "steps": record["steps"] + seed - 1}
        alikit.runs.write_settings(tmp_path / f"{what_z_keeps.LATER[-1]}-seed{seed}", found)
    with pytest.raises(SystemExit, match=f"seed2 is not {what_z_keeps.LATER[-1]}, 7500 steps, seed 2: train that"):
        what_z_keeps.main()


def test_the_recorded_numbers_are_those_of_the_recorded_run_and_of_the_page():
    """Of ALI, whose weights are kept: some of the pictures, so chance may move them a little."""
    report, later = (json.loads((JUDGE.parent / f"{name}.json").read_text()) for name in ("metrics", "later"))
    assert (JUDGE.parent / "README.md").read_text() == what_z_keeps.page(report, later)
    classifier = trained_factor_classifier(JUDGE)
    held_out = alikit.house_numbers(1000, seed=report["held_out"]["seed"])
    back = alikit.load_model(RESULTS / "house-numbers").reconstruct(held_out.floats(), sample=False)
    truth, said, originals = targets(held_out.factors), classifier(back), classifier(held_out.floats())
    for name, known in report["factors"].items():
        assert score(originals[name], truth[name]).value == pytest.approx(known["judge"][0], abs=0.02)
    for name in ("digit", "font", "ink", "paper"):
        kept = report["factors"][name]["models"]["ALI"]["kept"][0]
        assert score(said[name], truth[name]).value == pytest.approx(kept, abs=0.06)


def test_a_factor_classifier_learns_kinds_numbers_and_marks():
    """On easy pictures: grey is the number, which half is darker the kind, white corners the marks."""
    torch.manual_seed(0)
    kind, number, mark = torch.randint(2, (256,)), torch.rand(256), torch.randint(-1, 1, (256, 2))
    x = (number[:, None, None, None] * 150 + 50).expand(-1, 3, 32, 32).clone()
    x[kind == 1, :, :16] -= 40
    x[kind == 0, :, 16:] -= 40
    x[mark[:, 0] == 0, :, :8, :8] = 255
    x[mark[:, 1] == 0, :, -8:, -8:] = 255
    data = Dataset("greys", x.to(torch.uint8), kind, factors={"kind": kind, "number": number, "marks": mark})
    classifier = what_z_keeps.train_classifier(data, epochs=8, batch_size=32, lr=2e-3)
    answers = classifier(data.floats())
    scores = {name: score(answers[name], of).value for name, of in targets(data.factors).items()}
    assert scores["kind"] > 0.95 and scores["number"] > 0.7 and scores["marks"] > 0.95, scores
    assert not classifier.training


# Few labels.


@pytest.fixture
def few_steps(monkeypatch):
    for name, row in alikit.RECIPES.items():
        if name.startswith("digits"):
            monkeypatch.setitem(alikit.RECIPES, name, replace(row, steps=5))


def test_games_go_on_where_they_stopped(tmp_path, few_steps):
    """A draw that is known is not made again, and is the same as in one go."""
    whole, parts = few_labels.Book(tmp_path / "whole.json"), alikit.load("digits")
    few_labels.games(whole, "digits", parts, 20, 2, "here")
    again = few_labels.Book(tmp_path / "again.json")
    for method in few_labels.GAMES:
        again.entry("digits", 20, method).update(errors=[0.5], seconds=[1])
    again.write()
    again = few_labels.Book(tmp_path / "again.json")
    few_labels.games(again, "digits", parts, 20, 2, "here")
    for method in few_labels.GAMES:
        entry = again.entry("digits", 20, method)
        assert entry["errors"] == [0.5, whole.entry("digits", 20, method)["errors"][1]]
        assert entry["recipe"] in alikit.RECIPES and entry["n"] == 297 and entry["hardware"] == "here"


def test_a_draw_is_a_run_of_the_command_line(tmp_path, few_steps):
    train, held_out = alikit.load("digits")
    running.train("digits-semi", tmp_path / "run", seed=3, changes={"labels": 20}, command="alikit train")
    error = classification(alikit.load_model(tmp_path / "run"), held_out).error
    assert classification(few_labels.trained("digits-semi", train, 3, labels=20), held_out).error == error


def test_the_page_is_written_from_the_numbers_and_every_draw_is_kept(tmp_path):
    text = (RESULTS / "semi-supervised" / "metrics.json").read_text()
    (tmp_path / "metrics.json").write_text(text)
    few_labels.write_page(few_labels.Book(tmp_path / "metrics.json"))
    assert (tmp_path / "README.md").read_text() == (RESULTS / "semi-supervised" / "README.md").read_text()
    found = json.loads(text)
    for name, entry in [row for data in found.values() for methods in data.values() for row in methods.items()]:
        assert all(0 <= error <= 1 for error in entry["errors"]), name
        assert not name.endswith("SVM") or (len(entry["errors"]), 0 <= entry["unconverged"] <= 100) == (100, True)
    assert sorted(found["digits"], key=int) == ["10", "20", "50", "100", "200"]
    for methods in found["digits"].values():
        assert len(methods) == 10 and all(len(methods[name]["errors"]) >= 10 for name in few_labels.GAMES)
    # Fifty labels with pictures beat fifty alone, by an interval over the draws that excludes zero.
    gain = np.subtract(*(found["digits"]["50"][name]["errors"] for name in ("supervised", "K+1")))
    assert ttest_1samp(gain, 0).confidence_interval().low > 0


# The feature network.


def test_a_feature_network_is_trained_and_its_file_can_be_read(tmp_path, monkeypatch, capsys):
    def three_colours(name: str, size: int) -> tuple[Dataset, Dataset]:
        """As attributes in a table, else as classes."""
        if "elsewhere" in name:
            return alikit.load(name, size)
        labels, one_hot = torch.arange(12) % 3, torch.eye(3, dtype=torch.uint8)
        x = 255 * one_hot[labels][:, :, None, None].expand(-1, -1, size, size)
        data = Dataset(name, x, one_hot[labels] if name.startswith("table") else labels, ("red", "green", "blue"))
        return data, data.select(slice(6))

    def train(tiny: str = "tiny") -> Path:
        line = f"tool --cifar10 a --tiny-imagenet {tiny} --celeba b --out {tmp_path}/out --steps 12 --batch 32 --seed 3"
        monkeypatch.setattr("sys.argv", line.split())
        runpy.run_path(str(TOOLS / "feature_network.py"), run_name="__main__")
        return tmp_path / "out"

    monkeypatch.setattr("alikit.data.load", three_colours)
    out = train()
    with safe_open(out, "pt") as stored:
        known = {name: json.loads(value) for name, value in stored.metadata().items()}
    assert known["pictures_seen"] == {"cifar10": 12 * 14, "tiny_imagenet": 12 * 12, "celeba": 12 * 6}
    assert (known["seed"], known["steps"]) == (3, 12) and set(known["held_out_accuracy"]) == set(known["pictures_seen"])
    assert known["held_out_pictures"] == dict.fromkeys(known["pictures_seen"], 6)
    torch.manual_seed(3)
    assert not torch.equal(feature_network(out).trunk[0][0].weight, FeatureNetwork().trunk[0][0].weight), "not learned"
    with pytest.raises(SystemExit):
        train("elsewhere")
    assert "error: no folder elsewhere: check the path" in capsys.readouterr().err.splitlines()[-1]


# Studies of the mixture.


def study(ali: list[int], gan: list[int]) -> list[dict]:
    """Lines of a study that has only strict modes to tell, run k of an arm covering the k-th number."""
    same = {"modes": 25, "within_3std": 0.5, "kl_uniform": 0.1, "diverged": False}
    return [
        {"arm": arm, "run": run, "strict_modes": modes, **same}
        | {"lr": run + 1, "betas": [-run, 0.999], "weight_std": 3 * run % 5}
        for arm, covered in (("ali", ali), ("gan", gan))
        for run, modes in enumerate(covered)
    ]


def test_summary_by_hand():
    # Student's t with 3 degrees of freedom has its 97.5 % point at 3.18245; the standard error is 1.29099 / 2.
    expected = {"mean": 2.5, "std": 1.291, "low": 2.5 - 3.18245 * 0.645497, "high": 2.5 + 3.18245 * 0.645497}
    assert mixture_report.summary([1, 2, 3, 4]) == pytest.approx({**expected, "min": 1, "max": 4}, abs=1e-4)


def test_paired_differences_by_hand():
    found = mixture_report.compare(study([12, 14, 16, 18, 20], [11, 12, 13, 14, 15]))
    strict = found["measures"]["strict_modes"]
    assert found["pairs"] == 5 and strict["difference"]["mean"] == 3  # 1, 2, 3, 4, 5
    assert strict["wilcoxon_p"] == 2 / 2**5  # of all 2^5 ways to sign the five, this one and its opposite
    assert strict["paired_t_p"] == pytest.approx(0.0132, abs=1e-4)  # t = 3 / (1.5811 / sqrt 5) = 4.2426, 4 degrees
    ranks = found["strict_modes_gap_against"]  # the lead rises with the one, falls with the other
    assert ranks["learning rate"]["rho"] == 1 and ranks["beta1"]["rho"] == -1
    same = found["measures"]["modes"]  # no difference anywhere
    assert (
        same["wilcoxon_p"] == same["paired_t_p"] == 1 and same["difference"]["low"] == same["difference"]["high"] == 0
    )


def test_only_settings_that_both_have_run_are_compared_and_diverged_runs_are_counted():
    assert (
        mixture_report.compare(study([12, 14, 16, 3, 3], [11, 12, 13]))["measures"]["strict_modes"]["ali"]["mean"] == 14
    )
    lines = study([12, 14, 16], [11, 12, 0])
    lines[-1]["diverged"] = True
    found = mixture_report.compare(lines)
    assert found["diverged"] == {"ali": 0, "gan": 1} and found["measures"]["strict_modes"]["gan"]["min"] == 0


def test_arms_beside_the_recipe_by_hand():
    """Leads of 1, 2, 3, 4, 5 hundredths: t = 4.2426, p = 0.0132, times the 13 tests."""
    known = {"strict_modes": 25, "identity_drawn": 1.0, "seconds": 10.0}
    found = [
        {**known, "arm": arm, "run": run, "within_3std": 0.9 - 0.1 * run + 0.01 * (arm != "recipe") * (run + 1)}
        for arm in STUDIES["mixture-after-ali"].arms
        for run in range(5)
    ]
    found[5] |= {"strict_modes": 24}
    assert mixture_report.against_recipe(found[1:6]) == mixture_report.against_recipe([]) == "Not measured yet."
    found.append({**known, "arm": "unary", "run": 5, "within_3std": 0.0})  # of a seed that the others lack
    rows = [row.split(" | ")[1:5] for row in mixture_report.against_recipe(found).splitlines()]
    assert rows[2] == ["25 (worst 25)", "0.700", "", ""]
    assert rows[3] == ["24.8 (worst 24)", "0.730", "+0.030 [+0.010, +0.050]", "0.17"]


# One change at a time since the paper.


def test_changes_since_the_paper_go_on_where_they_stopped(monkeypatch, tmp_path):
    after_ali, parts = tool("after_ali"), alikit.house_numbers(80, seed=0).split(16)
    monkeypatch.setattr(after_ali, "METRICS", ("reconstruction",))
    monkeypatch.setattr(after_ali, "COLUMNS", {"Frechet": "reconstruction_drawn", "error": "reconstruction_mean"})
    monkeypatch.setattr(after_ali.alikit, "load", lambda data, size: parts)

    def study(*options: str) -> tuple[list[dict], str]:
        monkeypatch.setattr("sys.argv", ["tool", "--data", "faces", "--out", str(tmp_path), *options])
        after_ali.main()
        lines = (tmp_path / "runs.jsonl").read_text().splitlines()
        return [*map(json.loads, lines)], (tmp_path / "README.md").read_text()

    arms = ("--seconds", "0.1", "--arms", "bare", "celeba-small")
    found, page = study(*arms)
    assert [line["arm"] for line in found] == ["bare", "celeba-small"] and all(line["steps"] for line in found)
    numbers = f"{found[0]['reconstruction_drawn']:.3g} | {found[0]['reconstruction_mean']:.3g}"
    assert f"| {found[0]['steps']:,} | {numbers} |" in page
    again, same = study(*arms, "--seeds", "0", "1")
    assert again[:2] == found and [line["seed"] for line in again] == [0, 0, 1, 1]
    for line in again:  # as an earlier version wrote them, which did not know this setting
        del line["settings"]["cycle_trains"]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in again))
    assert study(*arms)[0] == again
    again[0]["reconstruction_mean"] = None  # which was not finite
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in again))
    assert "| nan |" in study("--page")[1]
    for text, message in (
        (json.dumps(again[0] | {"settings": {**again[0]["settings"], "cycle_trains": "encoder"}}), "other settings"),
        (json.dumps(again[0] | {"arm": "an earlier one"}), "an earlier one with other settings"),
        (json.dumps(again[0] | {"digest": [1, 2, 3, 4]}), "on other data"),
        (json.dumps(again[0])[:50], "is damaged"),
    ):
        (tmp_path / "runs.jsonl").write_text(text + "\n")
        with pytest.raises(SystemExit, match=message):
            study(*arms)
    assert same.index("| celeba-small |") < same.index("| bare |") and same.count("![Samples of bare]") == 1
    assert alikit.figures.Image.open(tmp_path / "bare-0-0.1.png").size[0] > 12 * 64


def test_arms_are_ordered_by_the_sum_of_two_ranks():
    after_ali, known = tool("after_ali"), {}
    zeros, nan = dict.fromkeys(after_ali.COLUMNS.values(), 0.0), float("nan")
    for arm, frechet, error in (
        ("r1-r2", nan, 0.9),
        ("bare", 3, 0.1),
        ("r1", 2, 0.4),
        ("all", 1, 0.3),
        ("unary", 9, 0.8),
    ):
        for seed in (0, 1):
            found = {"fidelity_frechet": frechet + seed - 0.5, "reconstruction_mean": error}
            known[arm, seed, 9.0] = {"steps": 5, **zeros, **found}
    known["resized", 0, 9.0] = {"steps": None}
    page = "\n".join(after_ali.tables(known))  # ranks 2 + 0, 1 + 2, 0 + 1, 3 + 3, 4 + 4
    assert "By the sum of ranks: all, bare, r1, unary, r1-r2." in page and "| diverged |" in page


def test_each_change_since_the_paper_can_take_a_step_and_cycles_fall(monkeypatch):
    after_ali, parts, weights = tool("after_ali"), alikit.house_numbers(80, seed=0).split(16), []
    for arm, (_, recipe) in after_ali.ARMS.items():
        model = recipe.build((3, 32, 32), parts[0].mean())
        found = model.losses(torch.rand(2, 3, 32, 32))
        assert all(loss.isfinite() for loss in found.values()), arm

    def run(self, steps, every, watch, stop):
        for now[0] in (0.0, 50.0, 100.0):
            watch(None)
            weights.append((round(self.model.cycle_x, 3), round(self.model.cycle_z, 3)))

    now = [0.0]
    monkeypatch.setattr(after_ali.time, "process_time", lambda: now[0])
    monkeypatch.setattr(alikit.Trainer, "run", run)
    after_ali.trained("cycle-both-falling", parts, 0, 100.0)
    assert weights == [(5.0, 0.15), (3.0, 0.09), (1.0, 0.03)]

    def interrupted(self, *given, **how):
        raise KeyboardInterrupt

    now[0] = 0.0
    monkeypatch.setattr(alikit.Trainer, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):  # a person's: a run cut short is none
        after_ali.trained("bare", parts, 0, 100.0)
