"""What the drawn data sets share: chunks, random factors, colours, light and noise."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...errors import AlikitError

CHUNK = 256  # pictures drawn at once: few enough that one chunk's tensors stay in a processor's cache
Factors = dict[str, Tensor]


def draw(n: int, seed: int, chunk: Callable[[Generator], tuple[Tensor, Factors]]) -> tuple[Tensor, Factors]:
    """n pictures (n, 3, S, S) uint8 and their factors; the first k are the same for every n >= k.

    `chunk` draws CHUNK pictures from a generator. Torch's global generator is not used.
    """
    if n < 1 or seed < 0:
        raise AlikitError(f"cannot draw {n} pictures from seed {seed}: choose at least 1, and a seed of at least 0")
    x, chunks = None, []
    for start in range(0, n, CHUNK):
        # The last chunk is drawn whole and then cut: a shorter draw would give other numbers.
        state = np.random.SeedSequence((seed, start // CHUNK)).generate_state(1)
        pictures, factors = chunk(Generator().manual_seed(int(state[0])))
        x = torch.empty(n, *pictures.shape[1:], dtype=torch.uint8) if x is None else x
        x[start : start + CHUNK] = pictures[: n - start]
        chunks.append(factors)
    return x, {name: torch.cat([factors[name] for factors in chunks])[:n] for name in chunks[0]}


def spread(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform random numbers (CHUNK, *shape) float32 in [low, high)."""
    return low + (high - low) * torch.rand(CHUNK, *shape, generator=generator)


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Colours (B, 3) of hue, in sixths of the colour circle, saturation and value, (B, 1) each."""
    away = (hue + torch.tensor([0, 4, 2])) % 6 - 3
    return value * (1 - saturation * (2 - away.abs()).clamp(0, 1))


def photograph(picture: Tensor, generator: Generator, light: float = 0.2, noise: float = 0.02) -> Tensor:
    """Pictures (CHUNK, 3, S, S) in [0, 1] under uneven light and with a sensor's noise, as uint8."""
    corners = 1 + light * (2 * torch.rand(CHUNK, 1, 2, 2, generator=generator) - 1)
    lit = picture * F.interpolate(corners, picture.shape[2:], mode="bilinear", align_corners=True)
    speckle = noise * torch.randn(picture.shape, generator=generator)
    return speckle.add_(lit).mul_(255).round_().clamp_(0, 255).to(torch.uint8)
