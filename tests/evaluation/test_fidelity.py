"""Reconstruction errors, Frechet distances, precision and recall where they are known."""

from math import log

import numpy as np
import pytest
import torch
from fixed import Fixed
from scipy import linalg
from torch import nn
from torch.nn import functional as F

from alikit.data import Dataset, house_numbers
from alikit.evaluation import (
    Sets,
    feature_network,
    fidelity,
    frechet,
    in_features,
    precision_recall,
    reconstruction,
)
from alikit.models import Game
from alikit.networks import Deterministic, Gaussian


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def model(shift: float, sigma: float) -> Game:
    """z_hat ~ N(x, sigma^2), x_tilde = z + shift."""
    moments = linear(torch.eye(2).repeat(2, 1) * torch.tensor([[1.0], [1.0], [0.0], [0.0]]), torch.zeros(4))
    nn.init.constant_(moments.bias[2:], log(sigma))
    return Game(Deterministic(linear(torch.eye(2), torch.full((2,), shift))), 2, Gaussian(moments))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def parts() -> tuple[Dataset, Dataset]:
    torch.manual_seed(0)
    return Dataset("train", torch.randn(4000, 2) + 1), Dataset("held out", 2 * torch.randn(5001, 2))


def test_errors_by_hand(parts):
    train, held_out = parts
    found = reconstruction(model(shift=0.5, sigma=0.3), train, held_out)
    assert found.mean == pytest.approx(0.25, rel=1e-4)
    assert found.drawn == pytest.approx(0.25 + 0.09, rel=0.05)
    assert found.baseline == pytest.approx((held_out.x - train.x.mean(0)).square().mean().item(), rel=1e-4)


def test_batches_do_not_matter(parts):
    train, held_out = parts
    one, many = (reconstruction(model(0.5, 1e-6), train, held_out, size) for size in (5001, 1000))
    assert (one.drawn, one.mean, one.baseline) == pytest.approx((many.drawn, many.mean, many.baseline), rel=1e-4)


def test_error_of_pictures_is_of_one_value():
    white = Dataset("white", torch.full((3, 1, 2, 2), 255, dtype=torch.uint8))
    black = Dataset("black", torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    encoder = Deterministic(nn.Sequential(nn.Flatten(), nn.Linear(4, 1)))
    decoder = Deterministic(nn.Sequential(linear(torch.zeros(4, 1), torch.full((4,), 0.2)), nn.Unflatten(1, (1, 2, 2))))
    found = reconstruction(Game(decoder, 1, encoder), black, white)
    assert (found.drawn, found.mean, found.baseline) == pytest.approx((0.64, 0.64, 1))


# Samples beside real pictures.


def whitened(n: int, dims: int) -> torch.Tensor:
    """(n, dims) with mean 0 and covariance I to the last bit but a few."""
    v = torch.randn(n, dims, dtype=torch.float64)
    v -= v.mean(0)
    return v @ torch.linalg.inv(torch.linalg.cholesky(v.T.cov())).T


def test_frechet_of_two_gaussians():
    """With commuting covariances it is |shift|^2 + sum (s - 1)^2."""
    scale, shift = torch.tensor([0.5, 1.0, 3.0]).double(), torch.tensor([1.0, 0.0, -2.0]).double()
    a, b = whitened(500, 3), whitened(400, 3)
    assert frechet(a, scale * b + shift) == pytest.approx(5 + 0.25 + 4)
    assert frechet(a + 100, scale * b + shift + 100) == pytest.approx(5 + 0.25 + 4)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_by_the_matrix_root():
    a, b = torch.randn(300, 6) @ torch.randn(6, 6), torch.rand(200, 6) @ torch.randn(6, 6)
    cov_a, cov_b = np.cov(a.double().numpy(), rowvar=False), np.cov(b.double().numpy(), rowvar=False)
    between = ((a.double().mean(0) - b.double().mean(0)) ** 2).sum().item()
    expected = between + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6) == frechet(b, a)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_features_are_infinitely_far(value):
    broken = torch.randn(20, 3)
    broken[7, 1] = value
    assert frechet(torch.randn(20, 3), broken) == float("inf")
    assert all(np.isnan(precision_recall(torch.randn(20, 3), broken)))


def share_by_hand(points: list, centres: list, k: int) -> float:
    def apart(a, b):
        return sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) ** 0.5

    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            reach = sorted(apart(centre, other) for j, other in enumerate(centres) if j != i)[k - 1]
            if apart(point, centre) <= reach:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("n", "m"), [(12, 17), (40, 31)])
def test_precision_and_recall_by_hand(k, n, m):
    real, fake = torch.randn(n, 2).double(), 0.7 * torch.randn(m, 2).double() + 0.8
    a, b = real.tolist(), fake.tolist()
    assert precision_recall(real, fake, k) == (share_by_hand(b, a, k), share_by_hand(a, b, k))


def test_precision_and_recall_of_points_on_a_line():
    """Balls reach to the nearest neighbour: [-1, 1] of 0, [0, 2] of 1 and [1, 19] of 10."""
    real = torch.tensor([[0.0], [1.0], [10.0]])
    fake = torch.tensor([[2.0], [5.0], [-1.5], [9.9], [30.0]])
    assert precision_recall(real, fake, k=1)[0] == pytest.approx(3 / 5)


def test_precision_and_recall_of_gaussians():
    """Blocks of rows and more: 2,500 points each. A narrow set is inside the wide one and fills little of it."""
    real, again = torch.randn(2, 2500, 8)
    both = precision_recall(real, again)
    assert min(both) > 0.85
    assert precision_recall(real, again + 20) == (0, 0)
    slightly = precision_recall(real, again + 1)
    assert max(slightly) < min(both)
    precision, recall = precision_recall(real, 0.3 * again)
    assert precision > 0.99 and recall < 0.2
    recall, precision = precision_recall(0.3 * again, real)
    assert precision > 0.99 and recall < 0.2


def sets(samples: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor) -> Sets:
    order = torch.arange(len(train))
    return Sets(samples, train, held_out, torch.zeros(len(samples), 3, 1, 1, dtype=torch.uint8), order, order)


def test_a_perfect_model_stands_at_floor_and_ceiling():
    found = fidelity(sets(*torch.randn(3, 1500, 6)))
    assert found.frechet == pytest.approx(found.frechet_floor, abs=0.02) and found.frechet_floor < 0.05
    assert found.precision == pytest.approx(found.precision_ceiling, abs=0.03)
    assert found.recall == pytest.approx(found.recall_ceiling, abs=0.03)
    assert found.n == 1500


def test_a_model_that_draws_one_mode_is_precise_and_no_more():
    train, held_out, samples = torch.randn(3, 1000, 4)
    centre = 6 * torch.tensor([1.0, 0, 0, 0])
    side = torch.where(torch.arange(1000)[:, None] % 2 == 0, centre, -centre)
    found = fidelity(sets(samples + centre, train + side, held_out + side))
    assert found.precision == pytest.approx(found.precision_ceiling, abs=0.05)
    assert found.recall == pytest.approx(found.recall_ceiling / 2, abs=0.05)
    # The one mode against two: 6 between the means, and 6 of standard deviation between the modes that are missing.
    assert found.frechet == pytest.approx(36 + (37**0.5 - 1) ** 2, rel=0.02)


def test_broken_samples_leave_what_is_known_of_real_pictures():
    train, held_out, samples = torch.randn(3, 100, 4)
    samples[3] = torch.nan
    found = fidelity(sets(samples, train, held_out))
    assert found.frechet == float("inf") and np.isnan(found.precision) and np.isnan(found.recall)
    assert found.frechet_floor < 1 and found.precision_ceiling > 0.5


def test_the_shipped_network_tells_pictures_from_spoiled_ones():
    """In its features blurred and noisy house numbers are farther from house numbers than others of these are."""
    train, held_out = house_numbers(400, seed=0), house_numbers(400, seed=1)
    blurred = F.avg_pool2d(held_out.floats(), 5, stride=1, padding=2)
    noisy = held_out.floats() + 0.1 * torch.randn(400, 3, 32, 32)
    models = [Game(Deterministic(Fixed(lambda z, x=x: x[: len(z)])), 2) for x in (held_out.floats(), blurred, noisy)]
    network = feature_network()
    same, soft, rough = (fidelity(in_features(model, train, held_out, network, n=250)) for model in models)
    assert same.frechet < 3 * same.frechet_floor
    assert soft.frechet > 2 * same.frechet and rough.frechet > 2 * same.frechet
    assert max(soft.precision, rough.precision) < same.precision
