"""Modes counted, distances of sets of pictures, and copies found, where they are known."""

from math import isnan, log

import numpy as np
import pytest
import torch
from fixed import game
from scipy import linalg
from torch.nn import functional as F

from alikit.data import GridMixture, house_numbers
from alikit.evaluation import copying, coverage, feature_network, fidelity, frechet, in_features, precision_recall
from alikit.evaluation.samples import nearest

GRID = GridMixture()


def at(*counts: int, offset: float = 0.0) -> torch.Tensor:
    """counts[m] points beside mean m, `offset` standard deviations to its right."""
    means = GRID.means[: len(counts)].repeat_interleave(torch.tensor(counts), 0)
    return means + torch.tensor([offset * GRID.std, 0.0])


@pytest.mark.parametrize(
    ("x", "modes", "within", "strict", "kl"),
    [
        (GRID.sample(10_000, seed=3).x, 25, pytest.approx(0.989, abs=0.004), 25, 0.0012),
        (at(0, 0, 500), 1, 1, 1, log(25)),
        (at(19, 20, 21, 1), 4, 1, 2, None),  # a mode counts strictly from 20 samples
        (at(*[20] * 25, offset=2.9), 25, 1, 25, 0),
        (at(*[20] * 25, offset=3.1), 25, 0, 0, 0),  # close is 3 standard deviations
        (3 * torch.randn(10_000, 2), 25, pytest.approx(0.025, abs=0.025), pytest.approx(2, abs=2), None),  # a smear
        (torch.full((100, 2), torch.nan), 0, 0, 0, log(25)),  # not 0, which is even
        (torch.cat([torch.zeros(50, 2), torch.full((50, 2), torch.inf)]), 1, 0.5, 1, log(25)),
    ],
)
def test_coverage_by_hand(x, modes, within, strict, kl):
    found = coverage(x)
    assert (found.modes, found.within_3std, found.strict_modes) == (modes, within, strict)
    assert kl is None or found.kl_uniform == pytest.approx(kl, abs=1e-3)


def test_frechet_of_two_gaussians():
    """By the matrix root."""
    a, b = torch.randn(300, 6) @ torch.randn(6, 6) + 100, torch.rand(200, 6) @ torch.randn(6, 6) + 100
    cov_a, cov_b = np.cov(a.double().numpy(), rowvar=False), np.cov(b.double().numpy(), rowvar=False)
    between = ((a.double().mean(0) - b.double().mean(0)) ** 2).sum().item()
    expected = between + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6) == frechet(b, a)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_samples_leave_what_is_known_of_real_pictures(value):
    train, held_out, samples = torch.randn(3, 100, 4)
    whole = fidelity(samples, train, held_out)
    samples[3, 1] = value
    found = fidelity(samples, train, held_out)
    assert found["frechet"] == float("inf") and found["precision"] == pytest.approx(whole["precision"], abs=0.011)
    assert found["frechet_floor"] == whole["frechet_floor"] and isnan(copying(samples, train, held_out)["share"])


def test_precision_and_recall_by_hand():
    def share(points, centres):
        reach = (centres[:, None] - centres).norm(dim=2).sort(1).values[:, 3]
        return ((points[:, None] - centres).norm(dim=2) <= reach).any(1).double().mean().item()

    real, fake = torch.randn(40, 2).double(), 0.7 * torch.randn(31, 2).double() + 0.8
    assert precision_recall(real, fake) == (share(fake, real), share(real, fake))


def test_the_shipped_network_sees_that_pictures_are_spoiled():
    """In its features blurred and noisy house numbers are farther from house numbers than others of these are."""
    train, held_out = house_numbers(300, seed=0), house_numbers(300, seed=1)
    blurred = F.avg_pool2d(held_out.floats(), 5, stride=1, padding=2)
    noisy = held_out.floats() + 0.1 * torch.randn(300, 3, 32, 32)
    models = [game(lambda z, x=x: x[: len(z)]) for x in (held_out.floats(), blurred, noisy)]
    network = feature_network()
    same, soft, rough = (fidelity(*in_features(model, train, held_out, network)) for model in models)
    assert same["frechet"] < 3 * same["frechet_floor"]
    assert min(soft["frechet"], rough["frechet"]) > 2 * same["frechet"]
    assert max(soft["precision"], rough["precision"]) < same["precision"]


def test_nearest_in_blocks_and_by_brute_force():
    """A copy is at distance 0 however far out."""
    a, b = torch.randn(2101, 5), torch.randn(37, 5)
    every = (a[:, None] - b).norm(dim=2).min(1)
    for found, expected in zip(nearest(a, b), (every.values, every.indices), strict=True):
        torch.testing.assert_close(found, expected)
    b = torch.randn(300, 50) + 1000
    distance, index = nearest(b[200:], b)
    assert torch.equal(index, torch.arange(200, 300)) and (distance == 0).all()


@pytest.mark.parametrize("width", [0.0, 0.1])
def test_chance_is_what_the_share_varies_by(width):
    """Over many ways to deal the same real pictures out to the two parts, for samples alike and for samples apart."""
    real, samples = torch.randn(200, 3), width * torch.randn(100, 3)
    orders = [torch.randperm(200) for _ in range(400)]
    found = [copying(samples, real[order[:100]], real[order[100:]]) for order in orders]
    share, chance = torch.tensor([one["share"] for one in found]), found[0]["chance"]
    assert share.mean().item() == pytest.approx(0.5, abs=5 * chance / 20)
    assert share.std().item() == pytest.approx(chance, rel=0.12)
    assert (chance > 0.499) == (width == 0)


def test_a_share_of_copies():
    """Three samples in ten are training pictures with a little noise: 0.3 + 0.7 / 2 of all are nearer to training."""
    train, held_out, samples = torch.randn(3, 2000, 6)
    samples[:600] = train[700:1300] + 0.01 * torch.randn(600, 6)
    share = copying(samples, train, held_out)["share"]
    assert share == pytest.approx(0.65, abs=0.05)
    assert copying(samples, held_out, train)["share"] == pytest.approx(1 - share)
    assert copying(samples, train, train)["share"] == 0.5, "ties count by halves"
    apart = 10.0 * torch.arange(40)[:, None]
    assert copying(apart + 4, apart, apart + 5) == {"share": 0, "chance": pytest.approx(0.5 / 79**0.5)}
