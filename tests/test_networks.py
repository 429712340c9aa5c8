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


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 3, 2)])
def test_maxout(shape):
    features = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert_same(Maxout(3)(features), features.reshape(7, 3, 2, *shape[2:]).max(1).values)
    assert torch.autograd.gradcheck(Maxout(3), features) and torch.autograd.gradgradcheck(Maxout(3), features)


def test_stacks_are_what_they_say():
    x = torch.randn(50, 3) + 4
    first, norm, _, last = net = mlp([3, 5, 2], batch_norm=True)
    hidden = F.batch_norm(x @ first.weight.T, None, None, training=True).relu()
    torch.testing.assert_close(net(x), hidden @ last.weight.T + last.bias)
    torch.testing.assert_close(norm.running_mean, 0.05 * first(x).mean(0))  # moves by a twentieth
    assert first.bias is None
    drop, first, _, _, last = net = mlp([3, 5, 2], pieces=4, dropout=0.2)
    hidden = (x @ first.weight.T + first.bias).view(50, 4, 5).amax(1)
    torch.testing.assert_close(net.eval()(x), hidden @ last.weight.T + last.bias)
    assert drop.p == 0.2
    x = torch.randn(2, 3, 9, 9)
    conv, norm, _ = net = conv_stack((Conv(4, 2, 5),), 3, slope=0.1)
    hidden = F.batch_norm(F.conv2d(x, conv.weight, stride=2), None, None, training=True)
    torch.testing.assert_close(net(x), F.leaky_relu(hidden, 0.1))
    torch.testing.assert_close(norm.running_mean, 0.05 * conv(x).mean((0, 2, 3)))
    (conv,) = net = conv_stack((Conv(3, 2, None, up=True, batch_norm=False, activation="linear"),), 3, 0.1, outputs=5)
    torch.testing.assert_close(net(x), F.conv_transpose2d(x, conv.weight, conv.bias, stride=2))
    net = conv_stack((Conv(3, 1, 5, activation="maxout", dropout=0.2), Conv(1, 1, 2)), 3, slope=0.1)
    assert net[1].out_channels == 10 and net(x).shape == (2, 2, 7, 7) and net[0].p == 0.2, "two pieces a map"
    assert initialise(net, 0.02) is net and abs(net[1].weight.std() - 0.02) < 0.003 and (net[2].weight == 1).all()


def test_pixels():
    mean = torch.rand(3, 4, 4) * 0.98 + 0.01
    torch.testing.assert_close(Pixels((3, 4, 4), mean)(torch.zeros(2, 3, 4, 4))[1], mean)
    assert (Pixels((1, 2, 2))(torch.zeros(3, 1, 2, 2)) == 0.5).all()
    bias = Pixels((1, 1, 2), torch.tensor([[[0.0, 1.0]]])).bias
    assert bias.isfinite().all() and bias.abs().max() < 6, "black and white can still change"


# Conditionals.


class Constant(nn.Module):
    """Emits the same numbers for every example."""

    def __init__(self, *numbers: float):
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))

    def forward(self, v):
        return self.numbers.expand(len(v), -1)


def test_a_gaussian_draws_what_it_says_and_its_gradient_is_reparametrised():
    """E z^2 = mu^2 + sigma^2, so its gradient is 2 mu by mu and 2 sigma^2 by log sigma."""
    net = Constant(1.0, -2.0, log(0.5), log(3.0))
    draws = Gaussian(net)(torch.zeros(200_000, 1))
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, -2.0]), atol=0.04, rtol=0)
    torch.testing.assert_close(draws.T.cov(), torch.diag(torch.tensor([0.25, 9.0])), atol=0.15, rtol=0)
    draws.square().mean(0).sum().backward()
    torch.testing.assert_close(net.numbers.grad, torch.tensor([2.0, -4.0, 0.5, 18.0]), atol=0.15, rtol=0)
    assert Gaussian(nn.Conv2d(2, 6, 1))(torch.randn(4, 2, 5, 5)).shape == (4, 3, 5, 5)


def test_noise_beside_the_input():
    net = nn.Linear(3, 2)  # [v, eps1, eps2] -> z, so that z - mean = W eps
    conditional, v, w = NoiseInput(net, noise=2), torch.full((100_000, 1), 0.4), net.weight[:, 1:]
    mean = net.weight[:, 0] * 0.4 + net.bias
    torch.testing.assert_close(conditional(v).mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(conditional(v).T.cov(), w @ w.T, atol=0.01, rtol=0)
    torch.testing.assert_close(conditional.mean(v)[0], mean)


def test_means_and_frozen_conditionals():
    """A frozen one stays in evaluation mode without gradients of its own, and lets gradients through to its input."""
    v, net = torch.randn(5, 3, requires_grad=True), mlp([3, 5, 4], batch_norm=True).eval()
    assert_same(Gaussian(net).mean(v), net(v)[:, :2])
    assert_same((Deterministic(net)(v), Deterministic(net).mean(v)), (net(v), net(v)))
    frozen = Frozen(Gaussian(net.train())).train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert_same(frozen.mean(v), net(v)[:, :2])
    frozen(v).sum().backward()
    assert v.grad.abs().max() > 0


# The discriminator.


def test_discriminator_joins_what_each_tower_makes_of_its_member():
    x_tower, joint = nn.Linear(2, 3), nn.Sequential(nn.Linear(2 * 2 * 3 + 3, 1))
    x, z = torch.randn(5, 2, 2, 2), torch.randn(5, 3)
    expected, found = (
        joint(torch.cat([x_tower(x).flatten(1), z], 1))[:, 0],
        Discriminator([x_tower, nn.Identity()], joint),
    )
    torch.testing.assert_close((found(x, z), found.head(found.features(x, z))), (expected, expected))
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
    ],
)
def test_a_member_in_two_halves_is_as_good_as_whole(tower, calls):
    """The halves go apart up to the first layer that mixes examples, where there is one; gradients are the same."""
    net = Discriminator([tower, nn.Identity()], nn.Sequential(nn.Linear(7, 2), nn.ReLU(), nn.Linear(2, 1)))
    x, z, seen = torch.randn(5, 4), torch.randn(5, 3), []
    expected = net(x, z)
    wanted = torch.autograd.grad(expected.sum(), [*net.parameters()])
    next(tower.children(), tower).register_forward_hook(lambda layer, inputs, y: seen.append(len(y)))
    found = net(x.split((2, 3)), z.split((2, 3)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), [*net.parameters()]), wanted, atol=1e-5, rtol=1e-4)
    assert seen == calls
