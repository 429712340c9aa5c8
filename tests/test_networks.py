"""Parts of networks that recorded losses (test_recipes.py) and games by hand (test_models.py) do not pin down."""

from dataclasses import replace

import pytest
import torch
from games import assert_same
from torch import nn
from torch.nn.functional import conv2d, interpolate

from alikit.architectures import MODERN, MODERN_28, MODERN_64
from alikit.networks import (
    Conv,
    Deterministic,
    Discriminator,
    Frozen,
    Gaussian,
    NoiseInput,
    ResizeConv2d,
    conv_stack,
    mlp,
)


def test_means_and_frozen_conditionals():
    """A frozen one stays in evaluation mode without gradients of its own, and lets gradients through to its input."""
    v, net = torch.randn(5, 3, requires_grad=True), mlp([3, 5, 4], batch_norm=True).eval()
    assert_same(Gaussian(net).mean(v), net(v)[:, :2])
    assert Gaussian(nn.Conv2d(2, 6, 1))(torch.randn(4, 2, 5, 5)).shape == (4, 3, 5, 5)
    assert_same(NoiseInput(net, noise=2).mean(v[:, :1]), net(v * torch.tensor([1.0, 0.0, 0.0])))
    assert_same((Deterministic(net)(v), Deterministic(net).mean(v)), (net(v), net(v)))
    frozen = Frozen(Gaussian(net.train())).train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert_same(frozen.mean(v), net(v)[:, :2])
    frozen(v).sum().backward()
    assert v.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("tower", "calls"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)), nn.Tanh()), [2, 3]),
        (nn.Sequential(nn.Linear(4, 4), Deterministic(nn.BatchNorm1d(4)), nn.Tanh(), nn.BatchNorm1d(4)), [2, 3]),
        (nn.BatchNorm1d(4), [5]),
        (nn.Sequential(nn.Linear(4, 4), nn.Tanh()), [5]),
    ],
)
def test_a_member_in_two_halves_is_as_good_as_whole(tower, calls):
    """D joins what each tower makes of its member. The halves go apart up to the first layer that mixes examples, where
    there is one; gradients are the same."""
    net = Discriminator([tower, nn.Identity()], nn.Sequential(nn.Linear(7, 2), nn.ReLU(), nn.Linear(2, 1)))
    x, z, seen = torch.randn(5, 4), torch.randn(5, 3), []
    expected = net.joint(torch.cat([tower(x), z], 1))[:, 0]
    torch.testing.assert_close((net(x, z), net.head(net.features(x, z))), (expected, expected))
    with pytest.raises(ValueError):
        net(x)
    wanted = torch.autograd.grad(expected.sum(), [*net.parameters()])
    next(tower.children(), tower).register_forward_hook(lambda layer, inputs, y: seen.append(len(y)))
    found = net(x.split((2, 3)), z.split((2, 3)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), [*net.parameters()]), wanted, atol=1e-5, rtol=1e-4)
    assert seen == calls


def test_he_weights_beside_batch_norm():
    with_norm = replace(MODERN, of_x=tuple(replace(row, batch_norm=True) for row in MODERN.of_x))
    layer = with_norm.build_discriminator((3, 32, 32), 8).towers[0][0]
    assert layer.bias is None and layer.weight.std().item() == pytest.approx((2 / 1.01 / 48) ** 0.5, rel=0.1)


@pytest.mark.parametrize("bias", [True, False])
def test_a_resized_convolution_is_upsampling_and_a_convolution(bias):
    layer, features = ResizeConv2d(3, 5, bias).double(), torch.randn(2, 3, 4, 6, requires_grad=True).double()
    expected = conv2d(interpolate(features, scale_factor=2), layer.weight, layer.bias, padding=1)
    found = layer(features)
    torch.testing.assert_close(found, expected)
    inputs = [features, *layer.parameters()]
    slopes = (torch.autograd.grad(v.square().sum(), inputs) for v in (found, expected))
    torch.testing.assert_close(*slopes)


def test_even_features_give_an_even_picture():
    """A transposed convolution of an odd kernel leaves a checkerboard, a resized one does not; away from the border."""

    def unevenness(row):
        with torch.no_grad():
            picture = conv_stack((row,), 8, 0.1)(torch.ones(1, 8, 8, 8))[..., 3:-3, 3:-3]
        return picture.std((2, 3)).max().item()

    assert unevenness(Conv(3, 2, 4, resize=True, batch_norm=False, activation="linear")) < 1e-6
    assert unevenness(Conv(3, 2, 4, up=True, batch_norm=False, activation="linear")) > 0.01


def test_padded_and_residual_rows():
    x = torch.randn(2, 3, 8, 8)
    padded, again = (
        Conv(4, 2, 5, padding=1, batch_norm=False),
        Conv(3, 1, 5, padding=1, residual=True, batch_norm=False),
    )
    stack = conv_stack((padded, again), 3, 0.1)
    expected = stack[1](conv2d(x, stack[0].weight, stack[0].bias, 2, padding=1))
    torch.testing.assert_close(stack(x), expected + stack[2][1](stack[2][0](expected)))
    assert (padded.side(8), again.side(4), Conv(3, 2, 5, resize=True).side(4)) == (4, 4, 8)


@pytest.mark.parametrize(("networks", "sides"), [(MODERN, (16, 24, 40)), (MODERN_64, (32, 48)), (MODERN_28, (20, 32))])
def test_modern_networks_take_every_size_that_halves_without_a_rest(networks, sides):
    for side in (networks.size, *sides):
        assert networks.takes(side)
        shape, x, z = (1, side, side), torch.rand(2, 1, side, side), torch.randn(2, 6)
        decoder = networks.build_decoder(shape, 6, None)
        assert networks.build_encoder("gaussian", shape, 6)(x).shape == (2, 12)
        assert decoder(z).shape == x.shape
        assert networks.build_discriminator(shape, 6)(decoder(z), z).shape == (2,)
    assert not networks.takes(networks.size + 1) and not networks.takes(networks.size + 2)
