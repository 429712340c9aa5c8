"""How far codes are from the prior, for codes whose distance is known."""

from math import exp, inf, isnan, log

import pytest
import torch
from fixed import Fixed
from torch.distributions import MultivariateNormal, kl_divergence

from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.evaluation import codes
from alikit.evaluation.codes import kl_to_prior, moments
from alikit.evaluation.latent import energy_distance
from alikit.models import Game
from alikit.networks import Deterministic, Gaussian


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(v):
    return v


def points(n: int, z_dim: int) -> Dataset:
    return Dataset("points", torch.randn(n, z_dim))


def game(encode, z_dim: int, decode=same) -> Game:
    return Game(Deterministic(Fixed(decode)), z_dim, Deterministic(Fixed(encode)))


@pytest.mark.parametrize("z_dim", [1, 5])
def test_kl_as_torch_has_it(z_dim):
    mean, root = torch.randn(z_dim).double(), torch.randn(z_dim, z_dim).double()
    covariance = root @ root.T
    prior = MultivariateNormal(torch.zeros(z_dim).double(), torch.eye(z_dim).double())
    expected = kl_divergence(MultivariateNormal(mean, covariance), prior).item()
    assert kl_to_prior(mean, covariance) == pytest.approx(expected)


def test_kl_by_hand():
    assert kl_to_prior(torch.zeros(3), torch.eye(3)) == 0
    assert kl_to_prior(torch.tensor([2.0, 0.0]), torch.eye(2)) == pytest.approx(2)
    assert kl_to_prior(torch.zeros(1), torch.tensor([[exp(2)]])) == pytest.approx((exp(2) - 1 - 2) / 2)


@pytest.mark.parametrize("n", [2, 20])
def test_kl_of_codes_that_leave_a_direction_out(n):
    """A number that is always the same, or fewer codes than it takes."""
    z = torch.randn(n, 30)
    z[:, 3] = 1
    assert kl_to_prior(*moments(z)) == inf
    assert kl_to_prior(*moments(torch.randn(30, 30))) == inf
    assert kl_to_prior(*moments(torch.randn(32, 30))) < inf


@pytest.mark.parametrize("z_dim", [2, 16])
def test_codes_of_the_prior_stand_at_the_floors(z_dim):
    """The KL of N draws of the prior is (Z + Z (Z + 1) / 2) / 2N on average: each moment misses by chance."""
    found = codes(game(same, z_dim), points(4000, z_dim))
    floor = (z_dim + z_dim * (z_dim + 1) / 2) / (2 * 4000)
    assert found.kl_floor == pytest.approx(floor, rel=0.9) and found.kl == pytest.approx(floor, rel=0.9)
    assert 0 < found.energy_floor < 0.01 and 0 < found.energy < 0.01
    assert found.spread == pytest.approx(1, abs=0.1) and found.cycle == 0 and isnan(found.sigma)


def test_moments():
    held_out = points(3000, 2)
    found = codes(game(lambda x: x @ torch.tensor([[2.0, 0], [1, 1]]) + 3, 2), held_out)
    x = held_out.x.double()
    torch.testing.assert_close(found.mean, torch.stack([2 * x[:, 0] + x[:, 1], x[:, 1]]).mean(1) + 3)
    assert found.covariance.tolist() == [pytest.approx([5, 1], abs=0.3), pytest.approx([1, 1], abs=0.3)]


def test_an_encoder_that_sleeps():
    """Every code N(0, 1) whatever x is: at the prior, and worth nothing. The cycle tells."""
    encoder = Gaussian(Fixed(lambda x: torch.zeros(len(x), 6)))
    found = codes(Game(Deterministic(Fixed(same)), 3, encoder), points(2000, 3))
    assert found.kl < 0.02 and found.energy < 0.01
    assert (found.spread, found.sigma) == (0, 1) and found.cycle == pytest.approx(1, abs=0.1)


def test_codes_too_wide():
    held_out = points(6000, 4)
    encoder = Gaussian(Fixed(lambda x: torch.cat([x, torch.full_like(x, log(0.5))], 1)))
    found = codes(Game(Deterministic(Fixed(same)), 4, encoder), held_out)
    assert found.kl == pytest.approx(4 * (1.25 - 1 - log(1.25)) / 2, rel=0.2) and found.kl > 3 * found.kl_floor
    assert found.sigma == pytest.approx(0.5)
    expected = energy_distance(1.25**0.5 * torch.randn(2000, 4), torch.randn(2000, 4))
    assert found.energy == pytest.approx(expected, rel=0.5) and found.energy > 2 * found.energy_floor


def test_codes_that_are_not_finite():
    found = codes(game(lambda x: torch.where(x > 2, torch.nan, x), 2), points(500, 2))
    assert (found.kl, found.energy) == (inf, inf)
    assert found.kl_floor < 0.1 and found.energy_floor < 0.1


def test_few_codes_of_many_numbers():
    found = codes(game(same, 40), points(20, 40))
    assert (found.kl, found.kl_floor) == (inf, inf) and found.energy < 1


def test_more_examples_than_are_asked_for():
    """10,000 at most, and not the first ones."""
    x = torch.cat([torch.zeros(12_000, 1), torch.ones(4_000, 1)])
    assert codes(game(same, 1), Dataset("points", x)).mean.item() == pytest.approx(0.25, abs=0.03)


def test_what_cannot_be_asked():
    with pytest.raises(AlikitError, match="from 1 examples"):
        codes(game(same, 2), points(1, 2))
    with pytest.raises(AlikitError, match="cannot encode"):
        codes(Game(Deterministic(Fixed(same)), 2), points(10, 2))


def test_numbers_are_all_but_the_moments():
    found = codes(game(same, 2), points(50, 2))
    assert found.numbers().keys() == vars(found).keys() - {"mean", "covariance"}
    assert all(isinstance(value, float) for value in found.numbers().values())
