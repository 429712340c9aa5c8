"""Layers against PyTorch's functions, conditionals against the moments they promise, towers alone and together."""

from math import log

import pytest
import torch
import torch.nn.functional as F
from games import assert_same
from torch import nn

from alikit.networks import (
    Conv,
    Deterministic,
    Discriminator,
    Frozen,
    Gaussian,
    Maxout,
    NoiseInput,
    Pixels,
    conv_stack,
    initialise,
    mlp,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Constant(nn.Module):
    """Emits the same numbers for every example."""

    def __init__(self, *numbers: float):
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))

    def forward(self, v):
        return self.numbers.expand(len(v), -1)


# Stacks of layers.


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 3, 2)])
def test_maxout(shape):
    features = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert_same(Maxout(3)(features), features.reshape(7, 3, 2, *shape[2:]).max(1).values)
    assert torch.autograd.gradcheck(Maxout(3), features) and torch.autograd.gradgradcheck(Maxout(3), features)


@pytest.mark.parametrize("pieces", [0, 4])
def test_mlp_is_what_it_says(pieces):
    first, _, last = net = mlp([3, 5, 2], pieces=pieces)
    x = torch.randn(6, 3)
    hidden = x @ first.weight.T + first.bias
    hidden = hidden.reshape(6, 4, 5).amax(1) if pieces else hidden.clamp(min=0)
    torch.testing.assert_close(net(x), hidden @ last.weight.T + last.bias)


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (mlp([3, 5, 2], batch_norm=True), torch.randn(50, 3) + 4),
        (conv_stack((Conv(3, 1, 5),), 3, slope=0.1), torch.randn(6, 3, 4, 4) + 2),
    ],
)
def test_batch_norm_moves_by_a_twentieth_and_takes_the_place_of_the_bias(net, x):
    linear, norm, *_ = net
    net(x)
    features = linear(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, 0.05 * features.mean(1))
    torch.testing.assert_close(norm.running_var, 0.95 + 0.05 * features.var(1))
    assert linear.bias is None


def test_dropout_on_the_input():
    net = mlp([1000, 1], dropout=0.2)
    nn.init.ones_(net[-1].weight), nn.init.zeros_(net[-1].bias)
    x = torch.ones(200, 1000)
    kept = net(x) / 1000 * 0.8  # dropout scales what is left by 1 / 0.8
    assert kept.mean().item() == pytest.approx(0.8, abs=0.005) and kept.std() > 0
    assert (net.eval()(x) == 1000).all()


def test_rows_of_a_table():
    x = torch.randn(2, 3, 9, 9)
    conv, _ = net = conv_stack((Conv(4, 2, 5, batch_norm=False),), 3, slope=0.1)
    torch.testing.assert_close(net(x), F.leaky_relu(F.conv2d(x, conv.weight, conv.bias, stride=2), 0.1))
    (conv,) = net = conv_stack((Conv(3, 2, None, up=True, batch_norm=False, activation="linear"),), 3, 0.1, outputs=5)
    torch.testing.assert_close(net(x), F.conv_transpose2d(x, conv.weight, conv.bias, stride=2))
    assert net(x).shape == (2, 5, 19, 19) and Conv(3, 2, 5, up=True).side(9) == 19
    net = conv_stack((Conv(3, 1, 5, activation="maxout"), Conv(1, 1, 2)), 3, slope=0.1)
    assert net[0].out_channels == 10 and net(x).shape == (2, 2, 7, 7), "two pieces a map"


def test_pixels():
    mean = torch.rand(3, 4, 4) * 0.98 + 0.01
    torch.testing.assert_close(Pixels((3, 4, 4), mean)(torch.zeros(2, 3, 4, 4))[1], mean)
    assert (Pixels((1, 2, 2))(torch.zeros(3, 1, 2, 2)) == 0.5).all()
    bias = Pixels((1, 1, 2), torch.tensor([[[0.0, 1.0]]])).bias
    assert bias.isfinite().all() and bias.abs().max() < 6, "black and white can still change"


def test_initialise():
    net = nn.Sequential(nn.Linear(200, 200), nn.BatchNorm1d(200), nn.Conv2d(20, 50, 3), nn.ConvTranspose2d(20, 50, 3))
    assert initialise(net, std=0.02) is net
    linear, norm, *convs = net
    for layer in (linear, *convs):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05) and (layer.bias == 0).all()
    assert (norm.weight == 1).all()


# Conditionals.


def test_gaussian_draws():
    draws = Gaussian(Constant(1.0, -2.0, log(0.5), log(3.0)))(torch.zeros(100_000, 1))
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, -2.0]), atol=0.04, rtol=0)
    torch.testing.assert_close(draws.T.cov(), torch.diag(torch.tensor([0.25, 9.0])), atol=0.15, rtol=0)
    assert Gaussian(nn.Conv2d(2, 6, 1))(torch.randn(4, 2, 5, 5)).shape == (4, 3, 5, 5)


def test_gaussian_gradient_is_reparametrised():
    """E z^2 = mu^2 + sigma^2, so its gradient is 2 mu by mu and 2 sigma^2 by log sigma."""
    net = Constant(1.5, log(0.7))
    Gaussian(net)(torch.zeros(200_000, 1)).square().mean().backward()
    torch.testing.assert_close(net.numbers.grad, torch.tensor([3.0, 2 * 0.49]), atol=0.03, rtol=0)


def test_noise_input_draws():
    net = nn.Linear(3, 2)  # [v, eps1, eps2] -> z, so that z - mean = W eps
    conditional, v = NoiseInput(net, noise=2), torch.full((100_000, 1), 0.4)
    draws, w = conditional(v), net.weight[:, 1:]
    torch.testing.assert_close(draws.mean(0), net.weight[:, 0] * 0.4 + net.bias, atol=0.01, rtol=0)
    torch.testing.assert_close(draws.T.cov(), w @ w.T, atol=0.01, rtol=0)


def test_means():
    v, net = torch.randn(5, 3), nn.Linear(3, 4)
    assert torch.equal(Gaussian(net).mean(v), net(v)[:, :2])
    assert torch.equal(Deterministic(net)(v), net(v)) and torch.equal(Deterministic(net).mean(v), net(v))
    wide = nn.Linear(5, 2)
    assert torch.equal(NoiseInput(wide, 2).mean(v), wide(torch.cat([v, torch.zeros(5, 2)], 1)))
    for conditional in (Gaussian(net), NoiseInput(wide, 2)):
        assert not torch.equal(conditional(v), conditional(v))


def test_frozen():
    """It stays in evaluation mode and without gradients of its own, and lets gradients through to its input."""
    frozen = Frozen(Gaussian(mlp([3, 5, 4], batch_norm=True))).train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    v = torch.randn(6, 3, requires_grad=True)
    assert torch.equal(frozen.mean(v), frozen.conditional.net(v)[:, :2])
    frozen(v).sum().backward()
    assert v.grad.abs().max() > 0


# The discriminator.


def test_discriminator_joins_what_each_tower_makes_of_its_member():
    x_tower, joint = nn.Linear(2, 3), nn.Sequential(nn.Linear(2 * 2 * 3 + 3, 1))
    x, z = torch.randn(5, 2, 2, 2), torch.randn(5, 3)
    expected = joint(torch.cat([x_tower(x).flatten(1), z], 1))[:, 0]
    found = Discriminator([x_tower, nn.Identity()], joint)
    torch.testing.assert_close(found(x, z), expected)
    torch.testing.assert_close(found.head(found.features(x, z)), expected)
    with pytest.raises(ValueError):
        found(x)


class Block(nn.Module):
    """A tower that is no stack."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, v):
        return v + self.norm(v)


@pytest.mark.parametrize(
    ("tower", "calls"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)), nn.Tanh()), [2, 3]),
        (nn.Sequential(nn.Linear(4, 4), Block(), nn.Tanh(), nn.BatchNorm1d(4)), [2, 3]),
        (nn.BatchNorm1d(4), [5]),
        (nn.Sequential(nn.Linear(4, 4), nn.Tanh()), [5]),
        (nn.Linear(4, 4), [5]),
    ],
)
def test_a_member_in_two_halves_is_as_good_as_whole(tower, calls):
    """The halves go apart up to the first layer that mixes examples, where there is one; gradients are the same."""
    net = Discriminator([tower, nn.Identity()], nn.Sequential(nn.Linear(7, 2), nn.ReLU(), nn.Linear(2, 1)))
    x, z, seen = torch.randn(5, 4), torch.randn(5, 3), []
    first = tower[0] if isinstance(tower, nn.Sequential) else tower
    expected = net(x, z)
    wanted = torch.autograd.grad(expected.sum(), [*net.parameters()])
    first.register_forward_hook(lambda layer, inputs, y: seen.append(len(y)))
    found = net(x.split((2, 3)), z.split((2, 3)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), [*net.parameters()]), wanted, atol=1e-5, rtol=1e-4)
    assert seen == calls
