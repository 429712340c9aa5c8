"""Anomaly scores of networks whose outputs are known, how well scores separate, and the study on digits."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fixed import Fixed, game
from games import GAMES
from scipy.stats import ttest_1samp
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

import alikit
from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.evaluation import anomaly_scores, detection
from alikit.evaluation.anomaly import areas
from alikit.models import ALI
from alikit.networks import Deterministic, Discriminator, Gaussian

TOOLS = Path(__file__).resolve().parents[2] / "tools"
POINTS = Dataset("points", torch.tensor([[1.0, 2.0, 0.0], [-3.0, 0.0, 4.0]]))


def known(decode=lambda z: torch.cat([2 * z, 0 * z[:, :1]], 1), sigma: float = 0.0) -> ALI:
    """Gz(x) = (x1, x2) / 4, Gx(z) = (2 z1, 2 z2, 0); D's features are (x1 (1 + z1), x2 (1 + z2)), its logit their
    sum."""

    def encode(x):
        mean = x[:, :2] / 4
        return torch.cat([mean, torch.full_like(mean, sigma).log()], 1) if sigma else mean

    head = nn.Linear(2, 1, bias=False)
    nn.init.ones_(head.weight)
    joint = nn.Sequential(Fixed(lambda v: v[:, :2] * (1 + v[:, 3:])), nn.Dropout(0.5), head)
    encoder = (Gaussian if sigma else Deterministic)(Fixed(encode))
    return ALI(encoder, Deterministic(Fixed(decode)), Discriminator([nn.Identity(), nn.Identity()], joint), 2)


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_scores_by_hand(sigma):
    """Of x = (1, 2, 0): z_hat = (1/4, 1/2), x_hat = (1/2, 1, 0), and its code is (1/8, 1/4). Of (-3, 0, 4): (-3/4, 0),
    (-3/2, 0, 0) and (-3/8, 0). An encoder that draws is taken at its mean, and dropout is off."""
    model, softplus = known(sigma=sigma), lambda d: math.log1p(math.exp(d))
    model.train()
    expected = {
        "reconstruction": [1.5, 5.5],
        "discriminator": [softplus(-4.25), softplus(0.75)],
        "features": [2.125, 0.375],
        "cycle": [0.375, 0.375],
        "prior": [5 / 32, 9 / 32],
        "egbad": [0.75 * 1.5 + 0.25 * softplus(-4.25), 0.75 * 5.5 + 0.25 * softplus(0.75)],
        "egbad_features": [0.75 * 1.5 + 0.25 * 2.125, 0.75 * 5.5 + 0.25 * 0.375],
    }
    found = anomaly_scores(model, POINTS, alpha=0.75)
    assert {name: score.tolist() for name, score in found.items()} == {
        name: pytest.approx(values, rel=1e-6) for name, values in expected.items()
    }
    assert model.training and not any(score.requires_grad for score in found.values())


@pytest.mark.parametrize("name", ["ali", "bigan", "noise", "gaussian-decoder", "post-hoc", "k+1", "k+1-explicit"])
def test_every_game_of_pairs_is_scored_the_same_each_time_and_however_examples_are_batched(name):
    model, data = GAMES[name]().train(), Dataset("points", torch.randn(1203, 3))
    state = torch.get_rng_state()
    found, again = anomaly_scores(model, data), anomaly_scores(model, data)
    assert torch.equal(torch.get_rng_state(), state)
    alone = anomaly_scores(model, data.select(slice(700, 701)))
    for score in found:
        assert found[score].shape == (1203,) and torch.equal(found[score], again[score])
        torch.testing.assert_close(found[score][700:701], alone[score])
    assert torch.equal(anomaly_scores(model, data, alpha=1)["egbad"], found["reconstruction"])
    assert torch.equal(anomaly_scores(model, data, alpha=0)["egbad_features"], found["features"])


class Swapped(ALI):
    def pairs(self, x, y=None):
        return tuple(pair[::-1] for pair in super().pairs(x, y))


def swapped() -> ALI:
    model = known()
    return Swapped(model.encoder, model.decoder, model.discriminator, 2)


def without_features() -> ALI:
    model = known()
    model.discriminator = Fixed(lambda x, z: x.sum(1))
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (GAMES["gan"], "need an encoder, and this model has none"),
        (GAMES["vae"], "need a discriminator"),
        (game, "need a discriminator"),  # as a record is opened
        (GAMES["conditional"], "has y too"),
        (swapped, r"pairs \(x, z\), and Swapped has others"),
        (without_features, "a Fixed has no features"),
        (lambda: known(decode=lambda z: torch.cat([z, z[:, :1]], 1) / 0), "not finite: reconstruction, "),
    ],
)
def test_models_that_cannot_score(make, message):
    with pytest.raises(AlikitError, match=message):
        anomaly_scores(make(), POINTS)


def test_what_cannot_be_scored():
    with pytest.raises(AlikitError, match=r"alpha is 1\.5"):
        anomaly_scores(known(), POINTS, alpha=1.5)
    with pytest.raises(AlikitError, match="no example to score"):
        anomaly_scores(known(), POINTS.select(slice(0)))
    with pytest.raises(AlikitError, match=r"1 x 2 torch\.float32 is not N x 3"):
        model = known()
        model.x_shape = (3,)
        anomaly_scores(model, Dataset("other", torch.zeros(5, 2)))
    model = alikit.RECIPES["digits"].build((1, 8, 8))
    for parameter in model.decoder.parameters():
        nn.init.constant_(parameter, math.nan)
    with pytest.raises(AlikitError, match="not finite: reconstruction, features, cycle, egbad, egbad_features: "):
        anomaly_scores(model, Dataset("grey", torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))  # pictures of NaN


# How well scores separate.


def test_detection_by_hand():
    """Anomalies 4 and 2 among 1, 2 and 3: of 6 comparisons 4 are won and one is a tie. In descending order precision is
    1 at recall 1/2, and 2/4 where the second one is found, beside the normal 2 that scores the same."""
    found = detection(torch.tensor([4.0, 1, 2, 3, 2]), [True, False, False, False, True], draws=50)
    assert found.auroc == pytest.approx(4.5 / 6) and found.ap == pytest.approx((1 + 2 / 4) / 2)
    assert (found.share, found.n) == (0.4, 5)
    assert 0 <= found.auroc_low <= found.auroc <= found.auroc_high <= 1


def test_areas_are_scikit_learns_also_where_scores_are_equal_and_examples_are_drawn_again():
    chance = np.random.default_rng(0)
    scores, labels = chance.integers(8, size=60).astype(float), chance.random(60) < 0.3
    drawn = [np.arange(60), *chance.integers(60, size=(9, 60))]
    for index in drawn:
        found = areas(np.bincount(index, minlength=60), scores, labels)
        there = labels[index], scores[index]
        assert found == pytest.approx((roc_auc_score(*there), average_precision_score(*there)))


@pytest.mark.parametrize(("sign", "auroc", "ap"), [(1, 1, 1), (-1, 0, (1 / 31 + 2 / 32) / 2), (0, 0.5, 2 / 32)])
def test_scores_that_are_perfect_reversed_or_constant(sign, auroc, ap):
    labels = torch.arange(32) >= 30
    found = detection(sign * torch.arange(32.0), labels, draws=50)
    assert found.auroc == auroc and found.ap == pytest.approx(ap) and found.share == 1 / 16
    assert (found.auroc_low, found.auroc_high) == (auroc, auroc)


def test_the_interval_covers_the_truth_and_is_repeatable():
    """N(1, 1) against N(0, 1), whose AUROC is Phi(1 / sqrt 2): 95 % of intervals hold it, 0.9 of so few at least."""
    truth, chance, covered = (1 + math.erf(0.5)) / 2, np.random.default_rng(0), 0
    labels = np.arange(150) < 50
    for _ in range(40):
        found = detection(chance.normal(size=150) + labels, labels, draws=400)
        covered += found.auroc_low <= truth <= found.auroc_high
        assert 0.05 < found.auroc_high - found.auroc_low < 0.25
    assert covered >= 34
    scores = chance.normal(size=150)
    assert detection(scores, labels, 20) == detection(scores, labels, 20) != detection(scores, labels, 20, seed=1)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [True, True], "every example is an anomaly"),
        ([1.0, 2.0], torch.zeros(2, dtype=torch.bool), "every example is normal"),
        ([1.0, 2.0], [0, 3], "compare classes first"),
        ([1.0, 2.0], [0, 1, 1], "one label for each score"),
        ([[1.0, 2.0]], [[0, 1]], "one label for each score"),
        ([], [], "nothing to tell apart"),
        ([1.0, math.nan], [0, 1], "not finite"),
        (torch.tensor([1.0, math.inf]), [0, 1], "not finite"),
    ],
)
def test_what_cannot_be_compared(scores, labels, message):
    with pytest.raises(AlikitError, match=message):
        detection(scores, labels)


# The study of digits.


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("anomaly_tool", TOOLS / "anomaly.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_recorded_page_is_what_its_runs_say(tool):
    file = tool.OUT / "README.md"
    report = tool.report(tool.lines(tool.OUT))
    assert json.loads((tool.OUT / "metrics.json").read_text()) == report and len(report["methods"]) == 7
    assert tool.page(report, file.read_text(), file) == file.read_text()
    assert all(of["seeds"] == [0, 1, 2] for of in report["methods"].values()) and report["classes"] == [*range(10)]


@pytest.fixture
def study(tool, monkeypatch, tmp_path):
    """Runs the tool on the classes 3 and 8, into a folder of the test's; returns what it has written there."""
    monkeypatch.setattr(tool, "DRAWS", 20)
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda name: None)  # whether pyod is installed or not

    def study(*options: str) -> tuple[list[dict], dict, str]:
        line = ["tool", "--classes", "3", "8", "--steps", "3", "--out", str(tmp_path), "--recipes", "digits", *options]
        monkeypatch.setattr("sys.argv", line)
        tool.main()
        found = [json.loads(text) for text in (tmp_path / "runs.jsonl").read_text().splitlines()]
        assert json.loads((tmp_path / "metrics.json").read_text()) == tool.report(tool.lines(tmp_path))
        return found, json.loads((tmp_path / "metrics.json").read_text()), (tmp_path / "README.md").read_text()

    return study


def test_the_study_goes_on_where_it_stopped_and_its_page_has_its_numbers(study, tmp_path, capsys):
    found, report, page = study("--seeds", "2")
    methods = ["digits", "IsolationForest", "principal components"]
    assert [(r["seed"], r["class"], r["method"]) for r in found] == [
        (seed, c, method) for seed in range(2) for c in (3, 8) for method in methods
    ]
    assert "pyod is not installed" in capsys.readouterr().out
    # One of them by hand, and its mean over seeds and classes.
    train, held_out = alikit.load("digits")
    torch.manual_seed(1)
    recipe, nine = alikit.RECIPES["digits"], train.select(train.labels != 8)
    loop = recipe.trainer(recipe.build(nine.shape, nine.mean()), nine, seed=1)
    loop.run(3)
    by_hand = detection(anomaly_scores(loop.result, held_out)["features"], held_out.labels == 8, draws=20)
    assert vars(by_hand) == pytest.approx(found[9]["scores"]["features"], abs=1e-5)
    mean = np.mean([run["scores"]["features"]["auroc"] for run in found if run["method"] == "digits"])
    features = report["methods"]["digits"]["scores"]["features"]
    assert features["auroc"]["over_classes"]["mean"] == pytest.approx(mean, abs=1e-4)
    assert f"| digits | features | {features['auroc']['over_classes']['mean']:.3f} [" in page
    over_seeds = [np.mean(v) for v in zip(*(features["classes"][c]["seeds"] for c in "38"), strict=True)]
    interval = ttest_1samp(over_seeds, 0).confidence_interval()
    ends = {"low": max(0, interval.low), "high": min(1, interval.high)}
    assert features["auroc"]["over_seeds"] == pytest.approx({"mean": mean} | ends, abs=2e-4)
    # Stopped in the middle of a seed, which then does not count; and finished.
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    _, report, _ = study("--page")
    assert [report["methods"][method]["seeds"] for method in methods] == [[0, 1], [0, 1], [0]]
    lost = report["methods"]["principal components"]["scores"]["reconstruction"]
    assert lost["auroc"]["over_seeds"]["low"] is None and lost["auroc"]["over_classes"]["low"] is not None
    again, _, same = study("--seeds", "2")
    assert [run["scores"] for run in again] == [run["scores"] for run in found] and same.count("2 seeds") == 3
    with pytest.raises(SystemExit, match=r"digits is in .* with other settings"):
        study("--steps", "4")
