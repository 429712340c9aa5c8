"""Layers against numpy and PyTorch's functions; conditionals against the moments they promise."""

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
    Thin,
    conv_stack,
    initialise,
    mlp,
)


class Constant(nn.Module):
    """Emits the same numbers for every example."""

    def __init__(self, *numbers: float):
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))

    def forward(self, v):
        return self.numbers.expand(len(v), -1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 3, 2)])
def test_maxout(shape):
    features = torch.randn(shape)
    expected = features.numpy().reshape(7, 3, 2, *shape[2:]).max(1)
    np.testing.assert_array_equal(Maxout(3)(features).numpy(), expected)


@pytest.mark.parametrize("shape", [(4, 6), (2, 6, 2, 2)])
def test_maxout_gradients(shape):
    """First and second, against finite differences; and the first, to the last bit, against the library's maximum."""
    features = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(Maxout(3), features)
    assert torch.autograd.gradgradcheck(Maxout(3), features)
    ours, library = Maxout(3)(features), features.unflatten(1, (3, 2)).max(1).values
    weights = torch.randn_like(ours)
    assert torch.equal(*(torch.autograd.grad(largest, features, weights)[0] for largest in (ours, library)))


def test_maxout_in_channels_last():
    features = torch.randn(2, 6, 3, 4, requires_grad=True)
    last = features.detach().to(memory_format=torch.channels_last).requires_grad_()
    for v in (features, last):
        Maxout(3)(v).square().sum().backward()
    assert torch.equal(Maxout(3)(features), Maxout(3)(last)) and torch.equal(features.grad, last.grad)


def test_mlp_is_what_it_says():
    first, _, last = net = mlp([3, 5, 2])
    x = torch.randn(4, 3)
    torch.testing.assert_close(net(x), (x @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias)


def test_maxout_mlp_is_what_it_says():
    first, _, last = net = mlp([3, 5, 2], pieces=4)
    x = torch.randn(6, 3)
    hidden = (x @ first.weight.T + first.bias).detach().numpy().reshape(6, 4, 5).max(1)
    torch.testing.assert_close(net(x), torch.from_numpy(hidden) @ last.weight.T + last.bias)


@pytest.mark.parametrize("bias", [True, False])
def test_thin_is_the_librarys_linear_layer(bias):
    thin, library = Thin(3, 50, bias=bias), nn.Linear(3, 50, bias=bias)
    library.load_state_dict(thin.state_dict())
    v, towards = torch.randn(20, 3, requires_grad=True), torch.randn(20, 50)
    torch.testing.assert_close(thin(v), library(v))
    found, expected = (torch.autograd.grad(f(v), [v, *f.parameters()], towards) for f in (thin, library))
    torch.testing.assert_close(found, expected)


def test_batch_norm_moves_by_a_twentieth():
    linear, norm, *_ = net = mlp([3, 5, 2], batch_norm=True)
    x = torch.randn(50, 3) + 4
    net(x)
    torch.testing.assert_close(norm.running_mean, 0.05 * linear(x).mean(0))
    torch.testing.assert_close(norm.running_var, 0.95 + 0.05 * linear(x).var(0))


def test_batch_norm_takes_the_place_of_the_bias():
    linear, *_, last = mlp([3, 5, 2], batch_norm=True)
    assert linear.bias is None and last.bias is not None


def test_dropout_on_the_input():
    net = mlp([1000, 1], dropout=0.2)
    nn.init.ones_(net[-1].weight), nn.init.zeros_(net[-1].bias)
    x = torch.ones(200, 1000)
    kept = net(x) / 1000 * 0.8  # dropout scales what is left by 1 / 0.8
    assert kept.mean().item() == pytest.approx(0.8, abs=0.005) and kept.std() > 0
    assert (net.eval()(x) == 1000).all()


def test_conv_row():
    x, (conv, _) = torch.randn(2, 3, 9, 9), (net := conv_stack((Conv(4, 2, 5, batch_norm=False),), 3, slope=0.1))
    features = F.conv2d(x, conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(net(x), torch.where(features > 0, features, 0.1 * features))
    assert net(x).shape == (2, 5, 3, 3)


def test_transposed_row():
    x, (conv,) = (
        torch.randn(2, 3, 4, 4),
        (net := conv_stack((Conv(3, 2, 5, up=True, batch_norm=False, activation="linear"),), 3, slope=0.1)),
    )
    torch.testing.assert_close(net(x), F.conv_transpose2d(x, conv.weight, conv.bias, stride=2))
    assert net(x).shape == (2, 5, 9, 9)


def test_maxout_row_has_two_pieces_a_map():
    net = conv_stack((Conv(3, 1, 5, activation="maxout"), Conv(1, 1, 2)), 3, slope=0.1)
    assert net[0].out_channels == 10 and net(torch.randn(2, 3, 4, 4)).shape == (2, 2, 2, 2)


def test_conv_batch_norm_moves_by_a_twentieth():
    conv, norm, _ = net = conv_stack((Conv(3, 1, 5),), 3, slope=0.1)
    x = torch.randn(6, 3, 4, 4) + 2
    net(x)
    torch.testing.assert_close(norm.running_mean, 0.05 * conv(x).mean((0, 2, 3)))
    assert conv.bias is None


def test_untrained_pixels_are_the_mean_picture():
    mean = torch.rand(3, 4, 4) * 0.98 + 0.01
    torch.testing.assert_close(Pixels((3, 4, 4), mean)(torch.zeros(2, 3, 4, 4))[1], mean)


def test_pixels_that_are_always_black_or_white_can_still_change():
    bias = Pixels((1, 1, 2), torch.tensor([[[0.0, 1.0]]])).bias
    assert bias.isfinite().all() and bias.abs().max() < 6


def test_pixels_without_a_mean_are_grey():
    assert (Pixels((1, 2, 2))(torch.zeros(3, 1, 2, 2)) == 0.5).all()


def test_initialise():
    net = nn.Sequential(nn.Linear(200, 200), nn.BatchNorm1d(200), nn.Conv2d(20, 50, 3), nn.ConvTranspose2d(20, 50, 3))
    assert initialise(net, std=0.02) is net
    linear, norm, *convs = net
    for layer in (linear, *convs):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (layer.bias == 0).all()
    assert (norm.weight == 1).all()


def test_gaussian_draws():
    draws = Gaussian(Constant(1.0, -2.0, log(0.5), log(3.0)))(torch.zeros(100_000, 1))
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, -2.0]), atol=0.04, rtol=0)
    torch.testing.assert_close(draws.T.cov(), torch.diag(torch.tensor([0.25, 9.0])), atol=0.15, rtol=0)


def test_gaussian_of_pictures():
    x_tilde = Gaussian(nn.Conv2d(2, 6, 1))(torch.randn(4, 2, 5, 5))
    assert x_tilde.shape == (4, 3, 5, 5)


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
    torch.testing.assert_close(conditional.mean(v)[0], net.weight[:, 0] * 0.4 + net.bias)


@pytest.mark.parametrize("conditional", [Gaussian(nn.Linear(3, 4)), NoiseInput(nn.Linear(5, 2), 2)])
def test_stochastic_conditionals_draw_anew(conditional):
    v = torch.randn(4, 3)
    assert not torch.equal(conditional(v), conditional(v))
    assert torch.equal(conditional.mean(v), conditional.mean(v))


def test_gaussian_mean_is_mu():
    net, v = nn.Linear(3, 4), torch.randn(5, 3)
    assert torch.equal(Gaussian(net).mean(v), net(v)[:, :2])


def test_deterministic_draw_is_its_mean():
    net, v = nn.Linear(3, 4), torch.randn(5, 3)
    assert torch.equal(Deterministic(net)(v), net(v)) and torch.equal(Deterministic(net).mean(v), net(v))


def test_frozen_stays_in_evaluation():
    frozen = Frozen(Gaussian(mlp([3, 5, 4], batch_norm=True))).train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    v = torch.randn(6, 3)
    assert torch.equal(frozen.mean(v), frozen.conditional.net(v)[:, :2])


def test_frozen_lets_gradients_through_to_its_input():
    v = torch.randn(6, 3, requires_grad=True)
    Frozen(Deterministic(nn.Linear(3, 2)))(v).sum().backward()
    assert v.grad.abs().min() > 0


def test_discriminator_joins_the_pair():
    joint = nn.Sequential(nn.Linear(2 * 2 * 2 + 3, 1))
    x, z = torch.randn(5, 2, 2, 2), torch.randn(5, 3)
    logits = Discriminator([nn.Identity(), nn.Identity()], joint)(x, z)
    torch.testing.assert_close(logits, joint(torch.cat([x.reshape(5, 8), z], 1))[:, 0])


def test_discriminator_uses_each_tower_for_its_member():
    x_tower, z_tower, joint = nn.Linear(4, 2), nn.Linear(3, 2), nn.Sequential(nn.Linear(4, 1))
    x, z = torch.randn(5, 4), torch.randn(5, 3)
    expected = joint(torch.cat([x_tower(x), z_tower(z)], 1))[:, 0]
    torch.testing.assert_close(Discriminator([x_tower, z_tower], joint)(x, z), expected)


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
def test_a_member_in_parts_is_as_good_as_whole(tower, calls):
    """Parts go apart up to the first layer that mixes examples, where there is one."""
    discriminator = Discriminator([tower, nn.Identity()], nn.Sequential(nn.Linear(7, 2), nn.ReLU(), nn.Linear(2, 1)))
    x, z, seen = torch.randn(5, 4), torch.randn(5, 3), []
    expected = discriminator(x, z)
    first = tower[0] if isinstance(tower, nn.Sequential) else tower
    first.register_forward_hook(lambda layer, inputs, y: seen.append(len(y)))
    torch.testing.assert_close(discriminator(x.split((2, 3)), z.split((1, 4))), expected)
    assert seen == calls


def test_discriminator_refuses_half_a_pair():
    with pytest.raises(ValueError):
        Discriminator([nn.Identity(), nn.Identity()], nn.Linear(4, 1))(torch.randn(5, 4))
