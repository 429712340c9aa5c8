"""One flat table of what can be measured; classes guessed by models, and by L2-SVMs on features."""

import copy
import json
import math
import sys
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fixed import game as fixed_game
from sklearn.svm import LinearSVC
from torch import nn
from torch.nn.functional import one_hot

from alikit import evaluation
from alikit.data import Dataset, GridMixture, digits, house_numbers
from alikit.data.labels import few_labels, labels_to_spare
from alikit.errors import AlikitError
from alikit.evaluation import METRICS, OWN_METRICS, found_modes, measured, network_features
from alikit.evaluation.probes import component_features
from alikit.evaluation.svm import COSTS, compared, pixel_features, random_features
from alikit.models import GAN, Game
from alikit.networks import Maxout
from alikit.recipes import RECIPES

MODULE = sys.modules["alikit.evaluation.svm"]  # its name means the function, too
NORMS = nn.BatchNorm1d, nn.BatchNorm2d


def names(metric: str, of: str) -> set[str]:
    return {f"{metric}_{name}" for name in of.split()}


COVERAGE = {"modes", "within_3std", "strict_modes", "kl_uniform"}
LATENT = {"identity_drawn", "identity_mean", "identity_strict", "prior_distance", "prior_floor", "purity"}
RECONSTRUCTION = names("reconstruction", "drawn mean baseline")
CODES = names("codes", "kl kl_floor energy energy_floor cycle spread sigma")
CLASSIFICATION = names("classification", "error low high n")
FIDELITY = names("fidelity", "frechet frechet_floor precision precision_ceiling recall recall_ceiling n")
COPYING = names("copying", "share chance")
CHECKERBOARD = names("checkerboard", "luma chroma luma_real chroma_real n")
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
    decode = (lambda z: z[:, None, None].sigmoid()) if data is pictures else (lambda z: 2 * z.round())
    assert measured(game(decode, encode), data(50), data(40), metrics).keys() == expected


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_is_none(broken):
    found = measured(game(lambda z: z * broken, lambda x: x * broken), points(100), points(200, seed=1))
    none = {"reconstruction_drawn", "reconstruction_mean", "prior_distance"}
    assert {name for name, value in found.items() if value is None} == none
    assert (found["modes"], found["within_3std"], found["identity_drawn"]) == (0, 0.0, 0.0)


def test_models_that_know_classes():
    data, all_three = digits().select(slice(100)), CLASSIFICATION | RECONSTRUCTION | CODES
    for recipe, expected in (("digits-semi", all_three), ("digits-supervised", CLASSIFICATION)):
        model = RECIPES[recipe].build(data.shape, classes=10)
        assert measured(model, data, data).keys() == expected
        assert measured(model, *[Dataset("unlabelled", data.x)] * 2, ("classification",)) == {}


def grey(z):
    return z.sigmoid().mean(1)[:, None, None, None].expand(-1, 3, 32, 32)


def test_a_metric_has_the_same_numbers_alone_and_beside_others(monkeypatch):
    """Of a model that encodes two colours of a picture, and decodes to plain pictures of one grey."""
    monkeypatch.setattr("alikit.evaluation.samples.PER_FEATURE", 0)
    houses = house_numbers(100, seed=0), house_numbers(60, seed=1)
    model = game(grey, lambda x: 4 * x[:, :2, 0, 0] - 2 + torch.randn(len(x), 2) / 100)
    chosen = tuple(metric for metric in METRICS if metric not in ("attributes", "classes", "svm"))
    state = torch.manual_seed(5).get_state()
    whole = measured(model.train(), *houses, chosen)
    assert torch.equal(torch.get_rng_state(), state) and model.training, "measuring changes nothing"
    assert whole.keys() == RECONSTRUCTION | CODES | FIDELITY | COPYING | CHECKERBOARD | PROBE
    for metric in ("codes", "copying", "checkerboard", "probe"):
        assert measured(model, *houses, (metric,)).items() <= whole.items()
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["fidelity_n"] == 60 and whole["fidelity_frechet"] > 5 * whole["fidelity_frechet_floor"]
    torch.manual_seed(0)
    share = evaluation.copying(*evaluation.in_features(model, *houses, evaluation.feature_network()))["share"]
    assert whole["copying_share"] == round(share, 5)
    assert whole["checkerboard_luma"] is None and whole["checkerboard_luma_real"] > 0.5, "its samples are flat"
    assert measured(game(grey, None), *houses, ("reconstruction", "codes", "fidelity")).keys() == FIDELITY


def test_a_frechet_distance_is_refused_before_all_pictures_are_looked_at():
    """Which takes a large network an hour. This one has no weights, by which a device could be told."""
    looked, network = [], nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    network.register_forward_hook(lambda _, given, __: looked.append(len(given[0])))
    houses = house_numbers(200, seed=0), house_numbers(191, seed=1)
    with pytest.raises(AlikitError, match=r"48 features needs two sets of 192 examples; .* 200 and 191: "):
        measured(game(grey, None), *houses, ("fidelity", "copying"), network)
    assert looked == [1]
    assert measured(game(grey, None), *houses, ("copying",), network).keys() == COPYING


WRONG = [
    ("beauty", None, points, "no metric called beauty: choose from reconstruction, codes, classification"),
    ("fidelity", None, points, "examples are 2: leave out fidelity"),
    ("fidelity", None, house_numbers, "needs two sets of 640 examples; .* 50 and 40: leave out fidelity"),
    ("checkerboard", None, points, "examples are 2: leave checkerboard out"),
    ("svm", lambda x: x, unlabelled, "has no classes"),
    ("attributes", lambda x: x, points, "not conditional"),
    ("classes", lambda x: x, points, "not conditioned on classes"),
]


@pytest.mark.parametrize(("metric", "encode", "data", "message"), WRONG)
def test_what_cannot_be_measured(metric, encode, data, message):
    with pytest.raises(AlikitError, match=message):
        measured(game(grey if data is house_numbers else torch.clone, encode), data(50), data(40), (metric,))


def test_a_metric_of_ones_own(monkeypatch):
    """One function, measured by the same random numbers each time; its name is among those to choose from."""
    parts = points(100), points(50)
    monkeypatch.setitem(OWN_METRICS, "mine", lambda model, *_: {"mean": model.sample(5).mean(), "n": np.int64(5)})
    found = [measured(game(), *parts, metrics=("mine",)) for _ in range(2)]
    assert found[0] == found[1] and found[0].keys() == COVERAGE | LATENT | {"mine_mean", "mine_n"}
    assert (
        found_modes(game()).items() <= found[0].items() and found[0]["mine_n"] == 5 and -6 < found[0]["mine_mean"] < 6
    )
    with pytest.raises(AlikitError, match=r"no metric called theirs: choose from.*svm, mine"):
        measured(game(), *parts, metrics=("theirs",))
    for wrong in (lambda *_: 0.5, lambda *_: 1 / 0, lambda *_: {"all": torch.zeros(3)}):
        monkeypatch.setitem(OWN_METRICS, "mine", wrong)
        with pytest.raises(AlikitError, match=r"metric mine failed .*: correct it, and let it return"):
            measured(game(), *parts, metrics=("mine",))


# Classes, by models and by SVMs.


@pytest.mark.parametrize(("wrong", "n"), [(0, 10), (10, 10), (120, 700)])
def test_wrong_guesses_are_counted(wrong, n):
    """Of a model that takes a picture for the class that its one pixel names."""
    guessed, truth = torch.arange(n) % 3, (torch.arange(n) + (torch.arange(n) < wrong)) % 3
    model = game()
    model.classify = lambda x: one_hot((255 * x).round().long().flatten(), 3).float()
    found = evaluation.classification(
        model, Dataset("pictures", guessed.byte().view(-1, 1, 1, 1), truth, scale=(0, 255))
    )
    assert (found.error, found.n) == (wrong / n, n)
    for end in (found.low, found.high):  # Wilson's: where the share is 1.96 standard errors of `end` away
        assert (wrong / n - end) ** 2 == pytest.approx(1.959963985**2 * end * (1 - end) / n)


def around_corners(n: int, classes: int = 3, noise: float = 0.1, dims: int = 5) -> Dataset:
    """Each class around a corner of its own."""
    labels = torch.arange(n) % classes
    return Dataset("corners", torch.eye(dims)[labels] + noise * torch.randn(n, dims), labels, tuple("abcd"[:classes]))


def widened(x):
    """60 features of 5 numbers, bent so that they are independent."""
    return torch.tanh(x[:, :, None] - torch.linspace(-3, 3, 12)).flatten(1)


def repeated(x):
    """Of 60 numbers, 57 say nothing new: examples that are fewer than features still span few directions."""
    return x[:, :3].repeat(1, 20)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("features", "labels"), [(widened, 20), (widened, 200), (repeated, 20)])
def test_it_is_the_svm_of_the_features(monkeypatch, features, labels, classes):
    """By scikit-learn on the features as they are, with fewer examples than features and with more."""
    monkeypatch.setattr(MODULE, "COSTS", np.array([0.1]))  # with which it converges
    train, held_out = around_corners(500, classes, noise=0.5), around_corners(500, classes, noise=0.5)
    of = evaluation.svm(features, train, held_out, labels, draws=2)
    assert (of.cost, of.unconverged, of.dims, of.n) == (0.1, 0, 60, 500)
    for seed, error in enumerate(of.errors):
        few = few_labels(train, labels, seed)
        machine = LinearSVC(C=0.1, dual=True, max_iter=10_000, tol=1e-6).fit(features(few.x).double(), few.labels)
        expected = (machine.predict(features(held_out.x).double()) != held_out.labels.numpy()).mean()
        assert error == pytest.approx(expected, abs=0.005)
    assert (of.error, of.std) == pytest.approx((np.mean(of.errors), np.std(of.errors, ddof=1)))
    assert math.isnan(evaluation.svm(features, train, held_out, labels, draws=1).std)


def test_the_cost_is_chosen_on_examples_that_are_in_no_draw():
    """By hand, of the published costs: of equally good ones the middle. The held-out examples' labels are another
    matter, so that they would have chosen otherwise."""
    assert np.log(COSTS) == pytest.approx([-20 + 40 / 49 * i for i in range(50)])
    train, held_out = around_corners(300, noise=0.4), around_corners(200)
    of = evaluation.svm(lambda x: x, train, replace(held_out, labels=held_out.labels.roll(1)), labels=30, draws=1)
    few, validation = few_labels(train, 30, seed=0), labels_to_spare(train)[1]
    errors = []
    for cost in COSTS:
        with warnings.catch_warnings(action="ignore"):
            machine = LinearSVC(C=cost, dual=True, max_iter=200, random_state=0).fit(few.x.double(), few.labels)
        errors.append((machine.predict(validation.x.double()) != validation.labels.numpy()).mean())
    best = [cost for cost, error in zip(COSTS, errors, strict=True) if error == min(errors)]
    assert of.cost == pytest.approx(best[len(best) // 2])
    assert of.validation == pytest.approx(min(errors)) and 3 < len(best) < 40


def test_fits_that_were_stopped_are_counted(monkeypatch):
    monkeypatch.setattr(MODULE, "COSTS", np.array([1e8]))
    train, held_out = around_corners(200, noise=0.6), around_corners(50)
    assert evaluation.svm(lambda x: x, train, held_out, labels=30, draws=3).unconverged == 3


def test_what_has_no_features():
    for features in (
        lambda: evaluation.svm(lambda x: x * math.inf, around_corners(100), around_corners(100), 9, draws=2),
        lambda: network_features(game(encode=None)),
        lambda: network_features(RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)),
    ):
        with pytest.raises(AlikitError, match=r"finite features|name a run that has one of them|leave svm out"):
            features()


# Features of networks, and what they have to beat.

STACKS = {  # of a recipe the one whose features are taken
    "svhn": "encoder.net.0",
    "digits": "encoder.net.1",
    "house-numbers-gan": "discriminator.towers.0",
    "cifar10": "discriminator.towers.0",
    "digits-gan": "discriminator.joint",
}


@torch.no_grad()
@pytest.mark.parametrize("name", STACKS)
def test_features_of_networks(name):
    """By hand: the last three hidden layers of the encoder before their activation, and mu; without an encoder those of
    D(x), which ends where x is joined with z in ALI, or of the one stack that it all is. The model stays as it was."""
    recipe = replace(RECIPES[name], game=GAN, encoder=None) if name == "cifar10" else RECIPES[name]
    x = digits().floats(slice(3)) if name.startswith("digits") else torch.rand(3, 3, 32, 32)
    model = recipe.build(x.shape[1:], classes=10 if recipe.has_labels else 0).train()
    for module in model.modules():
        if isinstance(module, NORMS):  # away from where they begin
            for tensor in (module.weight, module.bias, module.running_var, module.running_mean):
                nn.init.uniform_(tensor, 0.5, 2)
    before, features = copy.deepcopy(model.state_dict()), network_features(model)
    outputs, out = [], x.flatten(1) if name.startswith("digits") else x
    for layer in copy.deepcopy(model.get_submodule(STACKS[name])).eval():
        out = layer(out)
        outputs += [out.flatten(1)] if isinstance(layer, (*NORMS, Maxout)) else []
    mu = [] if model.encoder is None else [out.flatten(1)[:, : model.z_dim]]
    torch.testing.assert_close(features(x), torch.cat([*outputs[-3:], *mu], 1))
    assert name != "svhn" or features(x).shape == (3, 5376)
    with torch.enable_grad():
        assert not features(x).requires_grad
    with pytest.raises((RuntimeError, AlikitError)):
        features(torch.ones(2, 2, 7, 7))
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_network_that_has_learned_nothing():
    """Batch norm of its first layers knows the training examples: they come out with mean 0 and deviation 1."""
    train, model = digits().select(slice(500)), RECIPES["digits"].build((1, 8, 8)).train()
    for parameter in model.parameters():
        parameter.data.fill_(7)  # with which no network begins
    before, x = copy.deepcopy(model.state_dict()), train.floats()
    found = random_features(model, train)(x)
    assert found.shape == (500, 2 * 256 + 16) and 0.1 < found[:, 512:].std() < 1
    torch.testing.assert_close(found[:, :512].mean(0), torch.zeros(512), atol=0.01, rtol=0)
    torch.testing.assert_close(found[:, :512].std(0), torch.ones(512), atol=0.01, rtol=0)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()) and model.training
    assert torch.equal(random_features(RECIPES["digits"].build((1, 8, 8)), train)(x), found)


@pytest.mark.parametrize("n", [501, 502, 1001, 1501])
def test_statistics_of_an_untrained_encoder_weigh_all_examples_alike(n):
    """Also where a batch of 500 would leave one or two over, and where classes are sorted."""
    train = digits().some(n)
    train = train.select(train.labels.argsort(stable=True))
    first_layer = random_features(RECIPES["digits"].build((1, 8, 8)), train)(train.floats())[:, :256]
    torch.testing.assert_close(first_layer.mean(0), torch.zeros(256), atol=0.01, rtol=0)
    torch.testing.assert_close(first_layer.std(0), torch.ones(256), atol=0.01, rtol=0)


def test_beside_what_it_has_to_beat(monkeypatch):
    """On the same draws, and as `measured` has it on request."""
    train, held_out = digits().select(slice(600)), digits().select(slice(1000, 1200))
    model = RECIPES["digits"].build((1, 8, 8))
    monkeypatch.setattr(sys.modules["alikit.evaluation.measured"], "compared", partial(compared, draws=2))
    found = measured(model, train, held_out, ("svm",), labels=20)
    kinds = {"pixels": pixel_features, "components": component_features(train, 16)}
    for kind, features in (kinds | {"random": random_features(model, train)}).items():
        of = evaluation.svm(features, train, held_out, 20, draws=2)
        assert of.error < 0.6
        for name in ("error", "std", "cost", "unconverged", "dims"):
            assert found[f"svm_{kind}_{name}"] == round(getattr(of, name), 5)
    assert len(found) == 4 * 5 + 3 and (found["svm_labels"], found["svm_n"], found["svm_draws"]) == (20, 200, 2)
    assert found["svm_dims"] == found["svm_random_dims"] == 528
    found = compared(RECIPES["digits-gan"].build((1, 8, 8)), held_out, held_out, labels=10, draws=1)
    assert found["dims"] == 768 and not any(name.startswith("random_") for name in found)
