"""An L2-SVM on features, of examples whose classes are known to be there, or not to be; and what the features are."""

import copy
import math
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixed import Fixed
from sklearn.svm import LinearSVC
from torch import nn

from alikit.data import Dataset, digits
from alikit.data.labels import few_labels, labels_to_spare
from alikit.errors import AlikitError
from alikit.evaluation import network_features
from alikit.evaluation import svm as svm_of
from alikit.evaluation.svm import (
    COSTS,
    _Few,
    compared,
    component_features,
    hidden_layers,
    pixel_features,
    random_features,
)
from alikit.models import GAN, Game
from alikit.networks import Deterministic, Maxout
from alikit.recipes import RECIPES

MODULE = sys.modules["alikit.evaluation.svm"]  # its name means the function, too


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def around_corners(n: int, classes: int = 3, noise: float = 0.1, dims: int = 5) -> Dataset:
    """Each class around a corner of its own."""
    labels = torch.arange(n) % classes
    return Dataset("corners", torch.eye(dims)[labels] + noise * torch.randn(n, dims), labels, tuple("abcd"[:classes]))


def widened(x):
    """60 features of 5 numbers, bent so that they are independent."""
    return torch.tanh(x[:, :, None] - torch.linspace(-3, 3, 12)).flatten(1)


def guesses(weight, bias, v) -> np.ndarray:
    return (v @ weight.T + bias).argmax(1)


# The SVM.


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("examples", [20, 200])
def test_it_is_the_svm_of_the_features(classes, examples):
    """By scikit-learn on the features as they are: 20 examples of 60 features are turned, 200 are not."""
    data, new = around_corners(examples, classes, noise=0.3), widened(around_corners(500, classes, noise=0.3).x).numpy()
    few = _Few(widened, data)
    weight, bias, stopped = few.fit(0.1)
    machine = LinearSVC(C=0.1, dual=True, max_iter=10_000, tol=1e-6).fit(widened(data.x).double(), data.labels)
    expected = machine.decision_function(new)
    found = new @ weight.T + bias
    if classes == 2:
        assert np.array_equal(found[:, 0], -found[:, 1])
        found = found[:, 1]
    np.testing.assert_allclose(found, expected, atol=0.005)
    np.testing.assert_allclose(weight[-len(machine.coef_) :], machine.coef_, atol=0.002)
    assert (guesses(weight, bias, new) == machine.predict(new)).mean() > 0.995
    assert not stopped and weight.shape == (classes, 60) and bias.shape == (classes,)
    assert few.v.shape == (examples, min(examples, 60)), "as few numbers as there are examples"


def test_features_that_are_not_independent():
    """Of 60 numbers, 57 say nothing new: examples that are fewer than features still span few directions."""
    data = around_corners(30, noise=0.3)

    def features(x):
        return x[:, :3].repeat(1, 20)

    weight, bias, _ = _Few(features, data).fit(0.01)
    machine = LinearSVC(C=0.01, dual=True, max_iter=10_000, tol=1e-6).fit(features(data.x).double(), data.labels)
    np.testing.assert_allclose(weight, machine.coef_, atol=1e-3)
    np.testing.assert_allclose(bias, machine.intercept_, atol=1e-3)


def test_features_that_tell_the_class_or_nothing():
    train, held_out = around_corners(300), around_corners(200)
    of = svm_of(lambda x: x, train, held_out, labels=12, draws=3)
    assert of.errors == (0, 0, 0) and of.error == of.std == of.validation == 0 and of.unconverged == 0
    assert (of.dims, of.n) == (5, 200)
    of = svm_of(torch.randn_like, train, around_corners(900), labels=12, draws=3)
    assert of.error == pytest.approx(2 / 3, abs=0.05) and of.std < 0.05


def test_errors_are_those_of_each_draw(monkeypatch):
    """By hand, with a C that converges."""
    monkeypatch.setattr(MODULE, "COSTS", np.array([0.1]))
    train, held_out = around_corners(300, noise=0.5), around_corners(200, noise=0.5)
    of = svm_of(lambda x: x, train, held_out, labels=12, draws=4)
    for seed, error in enumerate(of.errors):
        few = few_labels(train, 12, seed)
        machine = LinearSVC(C=0.1, dual=True, max_iter=10_000, tol=1e-6).fit(few.x.double(), few.labels)
        expected = (machine.predict(held_out.x.double()) != held_out.labels.numpy()).mean()
        assert error == pytest.approx(expected, abs=0.006)  # but for one of 200
    assert len(set(of.errors)) > 1
    mean = sum(of.errors) / 4
    assert of.error == pytest.approx(mean)
    assert of.std == pytest.approx(math.sqrt(sum((error - mean) ** 2 for error in of.errors) / 3))


def test_one_draw_has_no_spread():
    of = svm_of(lambda x: x, around_corners(100), around_corners(50), labels=6, draws=1)
    assert of.error == of.errors[0] and math.isnan(of.std)


def test_the_cost_is_chosen_on_examples_that_are_in_no_draw():
    """By hand: the first draw's SVM of each C, on `labels_to_spare`; of equally good ones the middle. The held-out
    examples' labels are another matter, so that they would have chosen otherwise."""
    train, held_out = around_corners(300, noise=0.4), around_corners(200)
    wrong = replace(held_out, labels=held_out.labels.roll(1))
    of = svm_of(lambda x: x, train, wrong, labels=30, draws=[7, 8])
    few, validation = few_labels(train, 30, seed=7), labels_to_spare(train)[1]
    errors = []
    for cost in COSTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            machine = LinearSVC(C=cost, dual=True, max_iter=200, random_state=0).fit(few.x.double(), few.labels)
        errors.append((machine.predict(validation.x.double()) != validation.labels.numpy()).mean())
    best = [cost for cost, error in zip(COSTS, errors, strict=True) if error == min(errors)]
    assert of.cost in COSTS and of.cost == pytest.approx(best[len(best) // 2])
    assert of.validation == pytest.approx(min(errors)) and 3 < len(best) < 40


def test_costs_are_the_published_ones():
    assert len(COSTS) == 50
    assert np.log(COSTS[[0, 1, -1]]) == pytest.approx([-20, -20 + 40 / 49, 20])


@pytest.mark.parametrize(("draws", "seeds"), [(2, [0, 1]), ([5, 3], [5, 3]), (range(4, 6), [4, 5])])
def test_draws_are_the_same_for_all_features(draws, seeds):
    """A seed's draw is that of a recipe with labels."""
    train, held_out, seen = around_corners(100), around_corners(50), []

    def watched(x):
        seen.append(x)
        return widened(x)

    svm_of(watched, train, held_out, labels=9, draws=draws)
    drawn = [x for x in seen if len(x) == 9]
    for seed in seeds:
        assert any(torch.equal(x, few_labels(train, 9, seed).x) for x in drawn)
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == len(seeds)


def test_fits_that_were_stopped_are_counted(monkeypatch):
    train, held_out = around_corners(200, noise=0.6), around_corners(50)
    for cost, stopped in ((0.01, 0), (1e8, 3)):
        monkeypatch.setattr(MODULE, "COSTS", np.array([cost]))
        assert svm_of(lambda x: x, train, held_out, labels=30, draws=3).unconverged == stopped


def test_more_than_fit_at_once(monkeypatch):
    train, held_out = around_corners(200, noise=0.4), around_corners(101, noise=0.4)
    whole = svm_of(widened, train, held_out, labels=9, draws=2)
    monkeypatch.setattr(MODULE, "AT_ONCE", 7)
    assert svm_of(widened, train, held_out, labels=9, draws=2) == whole


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_features_that_are_no_numbers(broken):
    with pytest.raises(AlikitError, match="features that are numbers"):
        svm_of(lambda x: x * broken, around_corners(100), around_corners(50), labels=9, draws=2)


def test_labels_that_cannot_be_had():
    with pytest.raises(AlikitError, match="ask for a multiple of 3"):
        svm_of(lambda x: x, around_corners(100), around_corners(50), labels=10)
    with pytest.raises(AlikitError, match="has no labels"):
        svm_of(lambda x: x, Dataset("points", torch.randn(100, 2)), around_corners(50), labels=9)


# What networks have to say.


def stirred(model: Game, x: torch.Tensor) -> Game:
    """With batch norm's scale, shift and statistics away from where they begin, and apart from those of a batch."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2), nn.init.uniform_(module.bias, -1, 1)
    with torch.no_grad():
        (model.train().encoder or model.discriminator)(x)
    return model


def pictures(n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32)


@torch.no_grad()
def through(stack: nn.Module, x: torch.Tensor, *kinds: type) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What layers of these kinds say on the way, flat, and what comes out."""
    said = []
    for layer in copy.deepcopy(stack).eval():
        x = layer(x)
        if isinstance(layer, kinds):
            said.append(x.flatten(1))
    return said, x


def test_features_of_the_papers_svhn_network():
    """5,376 numbers, by hand: batch norm's last three outputs, before the activation, and mu."""
    x = pictures()
    model = stirred(RECIPES["svhn"].build((3, 32, 32)), x)
    found = network_features(model)(x)
    said, out = through(model.encoder.net[0], x, nn.BatchNorm2d)
    assert [v.shape[1] for v in said[-3:]] == [256 * 4 * 4, 512, 512]
    assert found.shape == (3, 5376)
    torch.testing.assert_close(found, torch.cat([*said[-3:], out.flatten(1)[:, :256]], 1))


def test_features_of_fully_connected_networks():
    """Two hidden layers are all that there are, even where three are asked for."""
    x = digits().floats(slice(3))
    model = stirred(RECIPES["digits"].build((1, 8, 8)), x)
    said, out = through(model.encoder.net[1], x.flatten(1), nn.BatchNorm1d)
    torch.testing.assert_close(network_features(model)(x), torch.cat([*said, out[:, :16]], 1))
    torch.testing.assert_close(network_features(model, layers=1)(x), torch.cat([said[-1], out[:, :16]], 1))


@pytest.mark.parametrize(
    ("name", "widths"),
    [("house-numbers-gan", [64 * 14 * 14, 128 * 6 * 6, 256]), ("dcgan", [128 * 10 * 10, 256 * 4 * 4, 512])],
)
def test_features_of_a_gan_are_of_its_discriminator(name, widths):
    """Of D(x), which ends where x is joined with z in ALI."""
    x = pictures()
    model = stirred(RECIPES[name].build((3, 32, 32)), x)
    said, _ = through(model.discriminator.towers[0], x, nn.BatchNorm2d)
    assert [v.shape[1] for v in said[-3:]] == widths
    torch.testing.assert_close(network_features(model)(x), torch.cat(said[-3:], 1))


def test_a_layer_without_batch_norm_is_taken_before_its_activation():
    x = pictures()
    model = stirred(RECIPES["house-numbers-gan"].build((3, 32, 32)), x)
    tower = model.discriminator.towers[0]
    (first, *_), _ = through(tower, x, nn.Conv2d)
    said, _ = through(tower, x, nn.BatchNorm2d)
    assert (first < 0).any()
    torch.testing.assert_close(network_features(model, layers=4)(x), torch.cat([first, *said], 1))


def test_features_after_maxout():
    x = pictures()
    recipe = replace(RECIPES["cifar10"], game="gan", encoder=None)
    model = recipe.build((3, 32, 32)).train()
    said, _ = through(model.discriminator.towers[0], x, Maxout)
    assert [v.shape[1] for v in said[-3:]] == [128 * 10 * 10, 256 * 4 * 4, 512]
    torch.testing.assert_close(network_features(model)(x), torch.cat(said[-3:], 1))


@pytest.mark.parametrize("name", ["digits-gan", "digits-feature-matching"])
def test_features_of_a_discriminator_that_is_all_one_stack(name):
    x = digits().floats(slice(3))
    model = RECIPES[name].build((1, 8, 8), classes=10).train()
    said, _ = through(model.discriminator.joint, x.flatten(1), Maxout)
    found = network_features(model)(x)
    assert found.shape == (3, 3 * 256)
    torch.testing.assert_close(found, torch.cat(said, 1))


def test_a_model_with_classes_is_heard_by_its_encoder():
    model = RECIPES["digits-semi"].build((1, 8, 8), classes=10)
    alone = Game(model.decoder, model.z_dim, model.encoder)
    x = digits().floats(slice(3))
    assert torch.equal(network_features(model)(x), network_features(alone)(x))


def test_a_model_that_has_nothing_to_hear():
    with pytest.raises(AlikitError, match="no features in this model"):
        network_features(Game(Deterministic(Fixed(lambda z: z)), 2))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["digits", "digits-gan", "house-numbers-gan"])
def test_listening_leaves_the_model_as_it_was(name, training):
    """Also where it fails, here of pictures of another size."""
    model = RECIPES[name].build((1, 8, 8) if name.startswith("digits") else (3, 32, 32)).train(training)
    before = copy.deepcopy(model.state_dict())
    features = network_features(model)
    first = features(torch.ones(2, 1, 8, 8) if name.startswith("digits") else torch.ones(2, 3, 32, 32))
    assert not first.requires_grad and first[0].tolist() == first[1].tolist()
    with pytest.raises(RuntimeError):
        features(torch.ones(2, 2, 7, 7))
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_hidden_layer_ends_with_batch_norm_or_maxout():
    linear, norm, act = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()
    wide, maxout, last = nn.Linear(3, 6), Maxout(2), nn.Linear(3, 1)
    layers = hidden_layers(nn.Sequential(nn.Dropout(), linear, norm, act, wide, maxout, last))
    assert layers == [norm, maxout, last]


# What features have to beat.


def spoilt(model: Game) -> Game:
    """With weights that no network begins with."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    return model.train()


def test_a_network_that_has_learned_nothing():
    """Batch norm of its first layers knows the training examples: they come out with mean 0 and deviation 1."""
    train = digits().select(slice(500))
    model = spoilt(RECIPES["digits"].build((1, 8, 8)))
    before = copy.deepcopy(model.state_dict())
    found = random_features(model, train)(train.floats())
    assert found.shape == network_features(model)(train.floats()).shape == (500, 2 * 256 + 16)
    hidden = found[:, :512]
    torch.testing.assert_close(hidden.mean(0), torch.zeros(512), atol=0.01, rtol=0)
    torch.testing.assert_close(hidden.std(0), torch.ones(512), atol=0.01, rtol=0)
    assert 0.1 < found[:, 512:].std() < 1
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()) and model.training


def test_a_network_that_has_learned_nothing_is_the_same_for_a_seed():
    train = digits().select(slice(300))
    model, x = RECIPES["digits"].build((1, 8, 8)), train.floats(slice(5))
    first = random_features(model, train, seed=4)(x)
    torch.manual_seed(1)
    other = RECIPES["digits"].build((1, 8, 8))
    assert torch.equal(random_features(other, train, seed=4)(x), first)
    assert not torch.allclose(random_features(model, train, seed=5)(x), first)


def test_pixels_are_features():
    x = torch.rand(4, 3, 2, 2)
    assert torch.equal(pixel_features(x), x.view(4, 12))


def test_components_of_the_pixels():
    """By hand, from singular values, but for their signs."""
    train = digits().select(slice(400))
    x = train.floats().flatten(1).double()
    _, _, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    new = digits().floats(slice(400, 450))
    found = component_features(train, 6)(new)
    expected = (new.flatten(1).double() - x.mean(0)) @ directions[:6].T
    torch.testing.assert_close(found.double().abs(), expected.abs(), atol=1e-3, rtol=1e-3)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(("examples", "number", "there_are"), [(400, 100, 64), (20, 100, 20), (400, 10, 10)])
def test_no_more_components_than_there_are(examples, number, there_are):
    train = digits().select(slice(examples))
    assert component_features(train, number)(train.floats()).shape == (examples, there_are)


def test_beside_what_it_has_to_beat():
    data = digits()
    train, held_out = data.select(slice(1000)), data.select(slice(1000, 1200))
    model = RECIPES["digits"].build((1, 8, 8))
    found = compared(model, train, held_out, labels=20, draws=2)
    numbers = ("error", "std", "cost", "unconverged", "dims")
    kinds = {
        "": network_features(model),
        "pixels_": pixel_features,
        "components_": component_features(train, 16),
        "random_": random_features(model, train),
    }
    assert found.keys() == {"labels", "n", "draws"} | {kind + number for kind in kinds for number in numbers}
    assert (found["labels"], found["n"], found["draws"]) == (20, 200, 2)
    for kind, features in kinds.items():
        of = svm_of(features, train, held_out, 20, 2)
        assert [found[kind + number] for number in numbers] == [getattr(of, number) for number in numbers]
        assert of.error < 0.6
    dims = {kind: found[f"{kind}dims"] for kind in kinds}
    assert dims == {"": 528, "pixels_": 64, "components_": 16, "random_": 528}


def test_a_gan_has_no_encoder_to_leave_untrained():
    data = digits().select(slice(300))
    gan = RECIPES["digits-gan"].build((1, 8, 8))
    assert isinstance(gan, GAN)
    found = compared(gan, data, data, labels=10, draws=[3])
    assert found["dims"] == 768 and {"pixels_error", "components_error"} <= found.keys()
    assert not any(name.startswith("random_") for name in found)
