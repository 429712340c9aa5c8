"""Classes guessed by models and by L2-SVMs on features; and what the features are."""

import copy
import math
import sys
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fixed import game
from sklearn.svm import LinearSVC
from torch import nn
from torch.nn.functional import one_hot

from alikit.data import Dataset, digits
from alikit.data.labels import few_labels, labels_to_spare
from alikit.errors import AlikitError
from alikit.evaluation import classification, measured, network_features
from alikit.evaluation import svm as svm_of
from alikit.evaluation.probes import component_features
from alikit.evaluation.svm import COSTS, compared, pixel_features, random_features
from alikit.models import GAN, Game
from alikit.networks import Maxout
from alikit.recipes import RECIPES

MODULE = sys.modules["alikit.evaluation.svm"]  # its name means the function, too


@pytest.mark.parametrize(("wrong", "n"), [(0, 10), (10, 10), (120, 700)])
def test_wrong_guesses_are_counted(wrong, n):
    """Of a model that takes a picture for the class that its one pixel names."""
    guessed, truth = torch.arange(n) % 3, (torch.arange(n) + (torch.arange(n) < wrong)) % 3
    model = game()
    model.classify = lambda x: one_hot((255 * x).round().long().flatten(), 3).float()
    found = classification(model, Dataset("pictures", guessed.byte().view(-1, 1, 1, 1), truth, ("a", "b", "c")))
    assert (found.error, found.n) == (wrong / n, n)
    for end in (found.low, found.high):  # Wilson's: where the share is 1.96 standard errors of `end` away
        assert (wrong / n - end) ** 2 == pytest.approx(1.959963985**2 * end * (1 - end) / n)


# The SVM.


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
    of = svm_of(features, train, held_out, labels, draws=2)
    assert (of.cost, of.unconverged, of.dims, of.n) == (0.1, 0, 60, 500)
    for seed, error in enumerate(of.errors):
        few = few_labels(train, labels, seed)
        machine = LinearSVC(C=0.1, dual=True, max_iter=10_000, tol=1e-6).fit(features(few.x).double(), few.labels)
        expected = (machine.predict(features(held_out.x).double()) != held_out.labels.numpy()).mean()
        assert error == pytest.approx(expected, abs=0.005)
    assert (of.error, of.std) == pytest.approx((np.mean(of.errors), np.std(of.errors, ddof=1)))
    assert math.isnan(svm_of(features, train, held_out, labels, draws=1).std)


def test_the_cost_is_chosen_on_examples_that_are_in_no_draw():
    """By hand, of the published costs: of equally good ones the middle. The held-out examples' labels are another
    matter, so that they would have chosen otherwise."""
    assert np.log(COSTS) == pytest.approx([-20 + 40 / 49 * i for i in range(50)])
    train, held_out = around_corners(300, noise=0.4), around_corners(200)
    of = svm_of(lambda x: x, train, replace(held_out, labels=held_out.labels.roll(1)), labels=30, draws=1)
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
    assert svm_of(lambda x: x, train, held_out, labels=30, draws=3).unconverged == 3


def test_what_has_no_features():
    for features in (
        lambda: svm_of(lambda x: x * math.inf, around_corners(100), around_corners(100), 9, draws=2),
        lambda: network_features(game(encode=None)),
        lambda: network_features(RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)),
    ):
        with pytest.raises(AlikitError, match=r"finite features|name a run that has one of them|leave svm out"):
            features()


# Features of networks, and what they have to beat.


def built(name: str, **changes) -> tuple[Game, torch.Tensor]:
    """A network whose batch norm has scale, shift and statistics away from where they begin, and examples for it."""
    x = digits().floats(slice(3)) if name.startswith("digits") else torch.rand(3, 3, 32, 32)
    model = replace(RECIPES[name], **changes).build(x.shape[1:], classes=10 if RECIPES[name].has_labels else 0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_var, module.running_mean):
                nn.init.uniform_(tensor, 0.5, 2)
    return model.train(), x


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "stack", "kind", "changes"),
    [
        ("svhn", lambda model: model.encoder.net[0], nn.BatchNorm2d, {}),
        ("digits", lambda model: model.encoder.net[1], nn.BatchNorm1d, {}),
        ("house-numbers-gan", lambda model: model.discriminator.towers[0], nn.BatchNorm2d, {}),
        ("cifar10", lambda model: model.discriminator.towers[0], Maxout, {"game": GAN, "encoder": None}),
        ("digits-gan", lambda model: model.discriminator.joint, Maxout, {}),
    ],
)
def test_features_of_networks(name, stack, kind, changes):
    """By hand: the last three hidden layers of the encoder before their activation, and mu; without an encoder those of
    D(x), which ends where x is joined with z in ALI, or of the one stack that it all is. The model stays as it was."""
    model, x = built(name, **changes)
    before, features = copy.deepcopy(model.state_dict()), network_features(model)
    outputs, out = [], x.flatten(1) if name.startswith("digits") else x
    for layer in copy.deepcopy(stack(model)).eval():
        out = layer(out)
        outputs += [out.flatten(1)] if isinstance(layer, kind) else []
    mu = [] if model.encoder is None else [out.flatten(1)[:, : model.z_dim]]
    torch.testing.assert_close(features(x), torch.cat([*outputs[-3:], *mu], 1))
    assert name != "svhn" or features(x).shape == (3, 5376)
    with torch.enable_grad():
        assert not features(x).requires_grad
    with pytest.raises(RuntimeError):
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


def test_beside_what_it_has_to_beat(monkeypatch):
    """On the same draws, and as `measured` has it on request."""
    train, held_out = digits().select(slice(600)), digits().select(slice(1000, 1200))
    model = RECIPES["digits"].build((1, 8, 8))
    monkeypatch.setattr(sys.modules["alikit.evaluation.measured"], "compared", partial(compared, draws=2))
    found = measured(model, train, held_out, ("svm",), labels=20)
    kinds = {"pixels": pixel_features, "components": component_features(train, 16)}
    for kind, features in (kinds | {"random": random_features(model, train)}).items():
        of = svm_of(features, train, held_out, 20, draws=2)
        assert of.error < 0.6
        for name in ("error", "std", "cost", "unconverged", "dims"):
            assert found[f"svm_{kind}_{name}"] == round(getattr(of, name), 5)
    assert len(found) == 4 * 5 + 3 and (found["svm_labels"], found["svm_n"], found["svm_draws"]) == (20, 200, 2)
    assert found["svm_dims"] == found["svm_random_dims"] == 528
    found = compared(RECIPES["digits-gan"].build((1, 8, 8)), held_out, held_out, labels=10, draws=1)
    assert found["dims"] == 768 and not any(name.startswith("random_") for name in found)
