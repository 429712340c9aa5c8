"""What the tests of evaluation share: models that do what is known."""

import torch
from torch import nn

from alikit.data import Dataset
from alikit.models import Game
from alikit.networks import Deterministic


class Fixed(nn.Module):
    """A network that computes f. The number it holds tells on which device it is."""

    def __init__(self, f):
        super().__init__()
        self.f, self.here = f, nn.Parameter(torch.zeros(1))

    def forward(self, v):
        return self.f(v)


def game(decode=torch.clone, encode=torch.clone, z_dim: int = 2) -> Game:
    """A model that decodes and encodes by functions; without an encoder for None."""
    return Game(Deterministic(Fixed(decode)), z_dim, encode and Deterministic(Fixed(encode)))


def noise_pictures(n: int, size: int = 32) -> Dataset:
    """Pictures of grey noise with labels 0 and 1, no two alike."""
    return Dataset(
        "noise", torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8), torch.arange(n) % 2, ("a", "b")
    )
