"""One flat table of what can be measured: its names, its numbers, and that asking changes nothing."""

import json

import pytest
import torch
from fixed import Fixed

from alikit.data import Dataset, GridMixture
from alikit.evaluation import coverage, found_modes, measured
from alikit.models import Game
from alikit.networks import Deterministic

COVERAGE = {"modes", "within_3std", "strict_modes", "kl_uniform"}
RECONSTRUCTION = {"reconstruction_drawn", "reconstruction_mean", "reconstruction_baseline"}
LATENT = {"identity_drawn", "identity_mean", "identity_strict", "prior_distance", "prior_floor", "purity"}


def game(decode=lambda z: 2 * z.round(), encode=lambda x: x / 2) -> Game:
    """By default codes are read off exactly, and the decoder finds the grid's means."""
    encoder = Deterministic(Fixed(encode)) if encode else None
    return Game(Deterministic(Fixed(decode)), 2, encoder)


def points(n: int, seed: int = 0) -> Dataset:
    return GridMixture().sample(n, seed)


def unlabelled(n: int) -> Dataset:
    return Dataset("points", points(n).x)


def pictures(n: int) -> Dataset:
    return Dataset("pictures", torch.randint(0, 256, (n, 1, 1, 2), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("encode", "data", "names"),
    [
        (None, points, COVERAGE),
        (lambda x: x / 2, points, COVERAGE | RECONSTRUCTION | LATENT),
        (lambda x: x / 2, unlabelled, COVERAGE | RECONSTRUCTION),
        (None, pictures, set()),
        (lambda x: x.flatten(1), pictures, RECONSTRUCTION),
    ],
)
def test_names(encode, data, names):
    decode = (lambda z: z[:, None, None]) if data is pictures else (lambda z: 2 * z.round())
    assert measured(game(decode, encode), data(50), data(40)).keys() == names


def test_numbers():
    """Means for samples, z rounded: modes beyond the grid belong to its edge, and few z are so large."""
    found = measured(game(), points(500), points(300, seed=1))
    x = points(300, seed=1).x
    error = (x - 2 * (x / 2).round()).square().mean().item()
    assert found["reconstruction_drawn"] == found["reconstruction_mean"] == pytest.approx(error, abs=6e-6)
    baseline = (x - points(500).x.mean(0)).square().mean().item()
    assert found["reconstruction_baseline"] == pytest.approx(baseline, abs=2e-5)
    assert (found["modes"], found["identity_drawn"], found["identity_strict"]) == (25, 1.0, 1.0)
    torch.manual_seed(0)
    alone = coverage(2 * torch.randn(10_000, 2).round())
    assert found["within_3std"] == round(alone.within_3std, 5) and found["strict_modes"] == alone.strict_modes
    assert found["kl_uniform"] == round(alone.kl_uniform, 5) > 0


def test_asking_changes_nothing_and_chance_plays_no_part():
    model = game(encode=lambda x: x / 2 + torch.randn_like(x)).train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = measured(model, points(100), points(200, seed=1))
    assert torch.equal(torch.get_rng_state(), state) and model.training
    torch.manual_seed(6)
    assert measured(model, points(100), points(200, seed=1)) == first
    assert found_modes(model) == {name: first[name] for name in COVERAGE}


def test_numbers_are_rounded():
    found = measured(game(), points(500), points(300, seed=1))
    assert all(value == round(value, 5) for value in found.values())


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_no_number_is_none(broken):
    found = measured(game(lambda z: z * broken, lambda x: x * broken), points(100), points(200, seed=1))
    none = {"reconstruction_drawn", "reconstruction_mean", "prior_distance"}
    assert {name for name, value in found.items() if value is None} == none
    assert (found["modes"], found["within_3std"], found["identity_drawn"]) == (0, 0.0, 0.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
