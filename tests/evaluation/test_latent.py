"""Identity, distance to the prior and purity of models for which they are known."""

from math import erf, exp, log, pi, sqrt

import pytest
import torch
from fixed import Fixed
from scipy import stats
from torch import nn

from alikit.data import GridMixture
from alikit.errors import AlikitError
from alikit.evaluation import Latent, latent
from alikit.evaluation.latent import energy_distance
from alikit.models import GAN, Game
from alikit.networks import Deterministic, Discriminator, Gaussian, mlp

N = 2000
GRID = GridMixture()
HELD_OUT = GRID.sample(N, seed=5)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(v):
    return v


def ask(encode, decode=same, x=HELD_OUT.x, labels=HELD_OUT.labels) -> Latent:
    return latent(Game(Deterministic(Fixed(decode)), 2, Deterministic(Fixed(encode))), x, labels)


def noisy(sigma: float) -> Game:
    """z_hat ~ N(x, sigma^2), x_tilde = z."""
    moments = Fixed(lambda x: torch.cat([x, torch.full_like(x, log(sigma))], 1))
    return Game(Deterministic(Fixed(same)), 2, Gaussian(moments))


def share_within(radius: float) -> float:
    """Of N(0, I) in the plane."""
    return 1 - exp(-(radius**2) / 2)


# Mode identity.


def test_exact_inference_keeps_every_mode():
    found = ask(same)
    assert (found.identity_drawn, found.identity_mean) == (1, 1)
    assert found.identity_strict == pytest.approx(share_within(3), abs=0.01)
    assert found.purity == 1


def test_shuffled_codes_keep_modes_by_chance():
    found = ask(lambda x: x[torch.randperm(len(x))])
    for share in (found.identity_drawn, found.identity_mean, found.identity_strict, found.purity):
        assert share == pytest.approx(1 / 25, abs=0.015)


def test_a_draw_loses_what_the_mean_keeps():
    """Noise of 1, half the way to the next mean: outermost modes lose only points that move inwards."""
    found = latent(noisy(1.0), HELD_OUT.x, HELD_OUT.labels)
    less_than_1 = (1 + erf(1 / sqrt(2 * (1 + 0.05**2)))) / 2
    on_one_axis = 3 / 5 * (2 * less_than_1 - 1) + 2 / 5 * less_than_1
    assert found.identity_drawn == pytest.approx(on_one_axis**2, abs=0.035)
    assert found.identity_mean == 1


def test_strict_identity_is_within_3_standard_deviations():
    found = latent(noisy(0.1), HELD_OUT.x, HELD_OUT.labels)
    assert found.identity_drawn == 1
    assert found.identity_strict == pytest.approx(share_within(3 / sqrt(1 + (0.1 / 0.05) ** 2)), abs=0.035)


def test_the_neighbouring_mode_is_not_the_own_one():
    found = ask(same, decode=lambda z: z + torch.tensor([2.0, 0.0]))
    # Only at the right edge, where there is no neighbour, does a point still belong to its mode, and not closely.
    right = (GRID.means[HELD_OUT.labels, 0] == 4).double().mean().item()
    assert (found.identity_drawn, found.identity_mean, found.identity_strict) == (right, right, 0)
    assert found.purity == 1


def test_another_mixture():
    small = GridMixture(side=2, spacing=1.0, std=0.1)
    data = small.sample(500, seed=1)
    found = latent(Game(Deterministic(Fixed(same)), 2, Deterministic(Fixed(same))), data.x, data.labels, small)
    assert found.identity_drawn == 1 and found.identity_strict > 0.97


# Distance to the prior.


def test_codes_from_the_prior_are_as_near_as_its_own_draws():
    """Samples of one distribution are 2/N E|z - z'| apart on average, and E|z - z'| is sqrt(pi) in the plane."""
    expected = 2 * sqrt(pi) / N
    found = ask(lambda x: torch.randn(len(x), 2))
    assert expected / 4 < found.prior_distance < 4 * expected
    assert expected / 4 < found.prior_floor < 4 * expected
    assert found.purity == pytest.approx(1 / 25, abs=0.015)
    many = [energy_distance(torch.randn(100, 2), torch.randn(100, 2)) for _ in range(200)]
    assert sum(many) / 200 == pytest.approx(2 * sqrt(pi) / 100, rel=0.15)


def expected_of_shift(shift: float) -> float:
    """2 E|z_hat - z| - E|z - z'| - E|z_hat - z_hat'|: differences are N(shift, 2 I), whose length is Rice's."""
    return 2 * stats.rice(shift / sqrt(2), scale=sqrt(2)).mean() - 2 * stats.rayleigh(scale=sqrt(2)).mean()


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_energy_distance_of_a_shift(shift):
    """The same points twice, so that the distance between their means has no noise."""
    a = torch.randn(3000, 2)
    found = energy_distance(a, a + torch.tensor([0.0, shift]))
    assert found == pytest.approx(expected_of_shift(shift), rel=0.04)


@pytest.mark.parametrize(("shift", "rel"), [(1.0, 0.2), (3.0, 0.06)])
def test_shifted_codes(shift, rel):
    found = ask(lambda x: torch.randn(len(x), 2) + torch.tensor([0.0, shift]))
    assert found.prior_distance == pytest.approx(expected_of_shift(shift), rel=rel)
    assert found.prior_floor < 0.01


def test_a_constant_code():
    """At the origin: 2 E|z| - E|z - z'| = sqrt(2 pi) - sqrt(pi). Labels in order must not pass for neighbours."""
    order = HELD_OUT.labels.argsort()
    found = ask(torch.zeros_like, x=HELD_OUT.x[order], labels=HELD_OUT.labels[order])
    assert found.prior_distance == pytest.approx(sqrt(2 * pi) - sqrt(pi), rel=0.05)
    middle = (HELD_OUT.labels == 12).double().mean().item()
    assert (found.identity_drawn, found.identity_mean, found.identity_strict) == (middle, middle, middle)
    assert found.purity == pytest.approx(1 / 25, abs=0.015)


def test_energy_distance_by_hand():
    a, b = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0]])
    assert energy_distance(a, b) == energy_distance(b, a) == pytest.approx(2 * 5 / 2 - 2 * 5 / 4)
    assert energy_distance(a, a) == 0


def test_energy_distance_on_a_line():
    """There it is twice the squared area between the two distribution functions. Sizes are no multiples of a block."""
    a, b = torch.randn(1234), 1.5 * torch.randn(777) + 0.3
    expected = stats.energy_distance(a.numpy(), b.numpy()) ** 2
    assert energy_distance(a[:, None], b[:, None]) == pytest.approx(expected, rel=1e-6)


def test_energy_distance_of_samples_far_apart():
    far = torch.full((10, 2), 1e30)
    assert energy_distance(far, -far) == pytest.approx(2 * sqrt(8) * 1e30)


# Purity.


def test_purity_by_hand():
    """On a line: groups of 11 alike, far apart. In half of the groups one code has another label."""
    group = torch.arange(20).repeat_interleave(11)
    odd = (torch.arange(220) % 11 == 0) & (group < 10)
    found = ask(
        lambda x: torch.stack([100.0 * group, torch.arange(220.0)], 1), x=torch.zeros(220, 2), labels=group + odd
    )
    mixed = (10 * 9 / 10 + 0) / 11  # ten codes with nine of ten, and the odd one with none
    assert found.purity == pytest.approx((1 + mixed) / 2)


def test_two_modes_on_one_spot():
    """Each pair of modes shares a code: half of the equally near neighbours are of the own mode."""
    labels = torch.arange(2000) // 500
    found = ask(lambda x: (labels // 2)[:, None].expand(-1, 2) * 5.0, x=torch.zeros(2000, 2), labels=labels)
    assert found.purity == pytest.approx(0.5, abs=0.05)


def test_enormous_codes_have_neighbours_too():
    found = ask(lambda x: 1e30 * x)
    assert found.purity == 1 and found.prior_distance > 1e30


# What is broken counts against the model.


def test_half_of_the_codes_are_not_finite():
    bad = torch.arange(N) % 2 == 0
    for value in (torch.nan, torch.inf):
        found = ask(lambda x, v=value: torch.where(bad[:, None], v, x), decode=lambda z: z.nan_to_num(0, 1, -1))
        assert (found.identity_drawn, found.identity_mean) == (0.5, 0.5)
        assert found.purity == 0.5
        assert found.prior_distance == float("inf") and found.prior_floor < 0.01


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_broken_reconstructions_are_no_mode(value):
    found = ask(same, decode=lambda z: torch.full_like(z, value))
    assert (found.identity_drawn, found.identity_mean, found.identity_strict) == (0, 0, 0)
    assert found.purity == 1


@pytest.mark.parametrize("finite", [0, 1, 5])
def test_hardly_a_code_is_finite(finite):
    """Five codes of one mode have four neighbours each where ten are asked for."""
    found = ask(
        lambda x: torch.where(torch.arange(100)[:, None] < finite, x, torch.nan),
        x=torch.randn(100, 2),
        labels=torch.zeros(100, dtype=torch.long),
    )
    assert found.purity == pytest.approx({0: 0, 1: 0, 5: 0.05 * 0.4}[finite])


# How it may be asked.


def test_the_same_seed_gives_the_same_numbers():
    torch.manual_seed(3)
    first = latent(noisy(0.5), HELD_OUT.x, HELD_OUT.labels)
    torch.manual_seed(3)
    assert latent(noisy(0.5), HELD_OUT.x, HELD_OUT.labels) == first
    assert latent(noisy(0.5), HELD_OUT.x, HELD_OUT.labels) != first


@pytest.mark.parametrize(("points", "labels"), [(5, 4), (0, 0)])
def test_each_point_needs_its_label(points, labels):
    with pytest.raises(AlikitError, match=f"{points} points and {labels} labels"):
        ask(same, x=torch.zeros(points, 2), labels=torch.zeros(labels, dtype=torch.long))


def test_a_gan_has_no_codes():
    gan = GAN(Deterministic(mlp([2, 4, 2])), Discriminator([nn.Identity()], mlp([2, 4, 1])), 2)
    with pytest.raises(AlikitError, match="cannot encode"):
        latent(gan, HELD_OUT.x, HELD_OUT.labels)
