"""Reconstructions, codes beside the prior, and the modes that codes keep, of models for which they are known."""

from math import erf, exp, inf, isnan, log, pi, sqrt

import pytest
import torch
from fixed import Fixed, game
from scipy import stats
from torch.distributions import MultivariateNormal, kl_divergence

from alikit.data import Dataset, GridMixture
from alikit.errors import AlikitError
from alikit.evaluation import codes, latent, reconstruction
from alikit.evaluation.inference import energy_distance, kl_to_prior, moments
from alikit.models import Game
from alikit.networks import Deterministic, Gaussian

N = 2000
HELD_OUT = GridMixture().sample(N, seed=5)


def gaussian(sigma: float, decode=torch.clone, mean=torch.clone, z_dim: int = 2) -> Game:
    """z_hat ~ N(mean(x), sigma^2)."""
    encoder = Gaussian(Fixed(lambda x: torch.cat([mean(x), torch.full_like(x, log(sigma))], 1)))
    return Game(Deterministic(Fixed(decode)), z_dim, encoder)


def test_reconstruction_errors_by_hand():
    train, held_out = Dataset("train", torch.randn(4000, 2) + 1), Dataset("held out", 2 * torch.randn(5001, 2))
    found = reconstruction(gaussian(0.3, lambda z: z + 0.5), train, held_out)
    assert found.mean == pytest.approx(0.25, rel=1e-4)
    assert found.drawn == pytest.approx(0.25 + 0.09, rel=0.05)
    assert found.baseline == pytest.approx((held_out.x - train.x.mean(0)).square().mean().item(), rel=1e-4)
    white = Dataset("white", torch.full((3, 1, 2, 2), 255, dtype=torch.uint8))
    black = Dataset("black", torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    grey = game(lambda z: 0 * z.view(-1, 1, 2, 2) + 0.2, lambda x: x.flatten(1), z_dim=4)
    found = reconstruction(grey, black, white)  # of pictures: of one value
    assert (found.drawn, found.mean, found.baseline) == pytest.approx((0.64, 0.64, 1))


# Codes beside the prior.


def test_kl_as_torch_has_it():
    """And infinite for codes that leave a direction out: a number that is always the same, or fewer codes than that."""
    for z_dim in (1, 5):
        mean, root = torch.randn(z_dim).double(), torch.randn(z_dim, z_dim).double()
        prior = MultivariateNormal(torch.zeros(z_dim).double(), torch.eye(z_dim).double())
        expected = kl_divergence(MultivariateNormal(mean, root @ root.T), prior).item()
        assert kl_to_prior(mean, root @ root.T) == pytest.approx(expected)
    z = torch.randn(200, 30)
    z[:, 3] = 1
    assert kl_to_prior(*moments(z)) == kl_to_prior(*moments(torch.randn(30, 30))) == inf
    assert kl_to_prior(*moments(torch.randn(32, 30))) < inf


@pytest.mark.parametrize("z_dim", [2, 16])
def test_codes_of_the_prior_stand_at_the_floors(z_dim):
    """The KL of N draws of the prior is (Z + Z (Z + 1) / 2) / 2N on average: each moment misses by chance."""
    found = codes(game(z_dim=z_dim), Dataset("prior", torch.randn(4000, z_dim)))
    floor = (z_dim + z_dim * (z_dim + 1) / 2) / (2 * 4000)
    assert found["kl_floor"] == pytest.approx(floor, rel=0.9) and found["kl"] == pytest.approx(floor, rel=0.9)
    assert 0 < found["energy_floor"] < 0.01 and 0 < found["energy"] < 0.01
    assert found["spread"] == pytest.approx(1, abs=0.1) and found["cycle"] == 0 and isnan(found["sigma"])


def test_codes_that_sleep_are_too_wide_or_broken():
    """Every code N(0, 1) whatever x is: at the prior, and worth nothing. The cycle shows it."""
    asleep = codes(gaussian(1.0, mean=torch.zeros_like, z_dim=3), Dataset("points", torch.randn(2000, 3)))
    assert asleep["kl"] < 0.02 and asleep["energy"] < 0.01
    assert (asleep["spread"], asleep["sigma"]) == (0, 1) and asleep["cycle"] == pytest.approx(1, abs=0.1)
    wide = codes(gaussian(0.5, z_dim=4), Dataset("points", torch.randn(6000, 4)))
    assert wide["kl"] == pytest.approx(4 * (1.25 - 1 - log(1.25)) / 2, rel=0.2) and wide["sigma"] == pytest.approx(0.5)
    expected = energy_distance(1.25**0.5 * torch.randn(2000, 4), torch.randn(2000, 4))
    assert wide["energy"] == pytest.approx(expected, rel=0.5) and wide["energy"] > 2 * wide["energy_floor"]
    broken = codes(game(encode=lambda x: torch.where(x > 2, torch.nan, x)), Dataset("points", torch.randn(500, 2)))
    assert broken["kl"] == inf and isnan(broken["energy"]) and broken["energy_floor"] < 0.1
    drawn = codes(game(lambda z: z / 0), Dataset("points", torch.randn(500, 2)))
    assert isnan(drawn["cycle"]) and drawn["spread"] > 0.9, "a decoder that is broken"
    # Examples are drawn from all of the data.
    x = torch.cat([torch.zeros(12_000, 1), torch.ones(4_000, 1)])
    assert codes(game(z_dim=1), Dataset("points", x))["mean"].item() == pytest.approx(0.25, abs=0.03)
    with pytest.raises(AlikitError, match="from 1 examples"):
        codes(game(), Dataset("point", torch.zeros(1, 2)))


def test_energy_distance_by_hand():
    """Differences are N(shift, 2 I), whose length is Rice's; of the same points twice, so that the distance between
    their means has no noise. Samples of one distribution are 2/N E|z - z'| = 2/N sqrt(pi) apart on average."""
    for shift in (0.5, 1.0, 3.0):
        a = torch.randn(2000, 2)
        expected = 2 * stats.rice(shift / sqrt(2), scale=sqrt(2)).mean() - 2 * stats.rayleigh(scale=sqrt(2)).mean()
        assert energy_distance(a, a + torch.tensor([0.0, shift])) == pytest.approx(expected, rel=0.05)
    a, b = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0]])
    assert energy_distance(a, b) == energy_distance(b, a) == pytest.approx(2 * 5 / 2 - 2 * 5 / 4)
    far = torch.full((10, 2), 1e30)
    assert energy_distance(far, -far) == pytest.approx(2 * sqrt(8) * 1e30) and energy_distance(far, far) == 0
    many = [energy_distance(torch.randn(100, 2), torch.randn(100, 2)) for _ in range(200)]
    assert sum(many) / 200 == pytest.approx(2 * sqrt(pi) / 100, rel=0.15)


# Modes that codes keep.


def measure(model: Game, x=HELD_OUT.x, labels=HELD_OUT.labels) -> tuple[tuple, dict[str, float]]:
    found = latent(model, x, labels)
    return tuple(found[f"identity_{name}"] for name in ("drawn", "mean", "strict")), found


def test_exact_inference_keeps_every_mode_and_broken_reconstructions_none():
    kept, found = measure(game())
    assert kept == (1, 1, pytest.approx(1 - exp(-(3**2) / 2), abs=0.01)) and found["purity"] == 1
    for value in (torch.nan, torch.inf, 1e30):
        kept, found = measure(game(lambda z, value=value: torch.full_like(z, value)))
        assert kept == (0, 0, 0) and found["purity"] == 1


def test_a_draw_loses_what_the_mean_keeps():
    """Noise of 1, half the way to the next mean: outermost modes lose only points that move inwards."""
    kept, _ = measure(gaussian(1.0))
    less_than_1 = (1 + erf(1 / sqrt(2 * (1 + 0.05**2)))) / 2
    on_one_axis = 3 / 5 * (2 * less_than_1 - 1) + 2 / 5 * less_than_1
    assert kept[:2] == (pytest.approx(on_one_axis**2, abs=0.035), 1)
    within = 1 - exp(-(3**2) / (1 + (0.1 / 0.05) ** 2) / 2)  # of N(0, I) in the plane
    assert measure(gaussian(0.1))[0] == (1, 1, pytest.approx(within, abs=0.035))


def test_purity_by_hand():
    """On a line: groups of 11 alike, far apart. In half of the groups one code has another label."""
    group = torch.arange(20).repeat_interleave(11)
    odd = (torch.arange(220) % 11 == 0) & (group < 10)
    z = torch.stack([100.0 * group, torch.arange(220.0)], 1)
    _, found = measure(game(encode=lambda x: z), torch.zeros(220, 2), group + odd)
    mixed = (10 * 9 / 10 + 0) / 11  # ten codes with nine of ten, and the odd one with none
    assert found["purity"] == pytest.approx((1 + mixed) / 2)
    assert measure(game(encode=lambda x: 1e30 * x))[1]["purity"] == 1, "enormous codes have neighbours too"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_codes_that_are_not_finite(value):
    """Half of them, or all but ten, which have no ten neighbours."""
    for finite, expected in ((torch.arange(N) % 2 == 1, 0.5), (torch.arange(N) < 10, 0)):
        kept, found = measure(game(encode=lambda x, finite=finite: torch.where(finite[:, None], x, value)))
        assert found["purity"] == expected and isnan(found["prior_distance"]) and found["prior_floor"] < 0.01
        assert kept[:2] == (finite.double().mean().item(),) * 2
