"""Parts of networks that recorded losses (test_recipes.py) and games by hand (test_models.py) do not pin down."""

import pytest
import torch
from games import assert_same
from torch import nn

from alikit.networks import Deterministic, Discriminator, Frozen, Gaussian, NoiseInput, mlp


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
