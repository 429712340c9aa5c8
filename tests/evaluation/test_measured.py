"""One flat table of what can be measured: its names, its numbers, and that asking changes nothing."""

import json

import pytest
import torch
from fixed import Fixed

from alikit.data import Dataset, GridMixture, house_numbers
from alikit.errors import AlikitError
from alikit.evaluation import METRICS, copying, coverage, feature_network, found_modes, in_features, measured
from alikit.models import Game
from alikit.networks import Deterministic

COVERAGE = {"modes", "within_3std", "strict_modes", "kl_uniform"}
RECONSTRUCTION = {"reconstruction_drawn", "reconstruction_mean", "reconstruction_baseline"}
CODES = {f"codes_{name}" for name in ("kl", "kl_floor", "energy", "energy_floor", "cycle", "spread", "sigma")}
FIDELITY = {
    f"fidelity_{name}"
    for name in ("frechet", "frechet_floor", "precision", "precision_ceiling", "recall", "recall_ceiling", "n")
}
PROBE = {
    f"probe_{name}" for name in ("accuracy", "balanced", "baseline", "pixels", "pixels_balanced", "n", "unconverged")
}
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
        (lambda x: x.flatten(1), pictures, RECONSTRUCTION | CODES),
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


# On request.


def house_game() -> Game:
    """Encodes two colours of a picture, and decodes to plain pictures of one grey."""

    def decode(z):
        return z.sigmoid().mean(1)[:, None, None, None].expand(-1, 3, 32, 32)

    return game(decode, lambda x: 4 * x[:, :2, 0, 0] - 2)


@pytest.fixture(scope="module")
def houses() -> tuple[Dataset, Dataset]:
    return house_numbers(400, seed=0), house_numbers(300, seed=1)


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ((), set()),
        (("reconstruction",), RECONSTRUCTION),
        (("codes",), CODES),
        (("fidelity",), FIDELITY),
        (("copying", "probe"), {"copying_share", "copying_chance"} | PROBE),
    ],
)
def test_names_on_request(houses, metrics, names):
    assert measured(house_game(), *houses, metrics).keys() == names


def test_what_is_asked_beside_it_changes_no_number(houses):
    model = house_game()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    taken = tuple(metric for metric in METRICS if metric != "attributes")  # which are for conditional models alone
    asked = tuple(metric for metric in taken if metric != "classification")  # of which this model knows nothing
    whole = measured(model, *houses, asked, labels=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert measured(model, *houses, taken, labels=20) == whole
    with pytest.raises(AlikitError, match="told no attributes"):
        measured(model, *houses, METRICS, labels=20)
    for metric in asked:
        alone = measured(model, *houses, (metric,), labels=20)
        assert alone.items() <= whole.items() and alone
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["fidelity_n"] == 300 and whole["fidelity_frechet"] > 10 * whole["fidelity_frechet_floor"]


def test_a_gan_has_samples_to_compare(houses):
    gan = Game(house_game().decoder, 2)
    both = measured(gan, *houses, ("reconstruction", "codes", "fidelity", "copying"))
    assert both.keys() == FIDELITY | {"copying_share", "copying_chance"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sets = in_features(gan, *houses, feature_network())
    assert both["copying_share"] == round(copying(sets).share, 5)


def test_points_have_their_own_metrics_in_any_case():
    assert measured(game(), points(50), points(40), ()).keys() == COVERAGE | LATENT
    assert measured(game(), points(50), points(40), ("codes",)).keys() == COVERAGE | LATENT
    assert measured(game(), points(500), points(400), ("probe",))["probe_accuracy"] > 0.2


@pytest.mark.parametrize(
    ("metric", "encode", "data", "message"),
    [
        (
            "beauty",
            None,
            points,
            "no metric called beauty: choose from reconstruction, codes, classification, fidelity",
        ),
        ("fidelity", None, points, "examples are 2: leave out fidelity"),
        ("copying", None, pictures, "examples are 1x1x2: leave out fidelity"),
        ("probe", None, points, "cannot encode"),
        ("probe", lambda x: x, unlabelled, "leave out probe"),
    ],
)
def test_what_cannot_be_measured(metric, encode, data, message):
    with pytest.raises(AlikitError, match=message):
        measured(game(encode=encode), data(50), data(40), (metric,))
