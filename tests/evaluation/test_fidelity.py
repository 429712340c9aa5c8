"""Reconstruction errors of models whose errors are known."""

from math import log

import pytest
import torch
from torch import nn

from alikit.data import Dataset
from alikit.evaluation import reconstruction
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
