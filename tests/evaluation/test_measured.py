"""One flat table of what can be measured: its names, its numbers, and that measuring changes nothing."""

import json

import numpy as np
import pytest
import torch
from fixed import game as fixed_game

from alikit.data import Dataset, GridMixture, digits, house_numbers
from alikit.errors import AlikitError
from alikit.evaluation import (
    METRICS,
    OWN_METRICS,
    copying,
    coverage,
    feature_network,
    found_modes,
    in_features,
    measured,
)
from alikit.models import Game
from alikit.recipes import RECIPES


def names(metric: str, of: str) -> set[str]:
    return {f"{metric}_{name}" for name in of.split()}


COVERAGE = {"modes", "within_3std", "strict_modes", "kl_uniform"}
LATENT = {"identity_drawn", "identity_mean", "identity_strict", "prior_distance", "prior_floor", "purity"}
RECONSTRUCTION = names("reconstruction", "drawn mean baseline")
CODES = names("codes", "kl kl_floor energy energy_floor cycle spread sigma")
CLASSIFICATION = names("classification", "error low high n")
FIDELITY = names("fidelity", "frechet frechet_floor precision precision_ceiling recall recall_ceiling n")
COPYING = names("copying", "share chance")
PROBE = names("probe", "accuracy balanced baseline pixels pixels_balanced n unconverged")


def game(decode=lambda z: 2 * z.round(), encode=lambda x: x / 2) -> Game:
    """By default codes are read off exactly, and the decoder finds the grid's means."""
    return fixed_game(decode, encode)


points = GridMixture().sample


def unlabelled(n: int) -> Dataset:
    return Dataset("points", points(n).x)


def pictures(n: int) -> Dataset:
    return Dataset("pictures", torch.randint(0, 256, (n, 1, 1, 2), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("encode", "data", "metrics", "expected"),
    [
        (None, points, ("reconstruction", "codes"), COVERAGE),
        (lambda x: x / 2, points, ("reconstruction", "codes"), COVERAGE | RECONSTRUCTION | LATENT),
        (lambda x: x / 2, unlabelled, ("reconstruction", "classification"), COVERAGE | RECONSTRUCTION),
        (None, pictures, ("reconstruction", "codes"), set()),
        (lambda x: x.flatten(1), pictures, ("reconstruction", "codes", "classification"), RECONSTRUCTION | CODES),
    ],
)
def test_names(encode, data, metrics, expected):
    decode = (lambda z: z[:, None, None]) if data is pictures else (lambda z: 2 * z.round())
    assert measured(game(decode, encode), data(50), data(40), metrics).keys() == expected


def test_numbers():
    """Means for samples, z rounded: modes beyond the grid belong to its edge, and few z are so large."""
    found, x = measured(game(), points(500), points(300, seed=1)), points(300, seed=1).x
    error = (x - 2 * (x / 2).round()).square().mean().item()
    assert found["reconstruction_drawn"] == found["reconstruction_mean"] == pytest.approx(error, abs=6e-6)
    baseline = (x - points(500).x.mean(0)).square().mean().item()
    assert found["reconstruction_baseline"] == pytest.approx(baseline, abs=2e-5)
    assert (found["modes"], found["identity_drawn"], found["identity_strict"]) == (25, 1.0, 1.0)
    torch.manual_seed(0)
    alone = vars(coverage(2 * torch.randn(10_000, 2).round()))
    assert found_modes(game()) == {name: found[name] for name in COVERAGE}
    assert found_modes(game()) == {name: round(value, 5) for name, value in alone.items()}


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_is_none(broken):
    found = measured(game(lambda z: z * broken, lambda x: x * broken), points(100), points(200, seed=1))
    none = {"reconstruction_drawn", "reconstruction_mean", "prior_distance"}
    assert {name for name, value in found.items() if value is None} == none
    assert (found["modes"], found["within_3std"], found["identity_drawn"]) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("digits-semi", CLASSIFICATION | RECONSTRUCTION | CODES), ("digits-supervised", CLASSIFICATION)],
)
def test_models_that_know_classes(recipe, expected):
    data = digits().select(slice(100))
    model = RECIPES[recipe].build(data.shape, classes=10)
    assert measured(model, data, data).keys() == expected
    assert measured(model, *[Dataset("unlabelled", data.x)] * 2, ("classification",)) == {}


def grey(z):
    return z.sigmoid().mean(1)[:, None, None, None].expand(-1, 3, 32, 32)


def test_a_metric_has_the_same_numbers_alone_and_beside_others():
    """Of a model that encodes two colours of a picture, and decodes to plain pictures of one grey."""
    houses = house_numbers(100, seed=0), house_numbers(60, seed=1)
    model = game(grey, lambda x: 4 * x[:, :2, 0, 0] - 2 + torch.randn(len(x), 2) / 100)
    chosen = tuple(metric for metric in METRICS if metric not in ("attributes", "svm"))
    state = torch.manual_seed(5).get_state()
    whole = measured(model.train(), *houses, chosen)
    assert torch.equal(torch.get_rng_state(), state) and model.training, "measuring changes nothing"
    assert whole.keys() == RECONSTRUCTION | CODES | FIDELITY | COPYING | PROBE
    for metric in ("codes", "copying", "probe"):
        assert measured(model, *houses, (metric,)).items() <= whole.items()
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["fidelity_n"] == 60 and whole["fidelity_frechet"] > 5 * whole["fidelity_frechet_floor"]
    torch.manual_seed(0)
    share = copying(*in_features(model, *houses, feature_network()))["share"]
    assert whole["copying_share"] == round(share, 5)
    assert measured(game(grey, None), *houses, ("reconstruction", "codes", "fidelity")).keys() == FIDELITY


@pytest.mark.parametrize(
    ("metric", "encode", "data", "message"),
    [
        ("beauty", None, points, "no metric called beauty: choose from reconstruction, codes, classification"),
        ("fidelity", None, points, "examples are 2: leave out fidelity"),
        ("probe", None, points, "cannot encode"),
        ("probe", lambda x: x, unlabelled, "leave out probe"),
        ("svm", lambda x: x, unlabelled, "has no classes"),
        ("attributes", lambda x: x, points, "not conditional"),
    ],
)
def test_what_cannot_be_measured(metric, encode, data, message):
    with pytest.raises(AlikitError, match=message):
        measured(game(encode=encode), data(50), data(40), (metric,))


def test_a_metric_of_ones_own(monkeypatch):
    """One function, measured by the same random numbers each time; its name is among those to choose from."""
    parts = points(100), points(50)
    monkeypatch.setitem(OWN_METRICS, "mine", lambda model, *_: {"mean": model.sample(5).mean(), "n": np.int64(5)})
    found = [measured(game(), *parts, metrics=("mine",)) for _ in range(2)]
    assert found[0] == found[1] and found[0].keys() == COVERAGE | LATENT | {"mine_mean", "mine_n"}
    assert found[0]["mine_n"] == 5 and -6 < found[0]["mine_mean"] < 6
    with pytest.raises(AlikitError, match=r"no metric called theirs: choose from.*svm, mine"):
        measured(game(), *parts, metrics=("theirs",))
    for wrong in (lambda *_: 0.5, lambda *_: 1 / 0, lambda *_: {"all": torch.zeros(3)}):
        monkeypatch.setitem(OWN_METRICS, "mine", wrong)
        with pytest.raises(AlikitError, match=r"metric mine failed .*: correct it, and let it return"):
            measured(game(), *parts, metrics=("mine",))
