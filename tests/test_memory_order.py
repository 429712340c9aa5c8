"""Weights, gradients and moments in any memory order train as they do in the usual one.

Fused Adam walks through all of them in memory order, and would move other weights where two of these orders differ.
"""

import io

import pytest
import torch
from torch import Tensor, nn

from alikit import Config, Trainer, distributed
from alikit.data import Dataset
from alikit.models import ALI
from alikit.networks import Deterministic, Discriminator, mlp

Z, N = 2, 8
PICTURES = torch.randint(256, (N, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ORDERS = {
    "contiguous": Tensor.contiguous,
    "channels last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "every other number": lambda t: torch.stack([t, t], -1)[..., 0],  # of a larger tensor
}
DENSE = [*ORDERS][:3]


class Pictures(ALI):
    """Convolutions, and R1's second derivatives; its only noise is the same in single and double precision."""

    def __init__(self):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Conv2d(1, 6, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(24, Z))
        decoder = nn.Sequential(nn.Linear(Z, 24), nn.Unflatten(1, (6, 2, 2)), nn.ConvTranspose2d(6, 1, 3), nn.Sigmoid())
        tower = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Tanh())
        judged = Discriminator([tower, nn.Identity()], mlp([24 + Z, 8, 1]))
        super().__init__(Deterministic(encoder), Deterministic(decoder), judged, Z)
        self.r1 = 0.5

    def prior(self, n: int) -> Tensor:
        return torch.linspace(-2, 2, n * Z).view(n, Z).to(next(self.parameters()).dtype)


def reorder(tensors, order: str) -> None:
    for tensor in tensors:
        if tensor.ndim > 1:
            tensor.data = ORDERS[order](tensor.data)


@pytest.fixture(scope="module")
def expected() -> list[Tensor]:
    """The weights after 6 steps, by an Adam that is not fused, in float64 and contiguous."""
    model, x = Pictures().double(), PICTURES.double() / 255
    adams = {player: torch.optim.Adam(own, 0.01, (0.5, 0.999)) for player, own in model.players().items()}
    for _ in range(6):
        losses = model.losses(x)
        for player, own in model.players().items():
            for p, gradient in zip(own, torch.autograd.grad(losses[player], own, retain_graph=True), strict=True):
                p.grad = gradient.contiguous()
        for adam in adams.values():
            adam.step()
    return [p.detach().float() for p in model.parameters()]


@pytest.mark.parametrize("moments", DENSE)
@pytest.mark.parametrize("gradients", ORDERS)
@pytest.mark.parametrize("weights", ORDERS)
def test_a_run_that_is_resumed_trains_the_same_weights_in_any_order(weights, gradients, moments, expected):
    """The state goes through a file, in which the moments of the first 3 steps lie in another order."""
    first, second = ours(weights, gradients), ours(weights, gradients)
    first.run(3)
    state, file = first.state(), io.BytesIO()
    for own in state["optimiser"]["state"].values():
        reorder([own["exp_avg"], own["exp_avg_sq"]], moments)
    torch.save(state, file)
    file.seek(0)
    second.resume(torch.load(file, weights_only=True))
    second.run(6)
    torch.testing.assert_close([p.detach() for p in second.model.parameters()], expected, atol=1e-4, rtol=0)


def ours(weights: str, gradients: str) -> Trainer:
    model = Pictures()
    reorder(model.parameters(), weights)
    trainer = Trainer(model, Dataset("pictures", PICTURES), Config(batch_size=N, lr=0.01, r1=0.5))
    if weights in DENSE:  # which the trainer has put in an order of its own
        reorder(model.parameters(), weights)
    for p in model.parameters():
        p.register_hook(lambda g: ORDERS[gradients](g) if g.ndim > 1 else g)
    return trainer


@pytest.mark.parametrize("order", ORDERS)
def test_processes_average_gradients_of_any_order(order, monkeypatch):
    """Two that have the same."""
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "_sum_over_all", lambda flat: 2 * flat)
    gradient, loss = torch.randn(3, 4, 5, 6), torch.tensor(0.5)
    found = distributed.average({"player": loss}, {"player": (ORDERS[order](gradient), loss)})
    torch.testing.assert_close(found, ({"player": loss}, {"player": (gradient, loss)}), rtol=0, atol=0)
